"""CMC, mAP by both definitions and mINP: by hand, and against loops over every rank."""

from __future__ import annotations

import numpy as np
import pytest

from reid.evaluation.metrics import scores_from_ranks
from reid.types import IntArray


def ranks(*values: int) -> IntArray:
    return np.array(values, np.int64)


def test_hits_at_1_2_4_and_7_by_hand() -> None:
    scores = scores_from_ranks([ranks(0, 1, 3, 6)])
    assert scores.map_step == pytest.approx((1 / 1 + 2 / 2 + 3 / 4 + 4 / 7) / 4)
    assert scores.map_step == pytest.approx(0.8304, abs=5e-5)
    trapezoid = ((1 + 1 / 1) + (1 / 1 + 2 / 2) + (2 / 3 + 3 / 4) + (3 / 6 + 4 / 7)) / 2 / 4
    assert scores.map_trapezoid == pytest.approx(trapezoid)
    assert scores.map_trapezoid == pytest.approx(0.8110, abs=5e-5)
    assert scores.minp == pytest.approx(4 / 7)


def trapezoid_by_loop(is_good: list[bool]) -> float:
    """The area under precision over recall, rank by rank, as compute_AP.m walks it."""
    total = sum(is_good)
    area, hits, old_recall, old_precision = 0.0, 0, 0.0, 1.0
    for rank, good in enumerate(is_good):
        hits += good
        recall, precision = hits / total, hits / (rank + 1)
        area += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return area


def step_by_loop(is_good: list[bool]) -> float:
    hits, total = 0, 0.0
    for rank, good in enumerate(is_good):
        if good:
            hits += 1
            total += hits / (rank + 1)
    return total / hits


@pytest.mark.parametrize("seed", range(30))
def test_means_over_queries_equal_loops_over_every_rank(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries = []
    for _ in range(int(rng.integers(1, 6))):
        is_good = rng.random(int(rng.integers(1, 60))) < 0.3
        is_good[int(rng.integers(len(is_good)))] = True
        queries.append(is_good.tolist())
    scores = scores_from_ranks([np.flatnonzero(is_good) for is_good in queries])
    assert scores.map_step == pytest.approx(np.mean([step_by_loop(one) for one in queries]))
    trapezoids = [trapezoid_by_loop(one) for one in queries]
    assert scores.map_trapezoid == pytest.approx(np.mean(trapezoids))
    penalties = [sum(one) / (len(one) - one[::-1].index(True)) for one in queries]
    assert scores.minp == pytest.approx(np.mean(penalties))


def test_a_perfect_ranking_has_full_marks_everywhere() -> None:
    scores = scores_from_ranks([ranks(0, 1, 2), ranks(0)])
    assert scores.cmc == {1: 1.0, 5: 1.0, 10: 1.0, 20: 1.0}
    assert (scores.map_step, scores.map_trapezoid, scores.minp) == (1.0, 1.0, 1.0)


def test_cmc_counts_the_first_hit_and_its_borders_are_inclusive() -> None:
    scores = scores_from_ranks([ranks(0, 9), ranks(4), ranks(5), ranks(19), ranks(20)])
    assert scores.cmc == {1: 1 / 5, 5: 2 / 5, 10: 3 / 5, 20: 4 / 5}


def test_a_query_without_an_answer_is_counted_and_left_out_of_the_means() -> None:
    scores = scores_from_ranks([ranks(0), ranks(), ranks(1)])
    assert (scores.num_query, scores.num_unanswerable) == (3, 1)
    assert scores.cmc[1] == 1 / 2
    assert scores.map_step == (1 + 1 / 2) / 2


@pytest.mark.parametrize("num", [0, 2])
def test_no_query_with_an_answer_gives_zeros(num: int) -> None:
    scores = scores_from_ranks([ranks()] * num)
    assert (scores.num_query, scores.num_unanswerable) == (num, num)
    assert scores.cmc == {1: 0.0, 5: 0.0, 10: 0.0, 20: 0.0}
    assert (scores.map_step, scores.map_trapezoid, scores.minp) == (0.0, 0.0, 0.0)
