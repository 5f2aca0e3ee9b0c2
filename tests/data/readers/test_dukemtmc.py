"""DukeMTMC-reID: Market-1501's layout, and a line that it was withdrawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from reid.data import inspect_dataset, load_split
from reid.errors import DataError

Pictures = Callable[[Path, Iterable[str]], Path]
NAMES = [
    "bounding_box_train/0001_c2_f0046182.jpg",
    "bounding_box_train/0002_c8_f0046182.jpg",
    "query/0005_c1_f0046182.jpg",
    "bounding_box_test/0005_c3_f0046182.JPG",
]


@pytest.mark.parametrize("folder", ["", "DukeMTMC-reID", "dukemtmc-reid/DukeMTMC-reID"])
def test_it_is_read_and_said_to_be_withdrawn(
    write_pictures: Pictures, tmp_path: Path, folder: str
) -> None:
    write_pictures(tmp_path / folder, NAMES)
    split = load_split("dukemtmc", tmp_path)
    assert [(r.person_id, r.camera_id) for r in split.train] == [(1, 2), (2, 8)]
    assert [(r.person_id, r.camera_id) for r in split.gallery] == [(5, 3)]
    assert "its authors withdrew this dataset" in split.note
    found = inspect_dataset("dukemtmc", tmp_path)
    assert any("its authors withdrew" in line for line in found.lines())
    assert found.subsets["query"].published_images == 2_228


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected DukeMTMC-reID \(bounding_box_train"):
        load_split("dukemtmc", tmp_path)
