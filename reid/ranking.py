"""Distances, and where each right gallery image stands in a query's ranking.

Queries are worked in tiles, so no (queries x gallery) matrix is ever whole in memory. A
right image's rank is found by counting the gallery images before it, which is a few
passes over a row instead of a sort of it.

Market-1501's rules (``market_evaluation/utils/evaluation.m`` of
zhunzhong07/IDE-baseline-Market-1501) decide what counts:

- good: the query's identity seen by another camera;
- junk, skipped before ranks are counted: ``person_id`` -1, and the query's identity seen
  by the query's own camera;
- everything else is wrong, the distractors of ``person_id`` 0 included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from reid.errors import DataError, ModelFileError
from reid.types import (
    DISTRACTOR_ID,
    JUNK_ID,
    FloatArray,
    ImageRecord,
    IntArray,
    Ranking,
)

Distances = Callable[[slice], FloatArray]
"""Rows of queries -> their (rows, gallery) distances: how pair networks supply their own."""

TILE = 128
"""Queries per tile: 42 MB of distances against the 82,161 gallery images of MSMT17."""


class Labelled(Protocol):
    """Whatever knows whom its N images show, seen by which camera."""

    @property
    def person_ids(self) -> IntArray: ...

    @property
    def camera_ids(self) -> IntArray: ...


class Labels(NamedTuple):
    """Identities and cameras of N images, (N,) int64 each, without their vectors."""

    person_ids: IntArray
    camera_ids: IntArray


def labels_from_records(records: Sequence[ImageRecord]) -> Labels:
    """The labels of images on disk, in their order."""
    return Labels(
        np.array([record.person_id for record in records], np.int64),
        np.array([record.camera_id for record in records], np.int64),
    )


def euclidean_distances(query: FloatArray, gallery: FloatArray) -> FloatArray:
    """Euclidean distances of (Q, D) and (G, D) float32 vectors: (Q, G) float32.

    Computed as |q|^2 - 2 q.g + |g|^2, one matrix product: for unit vectors the squares
    are right to about 1e-6. Raises ValueError where the vectors' sizes differ.
    """
    return _euclidean(query, gallery, _squares(gallery))


def euclidean_tiles(query: FloatArray, gallery: FloatArray) -> Distances:
    """``euclidean_distances`` tile by tile, the gallery's squares computed once."""
    squares = _squares(gallery)
    return lambda rows: _euclidean(query[rows], gallery, squares)


def _squares(vectors: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("nd,nd->n", vectors, vectors), np.float32)


def _euclidean(query: FloatArray, gallery: FloatArray, gallery_squares: FloatArray) -> FloatArray:
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"(Q, D) and (G, D) vectors of one size D expected, "
            f"found {query.shape} and {gallery.shape}"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # tiles_of refuses what overflows
        distances: FloatArray = (np.float32(-2) * query) @ gallery.T
        distances += gallery_squares
        distances += _squares(query)[:, None]
    np.maximum(distances, 0, out=distances)  # rounding may leave a twin just below zero
    np.sqrt(distances, out=distances)
    return distances


def tiles_of(
    distances: Distances, query: Labelled, gallery: Labelled, tile: int = TILE
) -> Iterator[tuple[slice, FloatArray]]:
    """Each tile's query rows and its checked (rows, gallery) distances.

    Raises DataError for an empty side, ModelFileError for a distance that is not finite
    (it would compare as smaller than nothing, and so pass for a perfect answer), and
    ValueError for a tile of another shape.
    """
    num_query, num_gallery = len(query.person_ids), len(gallery.person_ids)
    for name, num in (("query", num_query), ("gallery", num_gallery)):
        if num == 0:
            raise DataError(f"the {name} is empty: at least one image is needed to rank")
    if tile < 1:
        raise ValueError(f"a tile has at least 1 query, found {tile}")
    for start in range(0, num_query, tile):
        rows = slice(start, min(start + tile, num_query))
        block = distances(rows)
        if block.shape != (rows.stop - start, num_gallery):
            raise ValueError(
                f"distances of queries {start}..{rows.stop - 1} must have shape "
                f"({rows.stop - start}, {num_gallery}), found {block.shape}"
            )
        if not (np.isfinite(block.max()) and np.isfinite(block.min())):
            bad = start + int(np.argmin(np.isfinite(block).all(axis=1)))
            raise ModelFileError(
                f"the distances of query {bad} are not all finite: the model's output holds "
                "NaN or infinity; check its weights, or use FP32"
            )
        yield rows, block


class MarketRules:
    """Which gallery images are good, and which are skipped, for a query.

    The gallery is grouped by identity once, so a query costs two binary searches.
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
        """Gallery indices, ascending, of the right answers and of those never ranked.

        A query of nobody (a distractor or junk) has no right answer.
        """
        if person_id in (DISTRACTOR_ID, JUNK_ID):
            return np.zeros(0, np.int64), self._junk
        same = self._images_of(person_id)
        own_camera = self._camera_ids[same] == camera_id
        own = same[own_camera]
        skipped = np.concatenate([self._junk, own]) if self._junk.size else own
        return same[~own_camera], skipped


def ranks_of_good(row: FloatArray, good: IntArray, skipped: IntArray) -> IntArray:
    """0-based ranks, ascending, of the ``good`` images in one query's distances (G,).

    The rank is the number of gallery images not skipped that are nearer, or as near and
    earlier in the gallery: what a stable sort gives, without sorting.
    """
    ranks = np.empty(len(good), np.int64)
    skipped_distances = row[skipped]
    for i, index in enumerate(good):
        distance = row[index]
        nearer = np.count_nonzero(row[:index] <= distance)
        nearer += np.count_nonzero(row[index + 1 :] < distance)
        uncounted = skipped_distances < distance
        uncounted |= (skipped_distances == distance) & (skipped < index)
        ranks[i] = nearer - np.count_nonzero(uncounted)
    ranks.sort()
    return ranks


def market_ranks(
    distances: Distances, query: Labelled, gallery: Labelled, *, tile: int = TILE
) -> list[IntArray]:
    """For each query, the 0-based ranks of its good images; empty where it has none."""
    rules = MarketRules(gallery)
    ranks: list[IntArray] = []
    for rows, block in tiles_of(distances, query, gallery, tile):
        people, cameras = query.person_ids[rows], query.camera_ids[rows]
        for row, person, camera in zip(block, people, cameras, strict=True):
            ranks.append(ranks_of_good(row, *rules.good_and_skipped(int(person), int(camera))))
    return ranks


def rank_distances(
    distances: Distances, query: Labelled, gallery: Labelled, k: int, *, tile: int = TILE
) -> Ranking:
    """The ``k`` nearest gallery images of each query, nearest first, by Market's rules.

    Equal distances keep the gallery's order. Raises DataError for an empty side,
    ModelFileError for distances that are not finite.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    rules = MarketRules(gallery)
    num_query = len(query.person_ids)
    indices = np.full((num_query, k), -1, np.int64)
    nearest = np.full((num_query, k), np.inf, np.float32)
    correct = np.zeros((num_query, k), np.bool_)
    for rows, block in tiles_of(distances, query, gallery, tile):
        for q, distances_of_query in enumerate(block, start=rows.start):
            person, camera = int(query.person_ids[q]), int(query.camera_ids[q])
            good, skipped = rules.good_and_skipped(person, camera)
            row = distances_of_query.copy()
            row[skipped] = np.inf
            top = _nearest(row, k)
            indices[q, : len(top)] = top
            nearest[q, : len(top)] = row[top]
            correct[q, : len(top)] = np.isin(top, good)
    return Ranking(indices, nearest, correct)


def _nearest(row: FloatArray, k: int) -> IntArray:
    """Indices of the up to ``k`` smallest finite values, stable on ties."""
    if k < len(row):
        candidates = np.flatnonzero((row <= np.partition(row, k - 1)[k - 1]) & (row < np.inf))
    else:
        candidates = np.flatnonzero(row < np.inf)
    return candidates[np.argsort(row[candidates], kind="stable")][:k].astype(np.int64)
