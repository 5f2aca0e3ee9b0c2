"""Exact search: FAISS directly on the vectors in the segments' memory maps."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from reid.types import BoolArray, FloatArray, IntArray

with warnings.catch_warnings():
    # About SWIG's own types, on Python 3.12 and later.
    warnings.simplefilter("ignore", DeprecationWarning)
    faiss: Any = importlib.import_module("faiss")  # its own type stubs lack what is used here

ROWS_AT_ONCE = 1 << 16
"""Rows copied at once if only some are searched: 64 MB of 256-d vectors."""


class Found(NamedTuple):
    """(Q, k) squared distances, ascending, and positions; infinity and -1 if there are fewer."""

    squares: FloatArray
    positions: IntArray


class Vectors:
    """N vectors in parts, (n, D) float32 each, with positions 0 to N - 1."""

    def __init__(self, parts: Sequence[FloatArray], dim: int) -> None:
        self.parts, self.dim = parts, dim
        self._starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def rows(self, positions: IntArray) -> FloatArray:
        """(n, D), in the order of ``positions``."""
        found = np.empty((len(positions), self.dim), np.float32)
        part_of = np.searchsorted(self._starts, positions, side="right") - 1
        for part in np.unique(part_of):
            here = part_of == part
            found[here] = self.parts[part][positions[here] - self._starts[part]]
        return found

    def some(self, positions: IntArray) -> Vectors:
        """The vectors at ascending ``positions``, copied only where they are not adjacent."""
        cuts = np.searchsorted(positions, self._starts)
        parts = []
        for part, start, first, last in zip(
            self.parts, self._starts, cuts[:-1], cuts[1:], strict=False
        ):
            rows = positions[first:last] - start
            if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
                parts.append(part[rows[0] : rows[-1] + 1])
            elif len(rows):
                parts.append(part[rows])
        return Vectors(parts, self.dim)

    def nearest(self, queries: FloatArray, k: int, allowed: BoolArray | None = None) -> Found:
        """The up to ``k`` nearest of each query, only among the ``allowed`` (N,) if given."""
        founds = [_none(len(queries), k)]
        for part, start in zip(self.parts, self._starts, strict=False):
            if allowed is None:
                founds.append(_nearest(queries, part, k, start))
                continue
            rows = np.flatnonzero(allowed[start : start + len(part)])
            if len(rows) == len(part) > 0:
                founds.append(_nearest(queries, part, k, start))
                continue
            for at in range(0, len(rows), ROWS_AT_ONCE):
                some = rows[at : at + ROWS_AT_ONCE]
                founds.append(_nearest(queries, part[some], k, start, some))
        return merged(founds, k)

    def reranked(self, queries: FloatArray, candidates: IntArray, k: int) -> Found:
        """The ``k`` nearest of each query's candidates, (Q, C) positions or -1."""
        found = _none(len(queries), k)
        for q, (query, positions) in enumerate(zip(queries, candidates, strict=True)):
            real = positions[positions >= 0]
            differences = self.rows(real) - query
            squares = np.einsum("nd,nd->n", differences, differences)
            order = np.argsort(squares, kind="stable")[:k]
            found.squares[q, : len(order)] = squares[order]
            found.positions[q, : len(order)] = real[order]
        return found


def merged(founds: Sequence[Found], k: int) -> Found:
    """The ``k`` nearest of several searches."""
    if len(founds) == 1:
        return founds[0]
    squares = np.concatenate([found.squares for found in founds], axis=1)
    positions = np.concatenate([found.positions for found in founds], axis=1)
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return Found(
        np.take_along_axis(squares, order, axis=1), np.take_along_axis(positions, order, axis=1)
    )


def _none(num_queries: int, k: int) -> Found:
    return Found(
        np.full((num_queries, k), np.inf, np.float32), np.full((num_queries, k), -1, np.int64)
    )


def _nearest(
    queries: FloatArray, part: FloatArray, k: int, start: int, rows: IntArray | None = None
) -> Found:
    """The nearest of a part; ``rows`` are the positions of its rows if it is a selection."""
    squares, positions = faiss.knn(np.ascontiguousarray(queries), part, min(k, len(part)))
    return Found(squares, (positions if rows is None else rows[positions]) + start)
