"""What people look like, in the words of any Matcher, and how unlike they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reid.errors import ConfigError
from reid.matching import Matcher, unit_vectors
from reid.matching.matcher import VECTOR
from reid.types import FloatArray, Image

Row = Mapping[str, np.ndarray[Any, np.dtype[np.floating[Any]]]]
"""One image's stored description: named arrays, (1, ...) each."""

VECTOR_LIMIT = 0.65
"""Distance of unit vectors beyond which two looks are taken for two people's.

[inferred] Another model has another. Of MSP-CNN trained on Market-1501, this lets 32 % of one
person's means in two cameras pass for one, and 0.1 % of two people's (50 test people); at 0.8 it
is 59 % and 0.6 %, and people of tests/benchmarks/bench_watch.py's video were taken for others.
"""

PAIR_LIMIT = -0.7
"""The same for a network that scores pairs: minus its score.

[inferred] CSN's score (Eq. 7) is p(same) + 0.2 / d: 0.7 where p is 0.5 and d is 1.
"""

SHORTLIST = 20
"""Of more looks than this, a network that compares pairs sees those nearest by its vector."""

MEAN_OF = 50
"""A mean takes in a new description as if so many stood behind it at most: it follows the light."""


class Looks:
    """What one person looked like: the mean of vectors, or the clearest and the newest description.

    ``clearest`` is by the detector's score. A network that compares pairs has no mean.
    """

    def __init__(self, row: Row, score: float) -> None:
        self.rows: list[Row] = [row]
        self.count = 1
        self._score = score

    def add(self, other: Looks) -> None:
        """Take in a newer description of the same person."""
        self.count += other.count
        (row,) = other.rows
        if row.keys() == {VECTOR}:
            share = 1 / min(self.count, MEAN_OF)
            mean = (1 - share) * self.rows[0][VECTOR] + share * row[VECTOR]
            self.rows = [{VECTOR: unit_vectors(mean)}]
        elif other._score >= self._score:
            self.rows, self._score = [row], other._score
        else:
            self.rows = [self.rows[0], row]


class Wardrobe:
    """Describes people and compares their looks, with the model behind ``matcher``.

    ``limit`` is the distance at which two looks stop being one person's: VECTOR_LIMIT or
    PAIR_LIMIT by default. The matcher describes one grey image at once, which tells its kind and
    has the model ready when the first person comes. Raises ConfigError for a limit that no
    distance of that kind can be held against.
    """

    def __init__(self, matcher: Matcher[Any], limit: float | None = None) -> None:
        self._matcher = matcher
        (grey,) = matcher.pieces(matcher.describe([np.full((128, 64, 3), 128, np.uint8)]))
        self.compares_pairs = grey.keys() != {VECTOR}
        self._has_shortlist = self.compares_pairs and VECTOR in grey
        usual = PAIR_LIMIT if self.compares_pairs else VECTOR_LIMIT
        self.limit = usual if limit is None else limit
        if not 0 < self.limit / usual < math.inf:
            raise ConfigError(
                f"the largest distance has the sign of {usual} for this network, of which one "
                f"that scores pairs has minus its score; found {self.limit} (--max-distance)"
            )

    def describe(self, crops: Sequence[Image], scores: Sequence[float]) -> list[Looks | None]:
        """The looks of each crop, described all at once; None where they are not finite."""
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
            Looks(row, score) if good else None
            for row, score, good in zip(rows, scores, finite, strict=True)
        ]

    def distances(self, first: Sequence[Looks], second: Sequence[Looks]) -> FloatArray:
        """(F, S): the matcher's distance of each two looks, of their rows the nearest two.

        Those that a shortlist leaves out have another, which is above every limit of scores.
        """
        if not (first and second):
            return np.zeros((len(first), len(second)), np.float32)
        rows, columns = ([len(looks.rows) for looks in some] for some in (first, second))
        best = SHORTLIST if self._has_shortlist and sum(columns) > SHORTLIST else 0
        tiles = self._matcher.tiles(self.description(first), self.description(second), best=best)
        table = tiles(slice(0, sum(rows)))
        nearest = np.minimum.reduceat(table, np.cumsum([0, *rows[:-1]]), axis=0)
        nearest = np.minimum.reduceat(nearest, np.cumsum([0, *columns[:-1]]), axis=1)
        return np.asarray(nearest, np.float32)

    def relative(self, distances: FloatArray) -> FloatArray:
        """Distances in units of the limit: 0 and more, above 1 another person.

        For a score s with the limit s0 that is s0 / s.
        """
        if self.limit > 0:
            return np.asarray(distances / self.limit, np.float32)
        scores = np.maximum(-distances, 1e-6)
        return np.asarray(-self.limit / scores, np.float32)

    def unlike(self, first: Sequence[Looks], second: Sequence[Looks]) -> FloatArray:
        """(F, S): the distances in units of the limit."""
        return self.relative(self.distances(first, second))

    def description(self, some: Sequence[Looks]) -> Any:
        """All rows of the looks as the matcher's own description."""
        rows = [row for looks in some for row in looks.rows]
        piece = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        return self._matcher.from_pieces([piece])
