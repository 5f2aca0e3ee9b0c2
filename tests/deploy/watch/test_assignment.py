"""The Hungarian method against trying everything."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.deploy.watch.assignment import assign
from reid.types import FloatArray

LIMIT = 1.0
_COST = st.one_of(st.integers(0, 8).map(lambda n: n / 8), st.just(float("inf")), st.just(1.5))


def best_by_trying(costs: FloatArray) -> tuple[int, float]:
    """Most pairs, and of all such ways the least cost: every choice of rows and columns."""
    best = (0, 0.0)
    rows, columns = costs.shape
    for count in range(1, min(rows, columns) + 1):
        for chosen in itertools.combinations(range(rows), count):
            for order in itertools.permutations(range(columns), count):
                each = [costs[pair] for pair in zip(chosen, order, strict=True)]
                if max(each) <= LIMIT and (count, -sum(each)) > (best[0], -best[1]):
                    best = (count, float(sum(each)))
    return best


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 4), st.integers(1, 4))
def test_as_many_pairs_as_can_be_at_the_least_cost(
    data: st.DataObject, rows: int, cols: int
) -> None:
    row = st.lists(_COST, min_size=cols, max_size=cols)
    costs = np.array(data.draw(st.lists(row, min_size=rows, max_size=rows)), np.float32)
    pairs = assign(costs, LIMIT)
    count, cost = best_by_trying(costs)
    assert (len(pairs), sum(float(costs[pair]) for pair in pairs)) == (count, cost)
    assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == count
    assert pairs == sorted(pairs)


def test_a_chain_of_second_choices_is_found() -> None:
    # Each row's cheapest column is the next row's only one.
    costs = np.array([[0.1, 0.2, 9], [9, 0.1, 0.2], [0.1, 9, 9]], np.float32)
    assert assign(costs, LIMIT) == [(0, 1), (1, 2), (2, 0)]


def test_no_people_have_no_partner() -> None:
    assert assign(np.zeros((0, 3), np.float32), LIMIT) == []
    assert assign(np.full((2, 2), np.inf, np.float32), LIMIT) == []
