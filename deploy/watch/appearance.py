"""The appearance of people, as any Matcher's features, and distances between appearances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reid.errors import ConfigError
from reid.matching import Matcher, unit_vectors
from reid.matching.matcher import VECTOR
from reid.types import FloatArray, Image

from ..gallery.limits import pair_limit, usual_limit

Row = Mapping[str, np.ndarray[Any, np.dtype[np.floating[Any]]]]
"""One image's features: named arrays, (1, ...) each."""

SHORTLIST = 20
"""With more appearances than this, a network that compares pairs compares only the nearest ones by
vector."""

MEAN_OF = 50
"""A mean counts as this many features at most, so that it follows changes of light."""


class PersonAppearance:
    """The appearance of one person: the mean of vectors, or two feature maps.

    Feature maps have no mean: a network that compares pairs keeps those with the highest
    detector score and the newest.
    """

    def __init__(self, row: Row, score: float) -> None:
        self.rows: list[Row] = [row]
        self.count = 1
        self.score = score
        """The detector's, of the first row."""

    def add(self, other: PersonAppearance) -> None:
        """Add newer features of the same person."""
        self.count += other.count
        (row,) = other.rows
        if row.keys() == {VECTOR}:
            share = 1 / min(self.count, MEAN_OF)
            mean = (1 - share) * self.rows[0][VECTOR] + share * row[VECTOR]
            self.rows = [{VECTOR: unit_vectors(mean)}]
        elif other.score >= self.score:
            self.rows, self.score = [row], other.score
        else:
            self.rows = [self.rows[0], row]


class AppearanceModel:
    """Computes and compares appearances with ``matcher``.

    ``limit`` is the largest distance of one person's appearances: by default the model's measured
    one, or the usual one of its kind of network. One grey image is run at once, which shows the
    kind of features and warms the model up. Raises ConfigError for a limit with the wrong sign for
    that kind of distance.
    """

    def __init__(self, matcher: Matcher[Any], limit: float | None = None) -> None:
        self._matcher = matcher
        (grey,) = matcher.pieces(matcher.describe([np.full((128, 64, 3), 128, np.uint8)]))
        self.compares_pairs = grey.keys() != {VECTOR}
        self.row_kinds = {name: (array.dtype, array.shape[1:]) for name, array in grey.items()}
        """Name -> dtype and shape of one image's features."""
        self.identity: Mapping[str, str] = dict(matcher.identity)
        """The model's identity."""
        self._has_shortlist = self.compares_pairs and VECTOR in grey
        self.usual = usual = usual_limit(matcher, self.compares_pairs)
        self.pairs = pair_limit(matcher.manifest.thresholds, usual, limit)
        """The limit, and where it comes from."""
        self.limit = self.pairs.distance
        if not 0 < self.limit / usual < math.inf:
            raise ConfigError(
                f"the largest distance must have the sign of {usual} for this network (a pair's "
                f"distance is minus its score); found {self.limit}: change --max-distance"
            )

    def describe(
        self, crops: Sequence[Image], scores: Sequence[float]
    ) -> list[PersonAppearance | None]:
        """The appearance in each crop, all in one call; None where the features are not finite."""
        if not crops:
            return []
        described = self._matcher.describe(crops)
        finite = self._matcher.finite(described)
        rows = [
            {name: np.array(array[index : index + 1]) for name, array in piece.items()}
            for piece in self._matcher.pieces(described)
            for index in range(len(next(iter(piece.values()))))
        ]
        return [
            PersonAppearance(row, score) if good else None
            for row, score, good in zip(rows, scores, finite, strict=True)
        ]

    def distances(
        self, first: Sequence[PersonAppearance], second: Sequence[PersonAppearance]
    ) -> FloatArray:
        """(F, S): the matcher's distances, between the nearest rows of each two appearances.

        Those outside a shortlist get a distance above every limit of scores.
        """
        if not (first and second):
            return np.zeros((len(first), len(second)), np.float32)
        rows, columns = ([len(appearance.rows) for appearance in some] for some in (first, second))
        best = SHORTLIST if self._has_shortlist and sum(columns) > SHORTLIST else 0
        tiles = self._matcher.tiles(self.description(first), self.description(second), best=best)
        table = tiles(slice(0, sum(rows)))
        nearest = np.minimum.reduceat(table, np.cumsum([0, *rows[:-1]]), axis=0)
        nearest = np.minimum.reduceat(nearest, np.cumsum([0, *columns[:-1]]), axis=1)
        return np.asarray(nearest, np.float32)

    def relative(self, distances: FloatArray, limit: float | None = None) -> FloatArray:
        """Distances divided by the limit: 0 or more; above 1 is another person.

        For a score s with the limit s0 it is s0 / s. ``limit`` is another than the model's.
        """
        limit = self.limit if limit is None else limit
        if limit > 0:
            return np.asarray(distances / limit, np.float32)
        scores = np.maximum(-distances, 1e-6)
        return np.asarray(-limit / scores, np.float32)

    def relative_distances(
        self, first: Sequence[PersonAppearance], second: Sequence[PersonAppearance]
    ) -> FloatArray:
        """(F, S): the distances divided by the limit."""
        return self.relative(self.distances(first, second))

    def description(self, some: Sequence[PersonAppearance]) -> Any:
        """All rows of the appearances as the matcher's own features."""
        return features_of(self._matcher, some)


def features_of(matcher: Matcher[Any], some: Sequence[PersonAppearance]) -> Any:
    """All rows of the appearances as the matcher's own features."""
    rows = [row for appearance in some for row in appearance.rows]
    return matcher.from_pieces(
        [{name: np.concatenate([row[name] for row in rows]) for name in rows[0]}]
    )
