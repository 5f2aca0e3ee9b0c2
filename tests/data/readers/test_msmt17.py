"""MSMT17: two versions, four lists, and whether list_val trains."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reid.data import inspect_dataset, load_split
from reid.errors import DataError

LISTS = {
    "train": [
        "0000/0000_000_01_0303morning_0008_0.jpg 0",
        "0001/0001_000_15_0303noon_0008_1.jpg 1",
    ],
    "val": ["0000/0000_001_02_0303morning_0009_0.jpg 0"],
    "query": ["0000/0000_000_03_0303morning_0008_0.jpg 0"],
    "gallery": ["0000/0000_001_04_0303morning_0008_0.jpg 0", "0001/0001_000_04_a_0008_0.jpg 1"],
}


def _msmt17(home: Path, train: str = "train", test: str = "test", touch: bool = True) -> Path:
    home.mkdir(parents=True)
    for name, lines in LISTS.items():
        (home / f"list_{name}.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            image = home / (train if name in ("train", "val") else test) / line.split()[0]
            image.parent.mkdir(parents=True, exist_ok=True)
            if touch:
                image.touch()
    return home


@pytest.mark.parametrize(
    ("name", "folder", "train", "test"),
    [
        ("msmt17", "MSMT17_V1", "train", "test"),
        ("msmt17_v2", "MSMT17_V2", "mask_train_v2", "mask_test_v2"),
        ("msmt17_v2", "msmt17/MSMT17_V2", "mask_train_v2", "mask_test_v2"),
    ],
)
def test_both_versions_are_found_and_read(
    tmp_path: Path, name: str, folder: str, train: str, test: str
) -> None:
    home = _msmt17(tmp_path / folder, train, test)
    split = load_split(name, tmp_path)
    assert (split.dataset, split.protocol.name) == (name, "market")
    assert [(r.person_id, r.camera_id) for r in split.train] == [(1, 1), (2, 15)]
    assert [(r.person_id, r.camera_id) for r in split.query] == [(10_001, 3)]
    assert [(r.person_id, r.camera_id) for r in split.gallery] == [(10_001, 4), (10_002, 4)]
    assert split.query[0].path == home / test / LISTS["query"][0].split()[0]


@pytest.mark.parametrize(
    ("validation", "images", "words"),
    [("auto", 2, "without"), ("apart", 2, "without"), ("train", 3, "with")],
)
def test_list_val_trains_where_it_is_asked_to(
    tmp_path: Path, validation: str, images: int, words: str
) -> None:
    split = load_split("msmt17", _msmt17(tmp_path / "x"), validation=validation)
    assert len(split.train) == images
    assert split.note.endswith(f" {words} list_val.txt")


def test_a_check_counts_both_lists_of_training_images(tmp_path: Path) -> None:
    found = inspect_dataset("msmt17", _msmt17(tmp_path / "x"))
    assert found.subsets["train"].images == 3
    assert found.subsets["train"].published_images == 32_621
    assert found.notes == ("train: 2 from list_train.txt and 1 from list_val.txt",)
    assert "unreadable files: 6" in found.lines()


def test_a_list_that_names_missing_images_is_one_line(tmp_path: Path) -> None:
    home = _msmt17(tmp_path / "x", touch=False)
    with pytest.raises(DataError, match=r"list_train\.txt: 2 of 2 "):
        load_split("msmt17", home)


@pytest.mark.parametrize(
    "line",
    [
        "0000/0000_000_01_a.jpg",
        "0000_nothing.jpg 0",
        "0000/0000_000_01_a.jpg -1",
        "../0000_000_01_a.jpg 0",
        "/etc/0000_000_01_a.jpg 0",
        "0000/0000_000_01_a.jpg 12345678901234567890",
        "0000/0000_000_x_a.jpg 3",
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    home = _msmt17(tmp_path / "x")
    (home / "list_query.txt").write_text(f"{LISTS['query'][0]}\n{line}\n")
    with pytest.raises(DataError, match=r"list_query\.txt, line 2: expected 'folder/0000_000_01"):
        load_split("msmt17", home)


def test_one_image_of_two_people_is_refused(tmp_path: Path) -> None:
    home = _msmt17(tmp_path / "x")
    (home / "list_query.txt").write_text(f"{LISTS['query'][0]}\n{LISTS['query'][0][:-1]}1\n")
    with pytest.raises(DataError, match=r"line 2: 0000_000_03_.*\.jpg"):
        load_split("msmt17", home)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "expected one line per image"), (b"\xff\xfe0\0", "is not UTF-8 text")],
)
def test_an_empty_or_binary_list_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    home = _msmt17(tmp_path / "x")
    (home / "list_gallery.txt").write_bytes(data)
    with pytest.raises(DataError, match=rf"list_gallery\.txt: .*{reason}"):
        load_split("msmt17", home)


def test_missing_lists_and_folders_are_named(tmp_path: Path) -> None:
    home = _msmt17(tmp_path / "x")
    (home / "list_val.txt").unlink()
    with pytest.raises(DataError, match=r"list_val\.txt: no such file"):
        load_split("msmt17", home)
    (home / "list_query.txt").unlink()
    with pytest.raises(DataError, match=r"list_query\.txt not found"):
        load_split("msmt17", home)
    with pytest.raises(DataError, match="mask_train_v2 not found; expected msmt17_v2"):
        load_split("msmt17_v2", home)


def test_training_images_are_not_needed_to_evaluate(tmp_path: Path) -> None:
    home = _msmt17(tmp_path / "MSMT17_V1")
    shutil.rmtree(home / "train")
    split = load_split("msmt17", tmp_path)
    assert (split.train, len(split.query), len(split.gallery)) == ((), 1, 2)
    assert "for evaluation only" in split.note
    assert "train" not in inspect_dataset("msmt17", tmp_path).subsets
    with pytest.raises(DataError, match="no training images"):
        load_split("msmt17", tmp_path, for_training=True)
