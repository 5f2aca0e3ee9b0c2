"""Several datasets as one to train on: their people and cameras are kept apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reid.config.settings import DataConfig
from reid.data.readers.datasets import load_split, reader_of
from reid.data.readers.division import USUAL, OwnImages
from reid.errors import DataError
from reid.types import ImageRecord, Split

JOINT = "+"
"""Between the names of datasets that were trained on together, in a manifest."""


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """What is trained on: the ``records``, and the splits and folders that they come from."""

    records: tuple[ImageRecord, ...]
    parts: tuple[tuple[Split, Path], ...]

    @property
    def words(self) -> str:
        """A line for each dataset, with how it is split."""
        splits = [split for split, _ in self.parts]
        lines = [f"{one.dataset}: {one.note}" if one.note else one.dataset for one in splits]
        if len(lines) > 1:
            people = len({record.person_id for record in self.records})
            images = [f"{one.dataset} {len(one.train):,}" for one in splits]
            total = f"{len(self.records):,} images of {people:,} people"
            lines.append(f"trained on together: {total} ({', '.join(images)})")
        return "\n".join(lines)


def load_training(data: DataConfig, root: Path) -> TrainingImages:
    """The training images that ``data`` names; of several datasets, each in ``root``/NAME.

    A random split (``num_test_identities``, ``split_seed``) and ``validation`` hold for the
    datasets that have one. Raises DataError as ``load_split`` does, for a dataset that is named
    twice, and for one among several whose training images are of a single camera.
    """
    own = OwnImages(data.junk, data.distractors, data.layout)
    if not data.names:
        split = _split(data.name, root, data, data.num_test_identities, data.validation, own)
        return TrainingImages(split.train, ((split, root),))
    readers = {name: reader_of(name) for name in data.names}
    if len(readers) < len(data.names):
        twice = next(name for name in data.names if data.names.count(name) > 1)
        raise DataError(f"data.names has {twice} twice; name each dataset once")
    random = [name for name, reader in readers.items() if not reader.is_fixed]
    if data.num_test_identities and not random:
        raise DataError(
            f"{', '.join(readers)} have fixed splits; leave data.num_test_identities at 0, found "
            f"{data.num_test_identities}"
        )
    if data.validation != "auto" and not any(one.has_validation for one in readers.values()):
        raise DataError(
            f"{', '.join(readers)} have no validation part; leave data.validation at auto"
        )
    parts = []
    for name, reader in readers.items():
        folder = folder_of(name, root)
        split = _split(
            name,
            folder,
            data,
            data.num_test_identities if name in random else 0,
            data.validation if reader.has_validation else "auto",
            own if reader.is_own else USUAL,
        )
        if len({record.camera_id for record in split.train}) < 2:
            raise DataError(
                f"{name}: its training images are of one camera; together with other datasets "
                "people must be seen by two or more, or the network learns to tell datasets apart"
            )
        parts.append((split, folder))
    return TrainingImages(joined([split.train for split, _ in parts]), tuple(parts))


def folder_of(name: str, root: Path) -> Path:
    """Where one of several datasets lies. Raises DataError if it is not there."""
    folder = root / name
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; with several datasets each is in a folder of its name "
            f"below {root}, or is linked there"
        )
    return folder


def joined(parts: Sequence[Sequence[ImageRecord]]) -> tuple[ImageRecord, ...]:
    """The records of all parts, no two of which share a person or a camera."""
    records: list[ImageRecord] = []
    person = camera = 0
    for part in parts:
        records += [
            dataclasses.replace(
                one, person_id=one.person_id + person, camera_id=one.camera_id + camera
            )
            for one in part
        ]
        person = 1 + max((one.person_id for one in records), default=-1)
        camera = 1 + max((one.camera_id for one in records), default=-1)
    return tuple(records)


def trained_together(dataset: str) -> tuple[str, ...]:
    """The datasets that a manifest's ``dataset`` names; empty if it names none."""
    return tuple(filter(None, dataset.split(JOINT)))


def _split(
    name: str, root: Path, data: DataConfig, tested: int, validation: str, own: OwnImages
) -> Split:
    return load_split(
        name,
        root,
        num_test_identities=tested,
        split_seed=data.split_seed,
        validation=validation,
        own=own,
        for_training=True,
    )
