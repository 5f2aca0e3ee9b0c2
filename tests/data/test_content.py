"""Test images that were trained on are found by their bytes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from reid.data import content, load_split
from reid.data.content import image_hashes, names_in, names_trained_on, trained_on
from reid.data.readers.division import OwnImages
from reid.errors import DataError
from reid.types import ImageRecord

Pictures = Callable[[Path, Iterable[str]], Path]


def _records(root: Path) -> list[ImageRecord]:
    return [ImageRecord(path, 1, 1) for path in sorted(root.rglob("*.png"))]


def test_hashes_come_in_order_and_are_those_of_the_bytes(
    write_pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_AT_ONCE", 3)
    records = _records(write_pictures(tmp_path, [f"{n}.png" for n in range(8)]))
    counts: list[int] = []
    expected = [hashlib.blake2b(one.path.read_bytes(), digest_size=16).digest() for one in records]
    assert list(image_hashes(records, counts.append)) == expected
    assert counts == [3, 3, 2]


def test_a_trained_image_is_found_under_another_name_and_person(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    trained = _records(write_pictures(tmp_path / "train", ["a/1.png", "b/2.png"]))
    tested = write_pictures(tmp_path / "test", ["x.png", "y.png", "c/3.png", "c/4.png"])
    shutil.copy(trained[1].path, tested / "c" / "renamed.png")
    found = trained_on(_records(tested), frozenset(image_hashes(trained)))
    names = [one.path.relative_to(tested).as_posix() for one in found]
    # The fixture draws the same two pictures first.
    assert names == ["c/renamed.png", "x.png", "y.png"]
    assert trained_on(_records(tested), ()) == ()


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: no such image file"):
        list(image_hashes([ImageRecord(tmp_path / "gone.png", 1, 1)]))


def test_a_person_added_later_does_not_hide_who_was_trained_on(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    people = ("bob", "carol", "dave", "erin")
    write_pictures(tmp_path, [f"{name}/c{c}/1.png" for name in people for c in (1, 2)])
    before = load_split("folder", tmp_path)
    trained = names_in(before, before.train)
    assert len(trained) == 2
    assert names_trained_on(before, trained) == ()
    write_pictures(tmp_path, [f"alice/c{c}/1.png" for c in (1, 2)])
    after = load_split("folder", tmp_path, own=OwnImages(all_test=True))
    assert set(names_trained_on(after, trained)) == trained
