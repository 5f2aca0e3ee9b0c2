"""Distances of pairs, counted in tiles, against loops over every pair and threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reid.evaluation.ranking import MarketRules, pass_over
from reid.evaluation.verification import PairCounts, Verification
from reid.matching.labels import Labels
from reid.types import FloatArray


def counted(matrix: FloatArray, query: Labels, gallery: Labels, tile: int = 128) -> Verification:
    counts = PairCounts()
    rules = MarketRules(gallery)
    pass_over(lambda rows: matrix[rows], query, gallery, rules, [counts], tile=tile)
    return counts.verification()


def case(seed: int, num_query: int = 12, num_gallery: int = 70) -> tuple[Labels, Labels]:
    rng = np.random.default_rng(seed)
    query = Labels(rng.integers(1, 6, num_query), rng.integers(1, 4, num_query))
    gallery = Labels(rng.integers(-1, 6, num_gallery), rng.integers(1, 4, num_gallery))
    return query, gallery


def pairs_by_loop(
    matrix: FloatArray, query: Labels, gallery: Labels
) -> tuple[list[float], list[float]]:
    """Distances of right and of wrong pairs, by Market's rules."""
    right, wrong = [], []
    for q, (person, camera) in enumerate(zip(*query, strict=True)):
        for g, (shown, by) in enumerate(zip(*gallery, strict=True)):
            if shown == -1 or (shown == person and by == camera):
                continue
            (right if shown == person else wrong).append(float(matrix[q, g]))
    return right, wrong


def whole_numbers(seed: int) -> FloatArray:
    """Far enough apart for each to have a bin of its own; both signs, and zero."""
    return np.random.default_rng(seed).integers(-30, 31, (12, 70)).astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_rates_equal_a_loop_over_every_threshold(seed: int) -> None:
    matrix, (query, gallery) = whole_numbers(seed), case(seed)
    right, wrong = pairs_by_loop(matrix, query, gallery)
    for tile in (5, 128):
        found = counted(matrix, query, gallery, tile)
        thresholds = sorted({*right, *wrong})
        fpr, tpr = found.roc()
        assert fpr.tolist() == [0.0] + [sum(w <= t for w in wrong) / len(wrong) for t in thresholds]
        assert tpr.tolist() == [0.0] + [sum(r <= t for r in right) / len(right) for t in thresholds]
        for wanted in (0.3, 0.05, 1e-2):
            best = 0.0
            for t in thresholds:
                if sum(w <= t for w in wrong) / len(wrong) <= wanted:
                    best = sum(r <= t for r in right) / len(right)
            assert found.tpr_at(wanted) == best
            limit = found.distance_at(wanted)
            accepted = [t for t in thresholds if limit is not None and t <= limit]
            assert sum(r in accepted for r in right) / len(right) == best
            assert sum(w in accepted for w in wrong) / len(wrong) <= wanted


@pytest.mark.parametrize("scale", [1e-6, 1.0, -3.0, 2e3])
def test_a_bin_is_as_narrow_as_it_says(scale: float) -> None:
    rng = np.random.default_rng(1)
    query, gallery = case(2)
    matrix = (scale * rng.random((12, 70))).astype(np.float32)
    right, wrong = pairs_by_loop(matrix, query, gallery)
    found = counted(matrix, query, gallery)
    assert found.positives.sum() == len(right)
    assert found.negatives.sum() == len(wrong)
    assert (np.diff(found.limits) > 0).all()
    every = np.sort([*right, *wrong])
    per_bin = np.split(every, (found.positives + found.negatives).cumsum()[:-1])
    for limit, members in zip(found.limits, per_bin, strict=True):
        assert members.max() <= limit
        assert limit - members.min() <= 2**-12 * np.abs([limit, members.min()]).max()


@pytest.mark.parametrize("seed", range(5))
def test_a_rate_is_less_than_the_exact_one_by_a_bin_at_most(seed: int) -> None:
    rng = np.random.default_rng(seed)
    query, gallery = case(seed, 40, 200)
    same = query.person_ids[:, None] == gallery.person_ids
    matrix = (1.2 + 0.1 * rng.standard_normal((40, 200)) - 0.2 * same).astype(np.float32)
    right, wrong = (np.sort(x) for x in pairs_by_loop(matrix, query, gallery))
    for fpr in (0.1, 0.01):
        border = wrong[math.floor(fpr * len(wrong))]  # the first that may not be accepted
        exact = (right < border).mean()
        found = counted(matrix, query, gallery).tpr_at(fpr)
        assert found is not None
        assert (right < border * (1 - 2**-12)).mean() <= found <= exact
        limit = counted(matrix, query, gallery).distance_at(fpr)
        assert limit is not None
        assert (right <= limit).mean() == found
        assert (wrong <= limit).mean() <= fpr


def test_negative_zero_is_zero() -> None:
    matrix = np.array([[0.0, -0.0, 1.0, -0.0, 0.0]], np.float32)
    query, gallery = (
        Labels(np.array([1]), np.array([1])),
        Labels(np.array([1, 1, 2, 3, 3]), np.full(5, 2)),
    )
    found = counted(matrix, query, gallery)
    assert found.positives.sum() == 2
    edges, positives, negatives = found.histogram(2)
    assert edges.tolist() == pytest.approx([0, 0.5, 1], abs=1e-3)
    assert (positives.tolist(), negatives.tolist()) == ([2, 0], [2, 1])


def test_too_few_pairs_have_no_rate() -> None:
    matrix = np.arange(100, dtype=np.float32)[None]
    query = Labels(np.array([1]), np.array([1]))
    gallery = Labels(np.array([1] + [2] * 99), np.full(100, 2))
    found = counted(matrix, query, gallery)
    assert found.tpr_at(1e-2) is found.distance_at(1e-2) is None
    assert found.tpr_at(1 / 99) == 1.0
    strangers = Labels(np.full(100, 2), np.full(100, 2))
    no_match = counted(matrix, query, strangers)
    assert no_match.tpr_at(0.5) is None
    assert no_match.distance_at(0.5) is None
    fpr, tpr = no_match.roc()
    assert (fpr[-1], tpr.max()) == (1.0, 0.0)


def test_no_pair_at_all_has_empty_curves() -> None:
    matrix = np.ones((1, 2), np.float32)
    query, gallery = (
        Labels(np.array([1]), np.array([1])),
        Labels(np.array([-1, 1]), np.array([2, 1])),
    )
    found = counted(matrix, query, gallery)
    assert [one.tolist() for one in found.roc()] == [[0.0], [0.0]]
    assert found.tpr_at(0.5) is None
    edges, positives, negatives = found.histogram(10)
    assert (len(edges), positives.sum(), negatives.sum()) == (11, 0, 0)


def test_the_histogram_has_bins_of_equal_width_and_every_pair() -> None:
    matrix, (query, gallery) = whole_numbers(0), case(0)
    right, wrong = pairs_by_loop(matrix, query, gallery)
    edges, positives, negatives = counted(matrix, query, gallery).histogram(20)
    assert np.diff(edges) == pytest.approx((edges[-1] - edges[0]) / 20)
    assert (positives.sum(), negatives.sum()) == (len(right), len(wrong))
    exact, _ = np.histogram(right, bins=np.round(edges) - 0.5)
    assert (
        np.abs(positives.cumsum() - exact.cumsum()).max() <= np.bincount(np.int64(right) + 30).max()
    )
