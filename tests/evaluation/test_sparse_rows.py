"""Rows of few entries against the whole matrix."""

from __future__ import annotations

import numpy as np

from reid.evaluation.sparse_rows import SparseRows, sparse_rows
from reid.types import FloatArray


def dense_and_sparse(seed: int) -> tuple[FloatArray, SparseRows]:
    rng = np.random.default_rng(seed)
    dense = (rng.random((17, 9)) * (rng.random((17, 9)) < 0.3)).astype(np.float32)
    dense[4] = 0
    pieces = []
    for part in (dense[:6], dense[6:]):
        columns = np.nonzero(part)[1].astype(np.int32)
        pieces.append(((part > 0).sum(axis=1), columns, part[part > 0]))
    return dense, sparse_rows(pieces)


def test_rows_come_back_as_they_were() -> None:
    dense, sparse = dense_and_sparse(0)
    for i, whole in enumerate(dense):
        columns, values = sparse.row(i)
        again = np.zeros(9, np.float32)
        again[columns] = values
        assert again.tolist() == whole.tolist()


def test_slots_of_several_rows_are_theirs_one_after_another() -> None:
    _, sparse = dense_and_sparse(1)
    chosen = np.array([3, 4, 3, 16, 0])
    slots, lengths = sparse.slots(chosen)
    expected = [value for i in chosen for value in sparse.row(int(i))[1].tolist()]
    assert sparse.values[slots].tolist() == expected
    assert lengths.tolist() == [len(sparse.row(int(i))[0]) for i in chosen]
    assert sparse.slots(np.array([4]))[0].tolist() == []


def test_the_transposed_has_columns_as_rows_from_the_first_row_on() -> None:
    dense, sparse = dense_and_sparse(2)
    turned = sparse.transposed(5, 9)
    for column in range(9):
        rows, values = turned.row(column)
        again = np.zeros(12, np.float32)
        again[rows] = values
        assert again.tolist() == dense[5:, column].tolist()
