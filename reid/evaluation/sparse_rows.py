"""A matrix of few entries, kept row by row (CSR): what re-ranking needs of it, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid.types import FloatArray, IntArray

Columns = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Row i has ``values`` (n,) float32 in ``columns`` (n,), both from ``starts`` i to i + 1."""

    starts: IntArray
    columns: Columns
    values: FloatArray

    def row(self, i: int) -> tuple[Columns, FloatArray]:
        """Columns and values of a row."""
        of_row = slice(self.starts[i], self.starts[i + 1])
        return self.columns[of_row], self.values[of_row]

    def slots(self, rows: npt.NDArray[np.integer]) -> tuple[IntArray, IntArray]:
        """Where the entries of ``rows`` stand, one row after another; how many each has."""
        starts = self.starts[rows]
        lengths = self.starts[rows + 1] - starts
        before = lengths.cumsum() - lengths
        return np.repeat(starts - before, lengths) + np.arange(lengths.sum()), lengths

    def transposed(self, first_row: int, num_columns: int) -> SparseRows:
        """Columns as rows, of the rows from ``first_row`` on, which counts as 0."""
        start = self.starts[first_row]
        columns = self.columns[start:]
        rows = np.arange(len(self.starts) - 1 - first_row, dtype=np.int32)
        owners = np.repeat(rows, np.diff(self.starts[first_row:]))
        order = np.argsort(columns, kind="stable")
        counts = np.bincount(columns, minlength=num_columns)
        return SparseRows(_starts(counts), owners[order], self.values[start:][order])


def sparse_rows(
    pieces: Sequence[tuple[IntArray, Columns, FloatArray]],
) -> SparseRows:
    """Rows one after another, from pieces of (entries of each row, their columns, values)."""
    counts, columns, values = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    return SparseRows(_starts(counts), columns, values)


def _starts(counts: IntArray) -> IntArray:
    return np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
