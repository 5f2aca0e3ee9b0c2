"""CUHK03's 767/700 protocol, from its .mat files and from the release in Market's layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from reid.data import inspect_dataset, load_split
from reid.errors import DataError

WriteMat5 = Callable[[Path, Any], Path]
WritePictures = Callable[[Path, Iterable[str]], Path]
CONFIG = "cuhk03_new_protocol_config_labeled.mat"
NAMES = [
    "1_001_1_01.png",
    "1_001_2_06.png",
    "1_002_1_01.png",
    "2_001_1_01.png",
    "2_001_2_06.png",
    "2_001_2_07.png",
]
ARRAYS = {"filelist": NAMES, "train_idx": [1, 2, 3], "query_idx": [4], "gallery_idx": [6, 5]}


@pytest.fixture
def root(write_mat5: WriteMat5, write_pictures: WritePictures, tmp_path: Path) -> Path:
    write_mat5(tmp_path / CONFIG, ARRAYS)
    return write_pictures(tmp_path, [f"images_labeled/{name}" for name in NAMES])


def test_the_protocols_indices_divide_its_list(root: Path) -> None:
    split = load_split("cuhk03_np_labeled", root)
    assert (split.dataset, split.protocol.name) == ("cuhk03_np_labeled", "market")
    assert [record.path.name for record in split.train] == NAMES[:3]
    assert [(record.person_id, record.camera_id) for record in split.query] == [(2001, 0)]
    assert [record.path.name for record in split.gallery] == NAMES[4:]


def test_its_images_come_out_of_the_mat_where_they_have_not_yet(
    write_mat5: WriteMat5, write_cuhk03: Callable[..., Path], tmp_path: Path
) -> None:
    write_mat5(tmp_path / "cuhk03" / CONFIG, ARRAYS)
    people = (((1, 1), (1, 0)), ((1, 2),))
    write_cuhk03(tmp_path / "cuhk03" / "cuhk03_release" / "cuhk-03.mat", people)
    split = load_split("cuhk03_np_labeled", tmp_path)
    assert all(record.path.is_file() for record in (*split.train, *split.query, *split.gallery))


def test_the_release_in_markets_layout_is_read_too(
    write_pictures: WritePictures, tmp_path: Path
) -> None:
    names = [
        "bounding_box_train/0001_c1_1.png",
        "bounding_box_train/0002_c2_5.png",
        "query/0003_c1_1.png",
        "bounding_box_test/0003_c2_6.png",
    ]
    write_pictures(tmp_path / "cuhk03-np" / "detected", names)
    split = load_split("cuhk03_np_detected", tmp_path)
    assert split.dataset == "cuhk03_np_detected"
    assert [len(side) for side in (split.train, split.query, split.gallery)] == [2, 1, 1]


def test_missing_images_are_an_error_to_train_and_a_finding_to_check(root: Path) -> None:
    (root / "images_labeled" / NAMES[0]).unlink()
    with pytest.raises(DataError, match=rf"{CONFIG}: 1 of 6 "):
        load_split("cuhk03_np_labeled", root)
    found = inspect_dataset("cuhk03_np_labeled", root)
    assert found.split.startswith("not possible: ")
    assert "no such image file" in found.unreadable[0]
    assert found.subsets["query"].published_identities == 700


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"filelist": []}, "list of names filelist"),
        ({"query_idx": []}, "train_idx, query_idx or gallery_idx is missing"),
        ({"query_idx": [0]}, r"indices in 1\.\.6 "),
        ({"query_idx": [7]}, r"indices in 1\.\.6 "),
        ({"filelist": ["../1_001_1_01.png", *NAMES[1:]]}, "expected names such as 1_001_1_01"),
        ({"filelist": ["1_001_1_01./x.png", *NAMES[1:]]}, "expected names such as 1_001_1_01"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_one_line(
    root: Path, write_mat5: WriteMat5, changed: dict[str, Any], reason: str
) -> None:
    write_mat5(root / CONFIG, {**ARRAYS, **changed})
    with pytest.raises(DataError, match=reason):
        load_split("cuhk03_np_labeled", root)


def test_a_missing_protocol_file_is_named(root: Path) -> None:
    (root / CONFIG).unlink()
    with pytest.raises(DataError, match=f"{CONFIG} not found"):
        load_split("cuhk03_np_labeled", root)
