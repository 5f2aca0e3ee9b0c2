"""The pairs of different people that are nearest, and all of one person's, from tiles.

A threshold is at a false positive rate of a hundredth or less, so only that share of the pairs of
different people is kept: the rest is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reid.evaluation.ranking import Tile
from reid.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class NearestPairs:
    """The K nearest pairs of different people, and all P pairs of one person over two cameras.

    ``distances`` (K,) ascend; of pairs as far apart as the last some may be missing. ``queries``
    and ``images`` (K,) say whose they are. ``per_query`` (Q,) counts all gallery images of other
    people, 0 for a query that does not count. ``same`` (P,) are distances, ``same_queries`` (P,)
    whose.
    """

    distances: FloatArray
    queries: IntArray
    images: IntArray
    per_query: IntArray
    same: FloatArray
    same_queries: IntArray

    @property
    def num_different(self) -> int:
        """How many pairs of different people there are."""
        return int(self.per_query.sum())

    def up_to(self, distance: float) -> int:
        """How many pairs of different people are accepted up to a distance that was kept."""
        return int(np.searchsorted(self.distances, np.float32(distance), side="right"))


class PairCollector:
    """Collects from tiles; ``share`` of the pairs of different people is kept, the nearest ones.

    ``counted`` (Q,) says which queries count: not those without an identity.
    """

    def __init__(self, counted: BoolArray, num_gallery: int, share: float) -> None:
        self._counted = counted
        self._kept = 1 + int(np.ceil(share * len(counted) * num_gallery))
        self._bound = np.float32(np.inf)
        self._parts: list[tuple[FloatArray, IntArray, IntArray]] = []
        self._waiting = 0
        self._per_query = np.zeros(len(counted), np.int64)
        self._same: list[tuple[FloatArray, IntArray]] = []

    def add(self, tile: Tile) -> None:
        """One tile of distances."""
        numbers = np.arange(tile.rows.start, tile.rows.stop)
        near = tile.ranked <= self._bound
        near[~np.isfinite(tile.ranked)] = False
        for row, (query, good, out) in enumerate(
            zip(numbers, tile.good, tile.skipped, strict=True)
        ):
            near[row, good] = False
            if not self._counted[query]:
                near[row] = False
                continue
            self._per_query[query] = tile.distances.shape[1] - len(good) - len(out)
            self._same.append((tile.distances[row, good], np.full(len(good), query)))
        rows, columns = np.nonzero(near)
        self._parts.append((tile.distances[rows, columns], numbers[rows], columns))
        self._waiting += len(rows)
        if self._waiting > 2 * self._kept:
            self._parts = [self._nearest()]
            self._waiting = len(self._parts[0][0])
            self._bound = self._parts[0][0].max()

    def _nearest(self) -> tuple[FloatArray, IntArray, IntArray]:
        """The nearest of what was collected."""
        distances, queries, images = (
            np.concatenate(part) for part in zip(*self._parts, strict=True)
        )
        if len(distances) > self._kept:
            chosen = np.argpartition(distances, self._kept - 1)[: self._kept]
            distances, queries, images = distances[chosen], queries[chosen], images[chosen]
        return distances, queries, images

    def found(self) -> NearestPairs:
        """What was collected; at least one tile must have been added."""
        distances, queries, images = self._nearest()
        order = np.argsort(distances, kind="stable")
        none = (np.zeros(0, np.float32), np.zeros(0, np.int64))
        same, same_queries = (np.concatenate(part) for part in zip(none, *self._same, strict=True))
        return NearestPairs(
            distances[order],
            queries[order],
            images[order],
            self._per_query,
            same.astype(np.float32),
            same_queries,
        )
