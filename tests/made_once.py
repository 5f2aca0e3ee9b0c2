"""What several processes of one run of the tests share: the first one makes it, others read it."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from reid.locks import locked

PATIENCE_S = 600.0

T = TypeVar("T")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> T:
    """What ``make`` returned for a new folder, made by one process of the run and pickled.

    The files in the folder are read by all of them: a test copies what it changes.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all workers
    folder, result = base / name, base / f"{name}.pickle"
    with locked(base / f"{name}.lock", PATIENCE_S):
        if not result.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            result.write_bytes(pickle.dumps(make(folder)))
    found: T = pickle.loads(result.read_bytes())
    return found
