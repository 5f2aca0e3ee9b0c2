"""Which row belongs to which column at the least total cost."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from reid.types import FloatArray

_FORBIDDEN = 1e6


def assign(costs: FloatArray, limit: float) -> list[tuple[int, int]]:
    """Pairs (row, column) of (R, C) ``costs``, none above ``limit``, each used once.

    Costs are in [0, limit] where a pair is possible; anything above, infinity too, is not.
    As many pairs are made as possible, and of all such ways the cheapest. In order of the rows.
    """
    possible = costs <= limit
    # SciPy refuses a table without a full matching; a forbidden pair costs more than all others.
    table = np.where(possible, costs, _FORBIDDEN).astype(np.float64)
    rows, columns = linear_sum_assignment(table)
    kept = possible[rows, columns]
    return list(zip(rows[kept].tolist(), columns[kept].tolist(), strict=True))
