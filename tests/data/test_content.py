"""Test images that were trained on are found by their bytes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from reid.data import content, load_split
from reid.data.content import image_hashes, people_hashes
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
    counts: list[tuple[int, int]] = []
    expected = [hashlib.blake2b(one.path.read_bytes(), digest_size=16).digest() for one in records]
    assert list(image_hashes(records, lambda *count: counts.append(count))) == expected
    assert counts == [(3, 8), (6, 8), (8, 8)]
    assert list(image_hashes(records[:3], lambda *count: counts.clear())) == expected[:3]
    assert counts  # a few images are not reported


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: no such image file"):
        list(image_hashes([ImageRecord(tmp_path / "gone.png", 1, 1)]))


def test_people_have_the_same_hash_only_in_the_same_dataset_and_root(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    names = [f"{name}/c{c}/1.png" for name in ("bob", "carol", "dave") for c in (1, 2)]
    here, elsewhere = (write_pictures(tmp_path / root, names) for root in ("here", "elsewhere"))
    split = load_split("folder", here, own=OwnImages(all_test=True))
    found = people_hashes(split, split.query, here)
    assert sorted(found.values()) == ["bob", "carol", "dave"]
    assert people_hashes(split, split.gallery, here / "bob" / "..") == found
    assert people_hashes(split, split.query, elsewhere).keys().isdisjoint(found)
    assert people_hashes(split, split.query[:1], here).items() <= found.items()
    published = dataclasses.replace(split, names={})
    assert people_hashes(published, split.query, here) == {}
