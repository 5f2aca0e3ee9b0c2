"""Every pair of a person's images, augmented copies included: what X-Corr's code calls an epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import overload

import numpy as np

from reid.data.augment import CopyKind
from reid.data.sampling.batch_plan import (
    BATCH_STREAM,
    COPY_STREAM,
    ORDER_STREAM,
    BatchPlan,
    Sampler,
    SeedArray,
    plan_from_pairs,
)
from reid.data.sampling.other_people import OtherPeople
from reid.errors import DataError
from reid.types import ImageRecord, IntArray


class AllPairsSampler(Sampler):
    """Each pair of one person's images once an epoch, with ``negatives_per_positive`` negatives.

    Each image counts ``copies`` times, augmented anew for each copy; two copies of one image are a
    pair too. ``across_cameras`` leaves only pairs of two cameras. A negative is the pair's first
    image with a random copy of a random image of a random other person. A batch has
    ``anchors_per_batch`` positives; the last one is filled from the start of the order. With
    ``fixed_copies`` a copy is augmented alike in all epochs, as files on a disk would be; with
    ``copy_kinds`` ``written`` the first is the image itself, the last its mirror, and those between
    are shifted.

    Nothing is listed: a million pairs are one order of numbers, and a batch's pairs are computed
    when it is asked for. With ``world_size`` ranks a step uses that many disjoint batches.

    From X-Corr's public code, which CSN's augmentation follows (trainMultiGPU.lua,
    dataAugmentation.lua). Inferred: which image of a pair comes first is drawn, as in the other
    samplers. Raises DataError where no person has two images to pair, or for too few pairs.
    """

    def _prepare(self, records: Sequence[ImageRecord]) -> None:
        copies = self._config.copies
        images = _by_person_and_camera(records, self._labels)
        self._items = (images[:, None] * copies + np.arange(copies)).ravel()
        """Copies in order: of one person together, of one camera together."""
        ends = _ends_of_groups(self._labels[self._items // copies])
        starts = np.arange(1, len(self._items) + 1)
        if self._config.across_cameras:
            starts = _ends_of_groups(self._cameras[self._items // copies], ends)
        self._first_partner = starts
        self._pairs_until = np.cumsum(ends - starts)
        self._num_pairs = int(self._pairs_until[-1])
        if self._num_pairs < self._world:
            where = "of two cameras " if self._config.across_cameras else ""
            raise DataError(
                f"{self._world} process(es) need at least {self._world} pairs of one person's "
                f"images {where}to train on, found {self._num_pairs}; raise sampler.copies, or use "
                "sampler.kind pairs"
            )
        self._per_batch = min(self._config.anchors_per_batch, self._num_pairs // self._world)
        across = self._config.negatives_across_cameras
        self._others = OtherPeople(self._labels, self._cameras, across)

    @property
    def num_pairs(self) -> int:
        """Positive pairs of an epoch."""
        return self._num_pairs

    @property
    def num_batches(self) -> int:
        """ceil(pairs / (positives per batch x ranks))."""
        return -(-self._num_pairs // (self._per_batch * self._world))

    def epoch(self, epoch: int) -> Sequence[BatchPlan]:
        """This rank's batches of one epoch, in order; each is made when it is taken."""
        return _Epoch(self, epoch)

    def order(self, epoch: int) -> IntArray:
        """(batches, positives per batch): this rank's numbers of pairs, in the epoch's order."""
        rng = np.random.default_rng([ORDER_STREAM, self._seed, epoch])
        shape = (self.num_batches, self._world, self._per_batch)
        return np.resize(rng.permutation(self._num_pairs), shape)[:, self._rank]

    def plan(self, pairs: IntArray, epoch: int, step: int) -> BatchPlan:
        """The batch of the pairs with these numbers."""
        rng = np.random.default_rng([BATCH_STREAM, self._seed, epoch, step, self._rank])
        first, second = self._pair(pairs)
        turned = rng.random(len(pairs)) < 0.5
        first, second = np.where(turned, second, first), np.where(turned, first, second)
        copies, wanted = self._config.copies, self._config.negatives_per_positive
        other = self._others.random_images(first // copies, wanted, rng)
        negatives = other * copies + rng.integers(0, copies, other.shape)

        items, slots = np.unique(
            np.concatenate([first, second, negatives.ravel()]), return_inverse=True
        )
        count = len(pairs)
        firsts, seconds = slots[:count], slots[count : 2 * count]
        table = np.column_stack([firsts, seconds, slots[2 * count :].reshape(count, wanted)])
        rows = [
            (row[0], slot, place == 0)
            for row in table.tolist()
            for place, slot in enumerate(row[1:])
        ]
        images = items // copies
        tables = (self._labels, self._cameras)
        plan = plan_from_pairs(images, *tables, np.unique(firsts), rows, rng)
        plan.image_seeds[:] = self._seeds(items, epoch)
        return dataclasses.replace(plan, image_kinds=self._kinds(items % copies))

    def _pair(self, numbers: IntArray) -> tuple[IntArray, IntArray]:
        """The two copies of each pair."""
        first = np.searchsorted(self._pairs_until, numbers, side="right")
        left = self._pairs_until[first] - numbers
        # A copy's partners end where those of its person do: counted from the last one backwards.
        last = self._first_partner[first] + self._count_of(first)
        return self._items[first], self._items[last - left]

    def _kinds(self, numbers: IntArray) -> tuple[CopyKind, ...]:
        """How copies with these numbers are augmented: as X-Corr writes them, or by chance."""
        if self._config.copy_kinds == "drawn":
            return ()
        last = self._config.copies - 1
        kinds: dict[int, CopyKind] = {last: "mirrored", 0: "image"}
        return tuple(kinds.get(number, "shifted") for number in numbers.tolist())

    def _count_of(self, first: IntArray) -> IntArray:
        before = np.where(first > 0, self._pairs_until[first - 1], 0)
        return np.asarray(self._pairs_until[first] - before)

    def _seeds(self, items: IntArray, epoch: int) -> SeedArray:
        """A seed for each copy: of this epoch, or with ``fixed_copies`` of the run."""
        words = [COPY_STREAM, self._seed] + ([] if self._config.fixed_copies else [epoch])
        base = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
        return _mixed(base + items.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


class _Epoch(Sequence[BatchPlan]):
    """The batches of an epoch, each made when it is taken."""

    def __init__(self, sampler: AllPairsSampler, epoch: int) -> None:
        self._sampler, self._number = sampler, epoch
        self._order = sampler.order(epoch)

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> BatchPlan: ...
    @overload
    def __getitem__(self, index: slice) -> list[BatchPlan]: ...
    def __getitem__(self, index: int | slice) -> BatchPlan | list[BatchPlan]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        step = range(len(self))[index]
        return self._sampler.plan(self._order[step], self._number, step)


def _by_person_and_camera(records: Sequence[ImageRecord], labels: IntArray) -> IntArray:
    cameras = np.array([record.camera_id for record in records])
    return np.lexsort((cameras, labels)).astype(np.int64)


def _ends_of_groups(keys: IntArray, within: IntArray | None = None) -> IntArray:
    """(N,): for each position the end of its run of equal keys (and of equal ``within``)."""
    changed = keys[1:] != keys[:-1]
    if within is not None:
        changed = changed | (within[1:] != within[:-1])
    ends = np.append(np.flatnonzero(changed) + 1, len(keys))
    return np.repeat(ends, np.diff(ends, prepend=0)).astype(np.int64)


def _mixed(values: SeedArray) -> SeedArray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): neighbours get unlike seeds."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)), np.uint64)
