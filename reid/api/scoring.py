"""Evaluating distances of any model by the field's protocol, for your own arrays."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid.api.arrays import checked_matrix
from reid.errors import ConfigError, InputError
from reid.evaluation.scoring import ANY_CAMERA, measure
from reid.matching.labels import Labels
from reid.types import JUNK_ID, FloatArray, IntArray, Protocol

_ZERO = 1e-3
"""The distance of an image to itself, as a share of the mean: rounding of float32 vectors."""

_OWN_MATCHES = (
    "every query has a correct match at distance 0, as if it were in the gallery itself: the "
    "results are too good; take the query images out of the gallery, or give cameras"
)

Ids = Sequence[int] | Sequence[str] | npt.NDArray[np.generic]
"""Identities or cameras: whole numbers or names."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Retrieval results, all of them shares of 1.

    ``mAP`` is the mean of the precision at each hit (as scikit-learn and torchreid compute it),
    ``mAP_trapezoid`` Market-1501's own definition. ``cmc`` maps rank k to the share of queries
    with a correct match within k. Queries without a correct match in the gallery are counted in
    ``num_unanswerable`` and excluded from every mean.
    """

    rank1: float
    mAP: float
    mAP_trapezoid: float
    mINP: float
    cmc: Mapping[int, float]
    num_query: int
    num_unanswerable: int


def score(
    distances: npt.ArrayLike,
    query_ids: Ids,
    gallery_ids: Ids,
    query_cameras: Ids | None = None,
    gallery_cameras: Ids | None = None,
    *,
    protocol: str = "market",
    trials: int = 1,
    shots: int = 1,
    seed: int = 0,
) -> Figures:
    """CMC, mAP and mINP of distances (Q, G), where smaller is more similar.

    ``query_ids`` (Q,) and ``gallery_ids`` (G,) are identities, as numbers or names. A gallery
    image of identity -1 is junk: it is skipped, as in Market-1501. With cameras a query never
    matches an image of its own identity and camera; without them every image of its identity is
    a correct match, and a warning says so if that seems to be the query itself. ``protocol`` is
    ``market`` (the whole gallery), ``single_shot`` or ``multi_shot`` (random draws of ``shots``
    images an identity, ``trials`` of them from ``seed``), or ``any_camera`` (both sides are the
    same images; one drawn of each identity is the gallery, all others are queries).

    Raises InputError for arrays of other shapes, lengths or kinds, ConfigError for an unknown
    protocol or less than one trial or shot.

    >>> figures = reid.score([[0.1, 0.9], [0.2, 0.8]], ["ann", "bob"], ["ann", "bob"])
    >>> figures.rank1, figures.mAP
    (0.5, 0.75)
    """
    matrix = checked_matrix(distances, "distances")
    people = _numbers("query_ids", query_ids, "gallery_ids", gallery_ids, matrix.shape)
    if (query_cameras is None) != (gallery_cameras is None):
        raise InputError(
            "query_cameras and gallery_cameras go together; found only one: give both, or neither"
        )
    if query_cameras is None or gallery_cameras is None:
        if protocol != ANY_CAMERA and _are_in_the_gallery(matrix, *people):
            warnings.warn(_OWN_MATCHES, stacklevel=2)
        cameras = np.zeros(matrix.shape[0], np.int64), np.ones(matrix.shape[1], np.int64)
    else:
        cameras = _numbers(
            "query_cameras", query_cameras, "gallery_cameras", gallery_cameras, matrix.shape
        )
    if protocol == "multi_query":
        raise ConfigError(
            "multi_query averages embeddings; it needs more than distances, choose market"
        )
    query, gallery = (Labels(*sides) for sides in zip(people, cameras, strict=True))
    rules = Protocol(protocol, trials=trials, seed=seed, shots=shots)
    scores = measure(lambda rows: matrix[rows], query, gallery, rules).scores
    return Figures(
        rank1=scores.cmc[1],
        mAP=scores.map_step,
        mAP_trapezoid=scores.map_trapezoid,
        mINP=scores.minp,
        cmc=dict(scores.cmc),
        num_query=scores.num_query,
        num_unanswerable=scores.num_unanswerable,
    )


def _are_in_the_gallery(matrix: FloatArray, query: IntArray, gallery: IntArray) -> bool:
    """Whether every query (of two or more) has a correct match at distance 0: itself."""
    near = np.abs(matrix) <= _ZERO * np.mean(np.abs(matrix))
    return len(query) > 1 and bool((near & (query[:, None] == gallery)).any(axis=1).all())


def _numbers(
    first: str, first_ids: Ids, second: str, second_ids: Ids, shape: tuple[int, ...]
) -> tuple[IntArray, IntArray]:
    """Both sides' names or numbers, renumbered from 1; -1 stays. Raises InputError."""
    one, other = (
        _checked(name, ids, length)
        for name, ids, length in zip((first, second), (first_ids, second_ids), shape, strict=True)
    )
    if (one.dtype.kind == "U") != (other.dtype.kind == "U"):
        raise InputError(
            f"{first} are {one.dtype}, {second} {other.dtype}; expected numbers in both or names "
            "in both"
        )
    both = np.concatenate([one, other])
    _, numbers = np.unique(both, return_inverse=True)
    numbers = numbers.reshape(-1).astype(np.int64) + 1
    if both.dtype.kind != "U":
        numbers[both == JUNK_ID] = JUNK_ID
    return numbers[: len(one)], numbers[len(one) :]


def _checked(name: str, ids: Ids, length: int) -> npt.NDArray[np.generic]:
    array = np.asarray(ids)
    if array.dtype == object and all(isinstance(one, str) for one in array.flat):
        array = array.astype(str)
    if array.dtype.kind not in "iuU":
        raise InputError(f"{name} are {array.dtype}; expected whole numbers or names")
    if array.shape != (length,):
        raise InputError(
            f"{name} have shape {array.shape}; expected ({length},), one for each row or column "
            "of the distances"
        )
    return array
