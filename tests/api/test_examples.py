"""The examples in the docstrings of what ``import reid`` offers, run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

import reid

MODULES = (
    "reid.api.describing",
    "reid.api.evaluation",
    "reid.api.features",
    "reid.api.grid",
    "reid.api.listing",
    "reid.api.model",
    "reid.api.reproducing",
    "reid.api.results",
    "reid.api.scoring",
    "reid.api.thresholds",
    "reid.api.training",
    "reid.errors",
    "reid.deploy.api.erasing",
    "reid.deploy.api.evidence",
    "reid.deploy.api.gallery",
    "reid.deploy.api.reindexing",
    "reid.deploy.api.searching",
    "reid.deploy.api.serving",
    "reid.deploy.api.tracking",
    "reid.deploy.api.watching",
    "reid.export.api",
    "reid.progress",
)


@pytest.fixture
def names(
    api_run: reid.Run,
    model: reid.Model,
    people: Path,
    crowd: Path,
    tiny_overrides: tuple[str, ...],
    tmp_path: Path,
) -> dict[str, object]:
    """What examples may use without saying where it comes from."""
    return {
        "cv2": cv2,
        "np": np,
        "reid": reid,
        "people": people,
        "crowd": crowd,
        "folder": tmp_path,
        "run": api_run.folder,
        "model": model,
        "tiny": tiny_overrides,
    }


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of(name: str, names: dict[str, object]) -> None:
    module = importlib.import_module(name)
    failed, tried = run_examples(module, names)
    assert (failed, tried > 0) == (0, True)


def run_examples(module: ModuleType, names: dict[str, object]) -> tuple[int, int]:
    """Failures (printed) and examples of a module's docstrings."""
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder().find(module, extraglobs=names):
        runner.run(test)
    return runner.summarize(verbose=False)


def test_an_example_that_is_wrong_is_seen(names: dict[str, object]) -> None:
    module = ModuleType("planted", ">>> len(reid.recipes())\n-1\n")
    assert run_examples(module, names)[0] == 1


def test_each_public_function_and_class_has_an_example() -> None:
    public = [name for name in reid.__all__ if not name.endswith("Error") and name[0] != "_"]
    without = [
        name
        for name in public
        if name != "errors" and ">>> " not in (getattr(reid, name).__doc__ or "")
    ]
    assert without == []
