"""One tiny trained run, its exported files, and both kinds of model, open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import reid


@pytest.fixture(scope="session")
def api_run(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> reid.Run:
    """MSP-CNN, ten steps of 16x8 images."""
    folder = tmp_path_factory.mktemp("api") / "run"
    return reid.train("msp_cnn_synthetic", people, folder, overrides=tiny_overrides)


@pytest.fixture(scope="session")
def api_onnx(api_run: reid.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as one ONNX file."""
    with api_run.load(device="cpu") as model:
        return model.export(tmp_path_factory.mktemp("exported"), fp16=False).onnx[0]


@pytest.fixture
def model(api_run: reid.Run) -> Iterator[reid.Model]:
    """The run, open."""
    with reid.load(api_run.folder, device="cpu", threads=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def pair_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CSN as a run, and in its folder ``out`` the graphs describe, compare and pair."""
    from reid.model_file.preprocess import Preprocess
    from tests.export.conftest import pair_run_of

    preprocess = Preprocess(80, 40, 80, 40, std=(58.0, 57.0, 58.0))
    return pair_run_of(tmp_path_factory.mktemp("csn"), (3,), preprocess, ("fp32",)).run


@pytest.fixture(scope="session")
def queries(people: Path) -> list[Path]:
    """The query images, in order."""
    return sorted((people / "query").glob("*.jpg"))


@pytest.fixture(scope="session")
def gallery_images(people: Path) -> list[Path]:
    """The gallery's images, in order."""
    return sorted((people / "bounding_box_test").glob("*.jpg"))
