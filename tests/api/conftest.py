"""One tiny trained run, its exported files, and both kinds of model, open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import reid
from tests.export.conftest import PairRun
from tests.export.conftest import pair_run as pair_run
from tests.made_once import made_once


@pytest.fixture(scope="session")
def api_run(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> reid.Run:
    """MSP-CNN, ten steps of 16x8 images."""
    return made_once(
        tmp_path_factory,
        "api_run",
        lambda folder: reid.train("msp_cnn_synthetic", people, folder, overrides=tiny_overrides),
    )


@pytest.fixture(scope="session")
def api_onnx(api_run: reid.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as one ONNX file."""

    def make(folder: Path) -> Path:
        with api_run.load(device="cpu") as model:
            return model.export(folder, fp16=False).onnx[0]

    return made_once(tmp_path_factory, "api_onnx", make)


@pytest.fixture
def model(api_run: reid.Run) -> Iterator[reid.Model]:
    """The run, open."""
    with reid.load(api_run.folder, device="cpu", threads=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def pair_files(pair_run: PairRun) -> Path:
    """CSN as a run, and in its folder ``out`` the graphs describe, compare and pair."""
    return pair_run.run


@pytest.fixture(scope="session")
def queries(people: Path) -> list[Path]:
    """The query images, in order."""
    return sorted((people / "query").glob("*.jpg"))


@pytest.fixture(scope="session")
def gallery_images(people: Path) -> list[Path]:
    """The gallery's images, in order."""
    return sorted((people / "bounding_box_test").glob("*.jpg"))
