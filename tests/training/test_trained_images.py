"""A checkpoint keeps the hashes of its training images: once made, kept, and carried on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from reid.data import content, load_split
from reid.data.content import image_hashes, people_hashes
from reid.data.readers.joint import TrainingImages
from reid.errors import CheckpointError
from reid.progress import SILENT
from reid.training import trained_images
from reid.training.checkpoint import Checkpoint, save_checkpoint
from reid.training.trained_images import hashes_to_keep
from reid.types import Split
from tests.heard import Heard
from tests.training.test_checkpoint import checkpoint as checkpoint


@pytest.fixture(scope="module")
def split(people: Path) -> Split:
    return load_split("synthetic", people)


def images_of(split: Split, root: Path) -> TrainingImages:
    return TrainingImages(split.train, ((split, root),))


def kept(checkpoint: Checkpoint, training: dict[str, Any]) -> Checkpoint:
    return dataclasses.replace(checkpoint, training=training)


def test_the_hashes_of_all_training_images_are_kept(
    people: Path, split: Split, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_AT_ONCE", 10)
    heard = Heard()
    training = hashes_to_keep(images_of(split, people), None, None, heard)
    found = kept(checkpoint, training).trained_images
    assert found is not None
    assert found.images == frozenset(image_hashes(split.train))
    assert found.people == frozenset()  # published datasets name nobody
    assert sum(heard.done["hashing training images"]) == len(split.train)


def test_people_of_a_users_own_images_are_kept_as_hashes(
    people: Path, split: Split, checkpoint: Checkpoint
) -> None:
    named = dataclasses.replace(split, names={one.person_id: "ann" for one in split.train})
    training = hashes_to_keep(images_of(named, people), None, None, SILENT)
    found = kept(checkpoint, training).trained_images
    assert found is not None
    assert len(found.people) == 1
    assert b"ann" not in b"".join(found.people)


def test_a_resumed_run_keeps_them_without_reading_an_image(
    people: Path, split: Split, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = hashes_to_keep(images_of(split, people), None, None, SILENT)
    monkeypatch.setattr(trained_images, "image_hashes", None)
    again = hashes_to_keep(images_of(split, people), kept(checkpoint, training), None, SILENT)
    assert again.keys() == training.keys()
    assert all(torch.equal(again[name], training[name]) for name in training)


def test_those_of_an_earlier_training_are_carried_on(
    people: Path, split: Split, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    first, rest = split.train[:1], split.train[1:]
    one = dataclasses.replace(split, train=first, names={first[0].person_id: "ann"})
    before = hashes_to_keep(images_of(one, people), None, None, SILENT)
    save_checkpoint(tmp_path / "before.pt", kept(checkpoint, {**before}))
    fewer = dataclasses.replace(split, train=rest)
    training = hashes_to_keep(images_of(fewer, people), None, tmp_path / "before.pt", SILENT)
    found = kept(checkpoint, training).trained_images
    assert found is not None
    assert found.images == frozenset(image_hashes(split.train))
    assert found.people == frozenset(people_hashes(one, first, people))
    assert len(found.people) == 1


def test_damaged_ones_of_an_earlier_training_are_not_taken_for_none(
    people: Path, split: Split, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    damaged = kept(checkpoint, {"image_hashes": 3, "people_hashes": 3})
    save_checkpoint(tmp_path / "before.pt", damaged)
    with pytest.raises(CheckpointError, match="image_hashes"):
        hashes_to_keep(images_of(split, people), None, tmp_path / "before.pt", SILENT)


def test_weights_of_another_kind_bring_none(people: Path, split: Split, tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "resnet.pth")
    training = hashes_to_keep(images_of(split, people), None, tmp_path / "resnet.pth", SILENT)
    assert len(training["image_hashes"]) == len(split.train)


def test_an_earlier_checkpoint_keeps_none(checkpoint: Checkpoint) -> None:
    assert kept(checkpoint, {"solver": {}}).trained_images is None


@pytest.mark.parametrize(
    "damage",
    [
        torch.zeros((3, 16)),
        torch.zeros((3, 15), dtype=torch.uint8),
        torch.zeros(16, dtype=torch.uint8),
        torch.zeros((1, 16), dtype=torch.uint8).expand(10**9, 16),
        torch.zeros((3, 16), dtype=torch.uint8, device="meta"),
        [b"0" * 16],
        None,
    ],
    ids=("float", "short", "flat", "larger than its bytes", "meta", "list", "none"),
)
@pytest.mark.parametrize("name", ["image_hashes", "people_hashes"])
def test_damaged_hashes_are_one_error(checkpoint: Checkpoint, name: str, damage: object) -> None:
    whole = torch.zeros((2, 16), dtype=torch.uint8)
    training = {"image_hashes": whole, "people_hashes": whole, name: damage}
    with pytest.raises(CheckpointError, match=name):
        _ = kept(checkpoint, training).trained_images
