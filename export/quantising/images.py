"""The images of an INT8 export: those it is calibrated on, and others that it is proven on."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid.data import load_split, read_image, write_synthetic
from reid.data.readers.datasets import check_name
from reid.errors import ConfigError, DataError
from reid.evaluation.evaluating import split_as_trained
from reid.model_file.opening import ModelFile
from reid.types import Image, ImageRecord, Split

SYNTHETIC = "synthetic"

CROPS = 256
"""Crops that the ranges are taken from [inferred]: OSNet x0.25 and MSP-CNN pass with as many
(tests/benchmarks/README.md); more take longer in proportion."""

FEWEST_CROPS = 16
"""Fewer are refused [inferred]: as many as a parity verdict needs."""

HELD_OUT = 128
"""Further crops, which choose the method and the layers in floating point [inferred]."""

_PEOPLE = 16
"""Drawn for each part of the synthetic images, beside those that the crops need."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The setting ``--calibrate``: a dataset, its folder, how many crops, drawn with which seed.

    Without a folder synthetic people are drawn. Raises ConfigError for a number out of range.
    """

    dataset: str
    root: Path | None = None
    crops: int = CROPS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.crops < FEWEST_CROPS or self.seed < 0:
            raise ConfigError(
                f"INT8 needs {FEWEST_CROPS} crops or more and a seed of 0 or above, found "
                f"{self.crops} crops and seed {self.seed}"
            )


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """``crops`` and ``held_out`` are decoded images; ``gate`` has none of them.

    ``words`` say which images of the dataset the crops are.
    """

    crops: tuple[Image, ...]
    held_out: tuple[Image, ...]
    gate: Split
    words: str


@contextmanager
def calibration_images(model: ModelFile, wanted: Calibration) -> Iterator[CalibrationImages]:
    """Draw the crops from the training images of the dataset, as it was split for ``model``.

    Of a dataset without training images those of some of the test people are taken, who are then
    left out of the gate. Raises DataError for too few images, and what ``load_split`` raises.
    """
    check_name(wanted.dataset)
    with tempfile.TemporaryDirectory() as folder:
        if wanted.root is not None:
            split = split_as_trained(model, wanted.dataset, wanted.root)
        elif wanted.dataset != SYNTHETIC:
            raise DataError(
                f"--calibrate {wanted.dataset} needs the dataset's folder, found none; give it "
                f"with --data-root, or draw people, which proves nothing: --calibrate {SYNTHETIC}"
            )
        else:
            split = _drawn(Path(folder), wanted)
        yield _chosen(split, wanted)


def _drawn(folder: Path, wanted: Calibration) -> Split:
    people = -(-(wanted.crops + HELD_OUT) // 6)
    write_synthetic(
        folder,
        num_train_identities=people,
        num_test_identities=_PEOPLE,
        cameras=2,
        images_per_camera=3,
        seed=wanted.seed,
    )
    return load_split(SYNTHETIC, folder)


def _chosen(split: Split, wanted: Calibration) -> CalibrationImages:
    count = wanted.crops + HELD_OUT
    order = np.random.default_rng(wanted.seed)
    if split.train:
        records: Sequence[ImageRecord] = split.train
        gate, words = split, "training images"
    else:
        records, gate = _people_apart(split, count, order)
        words = "test images of people who are left out of the proof"
    if len(records) < count:
        raise DataError(
            f"{split.dataset} has {len(records)} {words}, and INT8 needs {count}: {wanted.crops} "
            f"to calibrate on and {HELD_OUT} to compare; give more images, or fewer with "
            "--calibration-crops"
        )
    drawn = [records[index] for index in order.permutation(len(records))[:count]]
    images = [read_image(record.path) for record in drawn]
    return CalibrationImages(
        tuple(images[: wanted.crops]), tuple(images[wanted.crops :]), gate, words
    )


def _people_apart(
    split: Split, count: int, order: np.random.Generator
) -> tuple[list[ImageRecord], Split]:
    """Images of as many people as ``count`` images need, and the split without these people."""
    tested = [*split.query, *split.gallery]
    people = sorted({record.person_id for record in tested if record.person_id > 0})
    taken: set[int] = set()
    records: list[ImageRecord] = []
    for index in order.permutation(len(people)):
        if len(records) >= count:
            break
        taken.add(people[index])
        records += [record for record in tested if record.person_id == people[index]]
    query, gallery = (
        tuple(record for record in part if record.person_id not in taken)
        for part in (split.query, split.gallery)
    )
    if len(records) >= count and not (query and gallery):
        raise DataError(
            f"{split.dataset} has no training images, and no test people besides those of the "
            f"{count} images that INT8 needs; give more images, or fewer with --calibration-crops"
        )
    return records, dataclasses.replace(split, query=query, gallery=gallery)
