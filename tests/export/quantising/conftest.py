"""The tiny network, taken in and exported to INT8 once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import reid
from reid.api.results import ExportedFiles
from tests.export.quantising.networks import write_network, write_people
from tests.heard import Heard

CROPS = 16


@dataclass(frozen=True)
class Int8:
    """The file that was taken in, the exported files, the people, and what was said."""

    source: Path
    files: ExportedFiles
    people: Path
    said: tuple[str, ...]

    def file(self, suffix: str) -> Path:
        return next(path for path in self.files.onnx if path.name == f"net.{suffix}.onnx")


@pytest.fixture(scope="session")
def int8_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("int8_people"))


def exported_int8(folder: Path, people: Path, **options: bool) -> Int8:
    source = write_network(folder / "net.onnx", **options)
    adopted = reid.adopt(source, folder / "models", mean="imagenet", channels="RGB")
    heard = Heard()
    with reid.load(adopted.path) as model:
        files = model.export(
            folder / "out",
            fp16=False,
            int8=True,
            calibrate="market1501",
            root=people,
            calibration_crops=CROPS,
            progress=heard,
        )
    return Int8(adopted.path, files, people, tuple(heard.said))


@pytest.fixture(scope="session")
def int8(tmp_path_factory: pytest.TempPathFactory, int8_people: Path) -> Int8:
    return exported_int8(tmp_path_factory.mktemp("int8"), int8_people)


@pytest.fixture(scope="session")
def int8_outlier(tmp_path_factory: pytest.TempPathFactory, int8_people: Path) -> Int8:
    """Of the network with a channel that is much larger than the others."""
    return exported_int8(tmp_path_factory.mktemp("outlier"), int8_people, outlier=True)
