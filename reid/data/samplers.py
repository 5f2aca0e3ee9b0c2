"""Which images form a batch, and which of them form pairs.

A sampler is a pure function of (seed, epoch): it keeps nothing between calls, so a run
that resumes, or that loads with another number of processes, sees the same batches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from reid.config import SamplerConfig
from reid.errors import ConfigError, DataError
from reid.types import ImageRecord, IntArray

BoolArray = npt.NDArray[np.bool_]
SeedArray = npt.NDArray[np.uint64]
Item = TypeVar("Item")

# First words of the seeds, so that no two streams of random numbers coincide.
_ORDER_STREAM, _BATCH_STREAM = 1, 2


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """A batch before its images are read. A slot is a place in the batch.

    ``image_indices`` (N,) index the records; ``labels`` (N,) are classes 0..M-1;
    ``anchors`` (A,), ``pair_first`` (P,) and ``pair_second`` (P,) are slots, and
    ``pair_same`` (P,) says whether a pair shows one person. ``image_seeds`` (N,) seed
    each slot's augmentation. An image has one slot, or more only where an identity has
    too few images.
    """

    image_indices: IntArray
    labels: IntArray
    anchors: IntArray
    pair_first: IntArray
    pair_second: IntArray
    pair_same: BoolArray
    image_seeds: SeedArray


class Sampler(Protocol):
    """What the loader asks of a sampler."""

    @property
    def num_batches(self) -> int:
        """Batches of one rank in an epoch, the same for each rank and epoch."""

    def epoch(self, epoch: int) -> list[BatchPlan]:
        """This rank's batches of one epoch, in order."""


def class_of_person(records: Iterable[ImageRecord]) -> dict[int, int]:
    """person_id -> training class: 0..M-1 in the order of the sorted ids."""
    return {person: k for k, person in enumerate(sorted({r.person_id for r in records}))}


def sampler_from_config(
    records: Sequence[ImageRecord],
    config: SamplerConfig,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
) -> PairSampler | IdentitySampler:
    """The sampler that ``config.kind`` names. Raises as the samplers do."""
    kind = PairSampler if config.kind == "pairs" else IdentitySampler
    return kind(records, config, seed, rank, world_size)


class PairSampler:
    """Anchors, each with one positive and ``negatives_per_positive`` negatives.

    In an epoch every image is an anchor once, in random order; the last batch is filled
    from the start of that order. The positive is a random image of the same person from
    another camera, else from the same camera, else the anchor's own image in a second
    slot, augmented differently. A negative is a random image of a random other person.
    With ``world_size`` ranks a step takes ``world_size`` batches, disjoint in anchors.
    Where there are fewer images than a step's anchors, batches are smaller.

    Two negatives per positive: MSP-CNN section 3.3 and Figure 5 [paper]. Raises DataError
    for fewer than two identities or fewer images than ranks.
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
        self._config, self._seed, self._rank, self._world = config, seed, rank, world_size
        if len(records) < world_size:
            raise DataError(
                f"{world_size} processes need as many training images, found {len(records)}; "
                "start fewer processes"
            )
        self._anchors_per_batch = min(config.anchors_per_batch, len(records) // world_size)
        self._positives = _positives(records, self._labels)
        self._by_class = np.argsort(self._labels, kind="stable").astype(np.int64)
        self._class_size = np.bincount(self._labels).astype(np.int64)
        self._class_start = np.cumsum(self._class_size) - self._class_size

    @property
    def num_batches(self) -> int:
        """ceil(images / (anchors per batch x ranks))."""
        return -(-len(self._labels) // (self._anchors_per_batch * self._world))

    def epoch(self, epoch: int) -> list[BatchPlan]:
        """This rank's batches of one epoch, in order."""
        order = np.random.default_rng([_ORDER_STREAM, self._seed, epoch])
        anchors = np.resize(
            order.permutation(len(self._labels)),
            (self.num_batches, self._world, self._anchors_per_batch),
        )
        return [
            self._plan(
                anchors[step, self._rank],
                np.random.default_rng([_BATCH_STREAM, self._seed, epoch, step, self._rank]),
            )
            for step in range(self.num_batches)
        ]

    def _plan(self, anchors: IntArray, rng: np.random.Generator) -> BatchPlan:
        negatives = self._random_negatives(anchors, rng)
        draws = rng.random(len(anchors))
        # (image, copy): copy 1 is the second slot of a person's only image.
        slots = {(int(image), 0): slot for slot, image in enumerate(anchors)}

        def slot_of(image: int, copy: int = 0) -> int:
            return slots.setdefault((image, copy), len(slots))

        pairs: list[tuple[int, int, bool]] = []
        for slot, anchor in enumerate(anchors.tolist()):
            candidates = self._positives[anchor]
            positive = int(candidates[int(draws[slot] * len(candidates))])
            pairs.append((slot, slot_of(positive, int(positive == anchor)), True))
            pairs += [(slot, slot_of(image), False) for image in negatives[slot].tolist()]
        images = np.array([image for image, _ in slots], np.int64)
        return _plan_from_pairs(images, self._labels, np.arange(len(anchors)), pairs, rng)

    def _random_negatives(self, anchors: IntArray, rng: np.random.Generator) -> IntArray:
        """(A, negatives_per_positive) images: a random other class, a random image of it."""
        own = self._labels[anchors][:, None]
        shape = (len(anchors), self._config.negatives_per_positive)
        other = rng.integers(0, len(self._class_size) - 1, shape)
        other += other >= own
        member = (rng.random(shape) * self._class_size[other]).astype(np.int64)
        return np.asarray(self._by_class[self._class_start[other] + member], np.int64)


class IdentitySampler:
    """P identities x K images, each image an anchor, pairs taken within the batch.

    Identities come in random order, each once before any comes again. A person's K images
    are different where there are K, and taken from his cameras in turn, so that a rarely
    seen camera is not drowned. Positives are all unordered pairs; to each belong
    ``negatives_per_positive`` pairs of its first image with a random image of another
    person. An epoch has ceil(images / (P x K x ranks)) batches; ranks share no identity
    within a step.

    Raises DataError for fewer identities than P x ranks, ConfigError for P = 1.
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
        self._config, self._seed, self._rank, self._world = config, seed, rank, world_size
        self._identities_per_step = config.identities_per_batch * world_size
        if config.identities_per_batch < 2:
            raise ConfigError(
                "sampler.identities_per_batch must be at least 2 (there are no negatives "
                f"within one identity), found {config.identities_per_batch}"
            )
        cameras: defaultdict[int, defaultdict[int, list[int]]]
        cameras = defaultdict(lambda: defaultdict(list))
        for index, label in enumerate(self._labels.tolist()):
            cameras[label][records[index].camera_id].append(index)
        self._cameras = [list(cameras[label].values()) for label in range(len(cameras))]
        if len(cameras) < self._identities_per_step:
            raise DataError(
                f"batches of {config.identities_per_batch} identities on {world_size} "
                f"process(es) need {self._identities_per_step} training identities, found "
                f"{len(cameras)}; lower sampler.identities_per_batch"
            )

    @property
    def num_batches(self) -> int:
        """ceil(images / (P x K x ranks))."""
        return -(-len(self._labels) // (self._identities_per_step * self._images_each))

    @property
    def _images_each(self) -> int:
        return self._config.images_per_identity

    def epoch(self, epoch: int) -> list[BatchPlan]:
        """This rank's batches of one epoch, in order."""
        order = np.random.default_rng([_ORDER_STREAM, self._seed, epoch])
        rng = np.random.default_rng([_BATCH_STREAM, self._seed, epoch, 0, self._rank])
        identities = _Deck(range(len(self._cameras)), order)
        images = [[_Deck(camera, rng) for camera in cameras] for cameras in self._cameras]
        per_batch = self._config.identities_per_batch
        plans = []
        for _ in range(self.num_batches):
            step = identities.deal(self._identities_per_step)
            mine = step[self._rank * per_batch : (self._rank + 1) * per_batch]
            plans.append(self._plan([images[identity] for identity in mine], rng))
        return plans

    def _plan(self, identities: list[list[_Deck[int]]], rng: np.random.Generator) -> BatchPlan:
        images = np.array(
            [_mixed_hand(cameras, self._images_each, rng) for cameras in identities], np.int64
        )
        slots = np.arange(images.size).reshape(images.shape)
        pairs: list[tuple[int, int, bool]] = []
        for row in range(len(slots)):
            others = np.delete(slots, row, axis=0).ravel()
            for first, second in _unordered_pairs(slots[row].tolist(), rng):
                pairs.append((first, second, True))
                for other in rng.choice(others, self._config.negatives_per_positive).tolist():
                    pairs.append((first, other, False))
        return _plan_from_pairs(images.ravel(), self._labels, slots.ravel(), pairs, rng)


class _Deck(Generic[Item]):
    """Items dealt in random order, each once before any comes again."""

    def __init__(self, items: Iterable[Item], rng: np.random.Generator) -> None:
        self._items, self._rng = list(items), rng
        self._left: list[Item] = []

    def __len__(self) -> int:
        return len(self._items)

    def deal(self, count: int) -> list[Item]:
        """``count`` items, all different where the deck has as many."""
        hand: list[Item] = []
        while len(hand) < count:
            if not self._left:
                fresh = [self._items[i] for i in self._rng.permutation(len(self._items))]
                # What the hand holds already goes to the bottom of the new deck.
                self._left = sorted(fresh, key=hand.__contains__)
            missing = count - len(hand)
            hand += self._left[:missing]
            self._left = self._left[missing:]
        return hand


def _mixed_hand(cameras: Sequence[_Deck[int]], count: int, rng: np.random.Generator) -> list[int]:
    """``count`` images taken from the cameras in turn, from a random one on.

    Different images where there are ``count`` in all; beyond that they repeat.
    """
    decks = [cameras[i] for i in rng.permutation(len(cameras))]
    quota = [0] * len(decks)
    while sum(quota) < count:
        unspent = [i for i, deck in enumerate(decks) if quota[i] < len(deck)]
        turn = unspent or list(range(len(decks)))
        for i in turn[: count - sum(quota)]:
            quota[i] += 1
    return [image for deck, share in zip(decks, quota, strict=True) for image in deck.deal(share)]


def _unordered_pairs(slots: list[int], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Every pair once, turned round at random: the losses treat a pair's two sides differently."""
    pairs = [(a, b) for i, a in enumerate(slots) for b in slots[i + 1 :]]
    turned = rng.random(len(pairs)) < 0.5
    return [(b, a) if turn else (a, b) for (a, b), turn in zip(pairs, turned, strict=True)]


def _plan_from_pairs(
    images: IntArray,
    labels: IntArray,
    anchors: IntArray,
    pairs: list[tuple[int, int, bool]],
    rng: np.random.Generator,
) -> BatchPlan:
    table = np.array(pairs, np.int64).reshape(len(pairs), 3)
    return BatchPlan(
        image_indices=images,
        labels=labels[images],
        anchors=anchors,
        pair_first=table[:, 0],
        pair_second=table[:, 1],
        pair_same=table[:, 2].astype(np.bool_),
        image_seeds=rng.integers(0, 2**64, len(images), np.uint64),
    )


def _positives(records: Sequence[ImageRecord], labels: IntArray) -> list[IntArray]:
    """For each image the images its positive is drawn from, the best kind there is."""
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels.tolist()):
        members[label].append(index)
    other_camera: dict[tuple[int, int], IntArray] = {}
    positives = []
    for index, label in enumerate(labels.tolist()):
        camera = records[index].camera_id
        if (label, camera) not in other_camera:
            other_camera[label, camera] = np.array(
                [i for i in members[label] if records[i].camera_id != camera], np.int64
            )
        candidates = other_camera[label, camera]
        if not candidates.size:
            same_camera = [i for i in members[label] if i != index]
            candidates = np.array(same_camera or [index], np.int64)
        positives.append(candidates)
    return positives


def _checked_labels(
    records: Sequence[ImageRecord], seed: int, rank: int, world_size: int
) -> IntArray:
    """Class of each record; raises for what no sampler can work with."""
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
