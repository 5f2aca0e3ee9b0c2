"""Test images that were trained on, or that are their own correct match, are reported."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reid.data import load_split
from reid.data.content import TrainedImages, image_hashes, people_hashes
from reid.data.readers.division import OwnImages
from reid.errors import DataError
from reid.evaluation import overlap
from reid.evaluation.overlap import Overlap, overlaps, own_matches
from reid.model_file.opening import ModelFile
from reid.progress import SILENT
from reid.types import JUNK_ID, ImageRecord, Protocol, Split
from tests.data.conftest import picture
from tests.heard import Heard


def write_pictures(root: Path, names: Iterable[str], first_shade: int = 0) -> Path:
    """A picture at each name below the root, no two alike."""
    for shade, name in enumerate(names, first_shade):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(shade))
    return root


def model(trained: TrainedImages | None, name: str = "run/checkpoint.pt") -> ModelFile:
    """A checkpoint that keeps these hashes; nothing else of it is looked at."""
    file = ModelFile(Path(name))
    file.__dict__["checkpoint"] = SimpleNamespace(trained_images=trained)
    return file


def trained_on(root: Path, *images: Path) -> ModelFile:
    return model(TrainedImages(frozenset(image_hashes([ImageRecord(p, 1, 1) for p in images]))))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Four people, two cameras, two images each."""
    names = ("ann", "bob", "carol", "dave")
    images = [f"{name}/c{c}/{i}.png" for name in names for c in (1, 2) for i in (1, 2)]
    return write_pictures(tmp_path / "people", images)


def test_a_person_added_later_does_not_hide_who_was_trained_on(people: Path) -> None:
    before = load_split("folder", people)
    images = frozenset(image_hashes(before.train))
    trained = model(TrainedImages(images, frozenset(people_hashes(before, before.train, people))))
    assert overlaps([trained], before, people, reporter=SILENT) == [Overlap(0)]
    write_pictures(people, [f"abe/c{c}/{i}.png" for c in (1, 2) for i in (1, 2)], 90)
    after = load_split("folder", people, own=OwnImages(all_test=True))
    with pytest.raises(DataError) as refused:
        overlaps([trained], after, people, reporter=SILENT)
    line = str(refused.value)
    assert line.startswith(f"run/checkpoint.pt was trained on {len(images)} of the 20 test images")
    assert str(people) in line
    assert all(one in line for one in ("--allow-trained-on", "allow_trained_on=True"))
    assert "\n" not in line
    allowed = overlaps([trained], after, people, allow_trained_on=True, reporter=SILENT)
    assert allowed == [Overlap(len(images))]


def test_a_renamed_copy_of_a_training_image_is_found(people: Path) -> None:
    split = load_split("folder", people, own=OwnImages(all_test=True))
    first = split.gallery[0].path
    trained = trained_on(people, first)
    moved = first.rename(first.with_name("renamed.png"))
    again = load_split("folder", people, own=OwnImages(all_test=True))
    with pytest.raises(DataError, match=rf"1 of the 16 test images, such as \S*{moved.name}"):
        overlaps([trained], again, people, reporter=SILENT)


def test_images_that_the_protocol_skips_do_not_count(people: Path) -> None:
    split = load_split("folder", people, own=OwnImages(all_test=True))
    path = split.gallery[0].path
    junk = [dataclasses.replace(one, person_id=JUNK_ID) for one in split.gallery[:1]]
    skipped = dataclasses.replace(split, gallery=(*junk, *split.gallery[1:]))
    assert overlaps([trained_on(people, path)], skipped, people, reporter=SILENT) == [Overlap(0)]


def test_a_file_that_keeps_no_hashes_is_not_checked(people: Path, tmp_path: Path) -> None:
    split = load_split("folder", people, own=OwnImages(all_test=True))
    exported = tmp_path / "a.onnx"
    exported.touch()
    heard = Heard()
    found = overlaps([exported, model(None)], split, people, reporter=heard)
    assert found == [Overlap(None), Overlap(None)]
    assert heard.begun == {}


def test_each_model_is_told_of_its_own_training(people: Path) -> None:
    split = load_split("folder", people, own=OwnImages(all_test=True))
    models = [trained_on(people), model(None), trained_on(people, split.query[0].path)]
    found = overlaps(models, split, people, allow_trained_on=True, reporter=SILENT)
    assert [one.num_trained_on for one in found] == [0, None, 1]


def test_the_names_of_people_alone_are_a_warning(people: Path) -> None:
    split = load_split("folder", people, own=OwnImages(all_test=True))
    names = people_hashes(split, split.query, people)
    known = frozenset(digest for digest, name in names.items() if name in ("ann", "bob"))
    (found,) = overlaps([model(TrainedImages(frozenset(), known))], split, people, reporter=SILENT)
    (line,) = found.warnings
    assert found.num_trained_on == 0
    assert "2 test people (ann, bob)" in line
    assert overlaps([model(TrainedImages())], split, people, reporter=SILENT) == [Overlap(0)]


def divided(root: Path, depth: str) -> Path:
    """Query images and their copies in the gallery, under other names, and one more."""
    names = [f"query/{name}/{depth}1.png" for name in ("ann", "bob")]
    write_pictures(root, [*names, f"gallery/cid/{depth}1.png"])
    for name in ("ann", "bob"):
        folder = root / "gallery" / name / depth
        folder.mkdir(parents=True)
        shutil.copy(root / "query" / name / depth / "1.png", folder / "copy.png")
    return root


def test_without_cameras_a_copy_of_the_query_in_the_gallery_is_told(tmp_path: Path) -> None:
    root = divided(tmp_path, "")
    split = load_split("folder", root)
    assert own_matches(split) == split.query
    (found,) = overlaps([model(None)], split, root, reporter=SILENT)
    assert "2 query images are in the gallery too" in found.warnings[0]
    assert str(split.query[0].path) in found.warnings[0]


def test_an_image_that_the_protocol_skips_is_no_match_of_itself(tmp_path: Path) -> None:
    assert own_matches(load_split("folder", divided(tmp_path, "c1/"))) == ()
    # VIPeR: query and gallery are the same images of two cameras.
    paths = sorted(tmp_path.rglob("1.png"))
    records = tuple(ImageRecord(path, 1, camera) for camera, path in enumerate(paths))
    both = Split("viper", (), records, records, Protocol("single_shot"))
    assert own_matches(both) == ()


def test_only_files_of_the_same_size_are_read(
    people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = load_split("folder", people, own=OwnImages(all_test=True))
    for number, record in enumerate((*split.query, *split.gallery)):
        with record.path.open("ab") as file:
            file.write(bytes(number))
    read: list[Any] = []

    def hashed(records: list[ImageRecord]) -> list[bytes]:
        read.extend(records)
        return [b""] * len(records)

    monkeypatch.setattr(overlap, "image_hashes", hashed)
    assert own_matches(split) == ()
    assert read == []


def test_an_image_that_is_gone_is_named(people: Path) -> None:
    split = load_split("folder", people, own=OwnImages(all_test=True))
    split.query[0].path.unlink()
    with pytest.raises(DataError, match=split.query[0].path.name):
        own_matches(split)
