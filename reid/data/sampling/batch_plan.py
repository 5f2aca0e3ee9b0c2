"""The plan of a batch: which images it has and which of them form pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid.config.settings import SamplerConfig
from reid.data.augment import CopyKind
from reid.errors import ConfigError, DataError
from reid.types import ImageRecord, IntArray

BoolArray = npt.NDArray[np.bool_]
SeedArray = npt.NDArray[np.uint64]

# First element of the seeds, so that no two streams of random numbers coincide.
ORDER_STREAM, BATCH_STREAM, COPY_STREAM = 1, 2, 3


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """A batch before its images are read. A slot is a position in the batch.

    ``image_indices`` (N,) index the records; ``labels`` (N,) are classes 0..M-1, ``cameras`` (N,)
    the cameras' ids;
    ``anchors`` (A,), ``pair_first`` (P,) and ``pair_second`` (P,) are slots, and
    ``pair_same`` (P,) says whether a pair shows the same person. ``image_seeds`` (N,) seed
    each slot's augmentation. An image has one slot; it has more only if an identity has too
    few images or an epoch uses each image several times. ``image_kinds`` (N,) says how each is
    augmented; empty: all ``drawn``.
    """

    image_indices: IntArray
    labels: IntArray
    cameras: IntArray
    anchors: IntArray
    pair_first: IntArray
    pair_second: IntArray
    pair_same: BoolArray
    image_seeds: SeedArray
    image_kinds: tuple[CopyKind, ...] = ()


class Sampler(ABC):
    """What the loader needs from a sampler: this rank's batches of each epoch.

    Raises ConfigError for a negative seed, ValueError for a rank outside the world, DataError
    for fewer than two identities, and what ``_prepare`` raises.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        config: SamplerConfig,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._labels = _checked_labels(records, seed, rank, world_size)
        self._cameras = np.array([record.camera_id for record in records], np.int64)
        self._config, self._seed, self._rank, self._world = config, seed, rank, world_size
        self._prepare(records)

    @abstractmethod
    def _prepare(self, records: Sequence[ImageRecord]) -> None:
        """Group the images once, and check that there are enough of them."""

    @property
    @abstractmethod
    def num_batches(self) -> int:
        """Batches per rank and epoch, the same for each rank and epoch."""

    @abstractmethod
    def epoch(self, epoch: int) -> Sequence[BatchPlan]:
        """This rank's batches of one epoch, in order."""


def class_of_person(records: Iterable[ImageRecord]) -> dict[int, int]:
    """person_id -> training class, 0..M-1 in ascending order of person_id."""
    return {person: k for k, person in enumerate(sorted({r.person_id for r in records}))}


def plan_from_pairs(
    images: IntArray,
    labels: IntArray,
    cameras: IntArray,
    anchors: IntArray,
    pairs: list[tuple[int, int, bool]],
    rng: np.random.Generator,
) -> BatchPlan:
    table = np.array(pairs, np.int64).reshape(len(pairs), 3)
    return BatchPlan(
        image_indices=images,
        labels=labels[images],
        cameras=cameras[images],
        anchors=anchors,
        pair_first=table[:, 0],
        pair_second=table[:, 1],
        pair_same=table[:, 2].astype(np.bool_),
        image_seeds=rng.integers(0, 2**64, len(images), np.uint64),
    )


def _checked_labels(
    records: Sequence[ImageRecord], seed: int, rank: int, world_size: int
) -> IntArray:
    """Class of each record, (N,)."""
    if seed < 0:
        raise ConfigError(f"run.seed must be 0 or above, found {seed}")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in 0..{world_size - 1}, found {rank}")
    classes = class_of_person(records)
    if len(classes) < 2:
        raise DataError(
            f"training needs at least two identities, found {len(classes)} in "
            f"{len(records)} images; check the dataset folder and its split"
        )
    return np.array([classes[record.person_id] for record in records], np.int64)
