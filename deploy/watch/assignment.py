"""Who belongs to whom at the least cost: the Hungarian method."""

from __future__ import annotations

import numpy as np

from reid.types import FloatArray

_FORBIDDEN = 1e6


def assign(costs: FloatArray, limit: float) -> list[tuple[int, int]]:
    """Pairs (row, column) of (R, C) ``costs``, none above ``limit``, each used once.

    Costs are in [0, limit] where a pair is possible; anything above, infinity too, is not.
    As many pairs are made as can be, and of all such ways the cheapest. In order of the rows.
    """
    if not costs.size:
        return []
    possible = costs <= limit
    table = np.where(possible, costs, _FORBIDDEN).astype(np.float64)
    turned = table.shape[0] > table.shape[1]
    columns = _shortest_paths(table.T if turned else table)
    pairs = [(column, row) if turned else (row, column) for row, column in enumerate(columns)]
    return sorted((row, column) for row, column in pairs if possible[row, column])


def _shortest_paths(table: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[int]:
    """The column of each row, for no more rows than columns.

    Rows come in one by one; each takes the cheapest path of columns that are freed in turn
    (Jonker and Volgenant, 1987, without their shortcuts). O(rows^2 x columns): thousands of
    people of one frame would be too many, tens take a millisecond.
    """
    num_rows, num_columns = table.shape
    row_price = np.zeros(num_rows)
    column_price = np.zeros(num_columns)
    owner = np.full(num_columns, -1)
    for new_row in range(num_rows):
        distance = np.full(num_columns, np.inf)
        before = np.full(num_columns, -1)
        reached = np.zeros(num_columns, np.bool_)
        row, last, so_far = new_row, -1, 0.0
        while True:
            reduced = so_far + table[row] - row_price[row] - column_price
            better = ~reached & (reduced < distance)
            distance[better], before[better] = reduced[better], last
            last = int(np.argmin(np.where(reached, np.inf, distance)))
            so_far = distance[last]
            reached[last] = True
            row = owner[last]
            if row < 0:
                break
        row_price[new_row] += so_far
        inner = reached & (owner >= 0)
        gain = so_far - distance[inner]
        row_price[owner[inner]] += gain
        column_price[inner] -= gain
        while last >= 0:  # each column on the path goes to the row of the one before it
            previous = int(before[last])
            owner[last] = owner[previous] if previous >= 0 else new_row
            last = previous
    found = np.argsort(np.where(owner >= 0, owner, num_rows), kind="stable")[:num_rows]
    return [int(column) for column in found]
