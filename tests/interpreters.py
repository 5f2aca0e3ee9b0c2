"""Python interpreters of other environments, for programs whose packages would change this one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def interpreter(variable: str, what: str) -> Path:
    """The interpreter that an environment variable names; the test is skipped without it.

    ``.ci/services`` makes the environments and sets the variables.
    """
    given = os.environ.get(variable)
    if not given:
        pytest.skip(f"needs {what} in an environment of its own: set {variable} to its Python")
    assert Path(given).is_file(), f"{variable} is not an interpreter: {given}"
    return Path(given)
