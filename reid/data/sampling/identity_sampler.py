"""Batches of P identities with K images each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

import numpy as np

from reid.data.sampling.batch_plan import (
    BATCH_STREAM,
    ORDER_STREAM,
    BatchPlan,
    Sampler,
    plan_from_pairs,
)
from reid.errors import ConfigError, DataError
from reid.types import ImageRecord

Item = TypeVar("Item")


class IdentitySampler(Sampler):
    """P identities x K images; each image is an anchor, pairs are formed within the batch.

    Identities come in random order, each once before any is repeated. A person's K images are
    distinct if there are at least K. They are taken from the person's cameras in turn, so that
    rare cameras are not underrepresented. Positives are all unordered pairs; each positive has
    ``negatives_per_positive`` negatives: its first image with a random image of another
    person, with ``negatives_across_cameras`` of another camera if the batch has one. An epoch has
    ceil(images / (P x K x ranks)) batches; ranks share no identity within a step.

    Raises DataError for fewer identities than P x ranks, ConfigError for P = 1 and for
    ``copies``, which is a setting of the pair sampler.
    """

    def _prepare(self, records: Sequence[ImageRecord]) -> None:
        config = self._config
        self._identities_per_step = config.identities_per_batch * self._world
        if config.identities_per_batch < 2:
            raise ConfigError(
                "sampler.identities_per_batch must be at least 2 (there are no negatives "
                f"within one identity), found {config.identities_per_batch}"
            )
        if config.copies != 1:
            raise ConfigError(
                "sampler.copies is a setting of sampler.kind pairs; with identities it must be "
                f"1, found {config.copies}"
            )
        cameras: defaultdict[int, defaultdict[int, list[int]]]
        cameras = defaultdict(lambda: defaultdict(list))
        for index, label in enumerate(self._labels.tolist()):
            cameras[label][records[index].camera_id].append(index)
        self._by_camera = [list(cameras[label].values()) for label in range(len(cameras))]
        if len(cameras) < self._identities_per_step:
            raise DataError(
                f"batches of {config.identities_per_batch} identities on {self._world} "
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
        order = np.random.default_rng([ORDER_STREAM, self._seed, epoch])
        rng = np.random.default_rng([BATCH_STREAM, self._seed, epoch, 0, self._rank])
        identities = _Deck(range(len(self._by_camera)), order)
        images = [[_Deck(camera, rng) for camera in cameras] for cameras in self._by_camera]
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
        cameras = self._cameras[images].ravel()
        for row in range(len(slots)):
            others = np.delete(slots, row, axis=0).ravel()
            for first, second in _unordered_pairs(slots[row].tolist(), rng):
                pairs.append((first, second, True))
                allowed = others
                if self._config.negatives_across_cameras:
                    across = others[cameras[others] != cameras[first]]
                    allowed = across if across.size else others
                for other in rng.choice(allowed, self._config.negatives_per_positive).tolist():
                    pairs.append((first, other, False))
        tables = (self._labels, self._cameras)
        return plan_from_pairs(images.ravel(), *tables, slots.ravel(), pairs, rng)


class _Deck(Generic[Item]):
    """Items dealt in random order, each once before any is repeated."""

    def __init__(self, items: Iterable[Item], rng: np.random.Generator) -> None:
        self._items, self._rng = list(items), rng
        self._left: list[Item] = []

    def __len__(self) -> int:
        return len(self._items)

    def deal(self, count: int) -> list[Item]:
        """``count`` items, all distinct if the deck has as many."""
        hand: list[Item] = []
        while len(hand) < count:
            if not self._left:
                fresh = [self._items[i] for i in self._rng.permutation(len(self._items))]
                # Items already in the hand go to the bottom of the new deck.
                self._left = sorted(fresh, key=hand.__contains__)
            missing = count - len(hand)
            hand += self._left[:missing]
            self._left = self._left[missing:]
        return hand


def _mixed_hand(cameras: Sequence[_Deck[int]], count: int, rng: np.random.Generator) -> list[int]:
    """``count`` images taken from the cameras in turn, starting at a random camera.

    The images are distinct if there are ``count`` in total; otherwise they repeat.
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
    """Every pair once, swapped at random: the losses treat the two sides differently."""
    pairs = [(a, b) for i, a in enumerate(slots) for b in slots[i + 1 :]]
    turned = rng.random(len(pairs)) < 0.5
    return [(b, a) if turn else (a, b) for (a, b), turn in zip(pairs, turned, strict=True)]
