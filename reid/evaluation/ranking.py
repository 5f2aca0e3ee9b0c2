"""Ranks of the correct matches in each query's ranking of the gallery.

All results are accumulated in one pass over tiles of distances, so a network that compares
pairs compares each pair once. The rank of a match is the number of gallery images before it;
counting them takes a few passes over a row, which is faster than sorting the row.

Market-1501's rules (``market_evaluation/utils/evaluation.m`` of
zhunzhong07/IDE-baseline-Market-1501) decide what counts:

- good (a correct match): the query's identity seen by another camera;
- junk, skipped before ranks are counted: ``person_id`` -1, and the query's identity seen
  by the query's own camera;
- everything else is wrong, including distractors (``person_id`` 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np

from reid.evaluation.metrics import CMC_RANKS, Scores, scores_from_ranks
from reid.matching.distances import TILE, Distances, tiles_of
from reid.matching.labels import Labelled
from reid.types import DISTRACTOR_ID, JUNK_ID, FloatArray, IntArray, Ranking

_GROUP = 32
"""Number of distances per group; a first search only looks at the minimum of each group."""


class MarketRules:
    """Finds the good and the skipped gallery images of a query.

    The gallery is sorted by identity once, so that a query takes two binary searches.
    """

    def __init__(self, gallery: Labelled) -> None:
        self._order = np.argsort(gallery.person_ids, kind="stable").astype(np.int64)
        self._sorted_ids = gallery.person_ids[self._order]
        self._camera_ids = gallery.camera_ids
        self._junk = self._images_of(JUNK_ID)

    def _images_of(self, person_id: int) -> IntArray:
        first, last = np.searchsorted(self._sorted_ids, [person_id, person_id + 1])
        return self._order[first:last]

    def good_and_skipped(self, person_id: int, camera_id: int) -> tuple[IntArray, IntArray]:
        """Gallery indices of the correct matches, ascending, and of the images never ranked.

        A query that is a distractor or junk has no correct match.
        """
        if person_id in (DISTRACTOR_ID, JUNK_ID):
            return np.zeros(0, np.int64), self._junk
        same = self._images_of(person_id)
        own_camera = self._camera_ids[same] == camera_id
        own = same[own_camera]
        skipped = np.concatenate([self._junk, own]) if self._junk.size else own
        return same[~own_camera], skipped

    def of_query(self, row: int, person_id: int, camera_id: int) -> tuple[IntArray, IntArray]:
        """The same for the query in this row of the distances."""
        return self.good_and_skipped(person_id, camera_id)


class OtherViewRules(MarketRules):
    """Rules for CUHK and VIPeR: as Market's, but no image of the query's camera is ranked."""

    def __init__(self, gallery: Labelled) -> None:
        super().__init__(gallery)
        is_junk = gallery.person_ids == JUNK_ID
        self._skipped = {
            int(camera): np.flatnonzero(is_junk | (gallery.camera_ids == camera))
            for camera in np.unique(gallery.camera_ids)
        }

    def good_and_skipped(self, person_id: int, camera_id: int) -> tuple[IntArray, IntArray]:
        good, _ = super().good_and_skipped(person_id, camera_id)
        return good, self._skipped.get(camera_id, self._junk)


class AnyCameraRules(MarketRules):
    """Rules where queries and gallery are the same images in the same order.

    Every other image of the query's person is a correct match, of the query's camera too; the query
    itself is skipped.
    """

    def of_query(self, row: int, person_id: int, camera_id: int) -> tuple[IntArray, IntArray]:
        """See ``MarketRules``."""
        same = self._images_of(person_id)
        if person_id in (DISTRACTOR_ID, JUNK_ID):
            same = same[:0]
        return same[same != row], np.append(self._junk, np.int64(row))


class Tile(NamedTuple):
    """The distances of some queries, and the result of the rules for each of them.

    ``ranked`` are the ``distances`` (rows, G) with infinity for skipped images; ``good`` and
    ``skipped`` are each query's gallery indices.
    """

    rows: slice
    distances: FloatArray
    ranked: FloatArray
    good: list[IntArray]
    skipped: list[IntArray]


class Accumulator(Protocol):
    """Collects results from one tile after the other."""

    def add(self, tile: Tile) -> None: ...


def pass_over(
    distances: Distances,
    query: Labelled,
    gallery: Labelled,
    rules: MarketRules,
    accumulators: Sequence[Accumulator],
    *,
    tile: int = TILE,
) -> None:
    """Compute every distance once, and pass each tile to all ``accumulators``.

    They process a tile in a second thread while the next one is computed. Raises the same
    errors as ``tiles_of``.
    """

    def show(rows: slice, block: FloatArray) -> None:
        judged = _judged(rows, block, query, rules)
        for accumulator in accumulators:
            accumulator.add(judged)

    with ThreadPoolExecutor(1) as second:
        shown = second.submit(lambda: None)
        for rows, block in tiles_of(
            distances, len(query.person_ids), len(gallery.person_ids), tile
        ):
            shown.result()
            shown = second.submit(show, rows, block)
        shown.result()


def _judged(rows: slice, block: FloatArray, query: Labelled, rules: MarketRules) -> Tile:
    people, cameras = query.person_ids[rows].tolist(), query.camera_ids[rows].tolist()
    numbers = range(rows.start, rows.start + len(people))
    judged = [rules.of_query(*one) for one in zip(numbers, people, cameras, strict=True)]
    ranked = block.copy()
    for row, (_, skipped) in zip(ranked, judged, strict=True):
        row[skipped] = np.inf
    return Tile(rows, block, ranked, [good for good, _ in judged], [out for _, out in judged])


def ranks_of_good(row: FloatArray, good: IntArray) -> IntArray:
    """0-based ranks, ascending, of the ``good`` images in one query's distances (G,).

    The rank is the number of gallery images that are nearer, or equally near and earlier in the
    gallery. That equals the rank by a stable sort. Infinite distances are never ranked.
    """
    ranks = np.empty(len(good), np.int64)
    before = np.empty(len(row), np.bool_)
    for i, index in enumerate(good.tolist()):
        distance = row[index]
        np.less_equal(row[:index], distance, out=before[:index])
        np.less(row[index:], distance, out=before[index:])
        ranks[i] = np.count_nonzero(before)
    ranks.sort()
    return ranks


class RanksOfGood:
    """For each query, the 0-based ranks of its good images; empty if it has none."""

    def __init__(self) -> None:
        self.ranks: list[IntArray] = []

    def add(self, tile: Tile) -> None:
        self.ranks += map(ranks_of_good, tile.ranked, tile.good)

    def scores(self, cmc_ranks: Sequence[int] = CMC_RANKS) -> Scores:
        return scores_from_ranks(self.ranks, cmc_ranks)


class Nearest:
    """The ``k`` nearest gallery images of each query, nearest first; ties in gallery order."""

    def __init__(self, num_query: int, k: int) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, found {k}")
        self.ranking = Ranking(
            indices=np.full((num_query, k), -1, np.int64),
            distances=np.full((num_query, k), np.inf, np.float32),
            correct=np.zeros((num_query, k), np.bool_),
        )

    def add(self, tile: Tile) -> None:
        indices, nearest, correct = (
            array[tile.rows]
            for array in (self.ranking.indices, self.ranking.distances, self.ranking.correct)
        )
        for i, (row, good) in enumerate(zip(tile.ranked, tile.good, strict=True)):
            top = nearest_in(row, indices.shape[1])
            indices[i, : len(top)] = top
            nearest[i, : len(top)] = row[top]
            correct[i, : len(top)] = (top[:, None] == good).any(axis=1)


def rank_distances(
    distances: Distances, query: Labelled, gallery: Labelled, k: int, *, tile: int = TILE
) -> Ranking:
    """The ``k`` nearest gallery images of each query, nearest first, by Market's rules.

    Equal distances keep the gallery's order. Raises DataError for an empty side,
    ModelFileError for distances that are not finite.
    """
    nearest = Nearest(len(query.person_ids), k)
    pass_over(distances, query, gallery, MarketRules(gallery), [nearest], tile=tile)
    return nearest.ranking


def nearest_in(row: FloatArray, k: int) -> IntArray:
    """Indices of the up to ``k`` smallest finite values, stable on ties."""
    bound = np.float32(np.finfo(np.float32).max)
    # The k-th smallest group minimum is an upper bound: at least k values are no greater. There
    # are far fewer minima to search than values in the row.
    width = len(row) // _GROUP
    minima = row[: width * _GROUP].reshape(_GROUP, width).min(axis=0) if k <= width else row
    if k <= len(minima):
        bound = min(bound, np.partition(minima, k - 1)[k - 1])
    candidates = np.flatnonzero(row <= bound)
    return candidates[np.argsort(row[candidates], kind="stable")][:k].astype(np.int64)
