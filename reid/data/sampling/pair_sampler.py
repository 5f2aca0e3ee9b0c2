"""Batches of anchors with their positives and negatives, for Siamese training."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from reid.data.sampling.batch_plan import (
    BATCH_STREAM,
    ORDER_STREAM,
    BatchPlan,
    Sampler,
    plan_from_pairs,
)
from reid.data.sampling.other_people import OtherPeople
from reid.errors import DataError
from reid.types import ImageRecord, IntArray


class PairSampler(Sampler):
    """Anchors, each with one positive and ``negatives_per_positive`` negatives.

    In an epoch every image is an anchor ``copies`` times, in one random order; the last
    batch is filled from the start of that order. The positive is a random image of the same
    person from another camera, else from the same camera, else the anchor's own image in
    another slot, augmented differently. A negative is a random image of a random other
    person. Each copy of an anchor in a batch has its own slot and so its own augmentation.
    With ``world_size`` ranks a step uses ``world_size`` batches, disjoint in anchors (the
    copies of an image are different anchors). With fewer anchors than a step needs, batches
    are smaller.

    Two negatives per positive: MSP-CNN section 3.3 and Figure 5 [paper]. Raises DataError
    for fewer than two identities or fewer images than ranks.
    """

    def _prepare(self, records: Sequence[ImageRecord]) -> None:
        self._num_anchors = len(records) * self._config.copies
        if len(records) < self._world:
            raise DataError(
                f"{self._world} processes need at least {self._world} training images, found "
                f"{len(records)}; start fewer processes"
            )
        self._anchors_per_batch = min(
            self._config.anchors_per_batch, self._num_anchors // self._world
        )
        self._positives = _positives(records, self._labels)
        across = self._config.negatives_across_cameras
        self._others = OtherPeople(self._labels, self._cameras, across)

    @property
    def num_batches(self) -> int:
        """ceil(images x copies / (anchors per batch x ranks))."""
        return -(-self._num_anchors // (self._anchors_per_batch * self._world))

    def epoch(self, epoch: int) -> list[BatchPlan]:
        """This rank's batches of one epoch, in order."""
        order = np.random.default_rng([ORDER_STREAM, self._seed, epoch])
        anchors = np.resize(
            order.permutation(self._num_anchors) % len(self._labels),
            (self.num_batches, self._world, self._anchors_per_batch),
        )
        return [
            self._plan(
                anchors[step, self._rank],
                np.random.default_rng([BATCH_STREAM, self._seed, epoch, step, self._rank]),
            )
            for step in range(self.num_batches)
        ]

    def _plan(self, anchors: IntArray, rng: np.random.Generator) -> BatchPlan:
        wanted = self._config.negatives_per_positive
        negatives = self._others.random_images(anchors, wanted, rng)
        draws = rng.random(len(anchors))
        copies: Counter[int] = Counter()
        slots: dict[tuple[int, int], int] = {}  # (image, copy) -> slot, the anchors' first

        def slot_of(image: int, copy: int = 0) -> int:
            return slots.setdefault((image, copy), len(slots))

        for anchor in anchors.tolist():
            slot_of(anchor, copies[anchor])
            copies[anchor] += 1
        pairs: list[tuple[int, int, bool]] = []
        for slot, (anchor, copy) in enumerate(list(slots)):
            candidates = self._positives[anchor]
            positive = int(candidates[int(draws[slot] * len(candidates))])
            # A person's only image is its own positive: use its next copy.
            pairs.append((slot, slot_of(positive, copy + 1 if positive == anchor else 0), True))
            pairs += [(slot, slot_of(image), False) for image in negatives[slot].tolist()]
        images = np.array([image for image, _ in slots], np.int64)
        tables = (self._labels, self._cameras)
        return plan_from_pairs(images, *tables, np.arange(len(anchors)), pairs, rng)


def _positives(records: Sequence[ImageRecord], labels: IntArray) -> list[IntArray]:
    """Candidates for each image's positive: other cameras, else same camera, else itself."""
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
