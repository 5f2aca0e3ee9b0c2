"""CMC, mAP, mINP and single-shot: by hand, and against loops written from the protocols."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from reid.errors import ConfigError, DataError
from reid.metrics import (
    average_precision_step,
    average_precision_trapezoid,
    chance_market,
    chance_single_shot,
    draw_single_shot,
    inverse_negative_penalty,
    score_market,
    score_single_shot,
    scores_from_ranks,
)
from reid.ranking import Distances, Labels, euclidean_tiles
from reid.types import FloatArray, IntArray


def labels(people: list[int], cameras: list[int]) -> Labels:
    return Labels(np.array(people, np.int64), np.array(cameras, np.int64))


def ranks(*values: int) -> IntArray:
    return np.array(values, np.int64)


def test_average_precision_of_hits_at_1_2_4_and_7_by_hand() -> None:
    hits = ranks(0, 1, 3, 6)
    assert average_precision_step(hits) == pytest.approx((1 / 1 + 2 / 2 + 3 / 4 + 4 / 7) / 4)
    assert average_precision_step(hits) == pytest.approx(0.8304, abs=5e-5)
    trapezoid = ((1 + 1 / 1) + (1 / 1 + 2 / 2) + (2 / 3 + 3 / 4) + (3 / 6 + 4 / 7)) / 2 / 4
    assert average_precision_trapezoid(hits) == pytest.approx(trapezoid)
    assert average_precision_trapezoid(hits) == pytest.approx(0.8110, abs=5e-5)


def test_inverse_negative_penalty_by_hand() -> None:
    assert inverse_negative_penalty(ranks(0, 1, 3, 6)) == pytest.approx(4 / 7)
    assert inverse_negative_penalty(ranks(0, 1, 2)) == 1


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
def test_both_average_precisions_equal_loops_over_every_rank(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_good = rng.random(int(rng.integers(1, 60))) < 0.3
    is_good[int(rng.integers(len(is_good)))] = True
    hits = np.flatnonzero(is_good).astype(np.int64)
    assert average_precision_step(hits) == pytest.approx(step_by_loop(is_good.tolist()))
    assert average_precision_trapezoid(hits) == pytest.approx(trapezoid_by_loop(is_good.tolist()))


def test_a_perfect_ranking_has_full_marks_everywhere() -> None:
    scores = scores_from_ranks([ranks(0, 1, 2), ranks(0)])
    assert scores.cmc == {1: 1.0, 5: 1.0, 10: 1.0, 20: 1.0}
    assert (scores.map_step, scores.map_trapezoid, scores.minp) == (1.0, 1.0, 1.0)


def test_cmc_counts_the_first_hit_and_its_borders_are_inclusive() -> None:
    scores = scores_from_ranks([ranks(0, 9), ranks(4), ranks(5), ranks(19), ranks(20)])
    assert scores.cmc == {1: 1 / 5, 5: 2 / 5, 10: 3 / 5, 20: 4 / 5}


def test_a_cmc_rank_beyond_the_gallery_is_all_queries() -> None:
    matrix = np.array([[0.5, 0.1, 0.2]], np.float32)
    scores = score_market(lambda rows: matrix[rows], labels([1], [1]), labels([1, 2, 3], [2, 2, 2]))
    assert scores.cmc == {1: 0.0, 5: 1.0, 10: 1.0, 20: 1.0}


def test_a_query_without_an_answer_is_counted_and_left_out_of_the_means() -> None:
    scores = scores_from_ranks([ranks(0), ranks(), ranks(1)])
    assert (scores.num_query, scores.num_unanswerable) == (3, 1)
    assert scores.cmc[1] == 1 / 2
    assert scores.map_step == (1 + 1 / 2) / 2


def test_no_query_with_an_answer_gives_zeros() -> None:
    scores = score_market(
        lambda rows: np.zeros((2, 2), np.float32), labels([1, 2], [1, 1]), labels([1, 3], [1, 2])
    )
    assert (scores.num_query, scores.num_unanswerable) == (2, 2)
    assert scores.cmc == {1: 0.0, 5: 0.0, 10: 0.0, 20: 0.0}
    assert (scores.map_step, scores.map_trapezoid, scores.minp) == (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Described:
    """Images as vectors, and whom they show."""

    vectors: FloatArray
    person_ids: IntArray
    camera_ids: IntArray


def random_described(seed: int, num: int) -> Described:
    """Small whole numbers: matrix products are exact, whatever the tile, and ties abound."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (num, 6)).astype(np.float32)
    return Described(vectors, rng.integers(-1, 6, num), rng.integers(1, 4, num))


def euclidean(query: Described, gallery: Described) -> Distances:
    return euclidean_tiles(query.vectors, gallery.vectors)


def market_by_loop(query: Described, gallery: Described) -> dict[str, float]:
    firsts, steps, trapezoids, penalties = [], [], [], []
    for q in range(len(query.vectors)):
        person, camera = int(query.person_ids[q]), int(query.camera_ids[q])
        distances = [float(np.sum((query.vectors[q] - one) ** 2)) for one in gallery.vectors]
        is_good = []
        for g in sorted(range(len(gallery.vectors)), key=lambda i: (distances[i], i)):
            same = int(gallery.person_ids[g]) == person
            if gallery.person_ids[g] == -1 or (same and int(gallery.camera_ids[g]) == camera):
                continue
            is_good.append(same and person > 0)
        if any(is_good):
            firsts.append(is_good.index(True))
            steps.append(step_by_loop(is_good))
            trapezoids.append(trapezoid_by_loop(is_good))
            last = max(rank for rank, good in enumerate(is_good) if good)
            penalties.append(sum(is_good) / (last + 1))
    return {
        "rank1": float(np.mean([first < 1 for first in firsts])),
        "rank5": float(np.mean([first < 5 for first in firsts])),
        "step": float(np.mean(steps)),
        "trapezoid": float(np.mean(trapezoids)),
        "minp": float(np.mean(penalties)),
        "unanswerable": len(query.vectors) - len(firsts),
    }


@pytest.mark.parametrize("seed", range(20))
def test_market_scores_equal_a_loop_written_from_the_protocol(seed: int) -> None:
    query, gallery = random_described(seed, 20), random_described(1000 + seed, 50)
    expected = market_by_loop(query, gallery)
    for tile in (1, 6, 64):
        scores = score_market(euclidean(query, gallery), query, gallery, tile=tile)
        assert scores.cmc[1] == pytest.approx(expected["rank1"])
        assert scores.cmc[5] == pytest.approx(expected["rank5"])
        assert scores.map_step == pytest.approx(expected["step"])
        assert scores.map_trapezoid == pytest.approx(expected["trapezoid"])
        assert scores.minp == pytest.approx(expected["minp"])
        assert scores.num_unanswerable == expected["unanswerable"]
        assert scores.std == {}


def test_single_shot_with_one_image_per_identity_is_decided_by_hand() -> None:
    # Query 1 is nearest to its own identity; query 2 is nearer to identities 1 and 3.
    matrix = np.array([[0.1, 0.5, 0.6], [0.1, 0.3, 0.2]], np.float32)
    scores = score_single_shot(
        lambda rows: matrix[rows], labels([1, 2], [1, 1]), labels([1, 2, 3], [2, 2, 2]), trials=4
    )
    assert scores.cmc == {1: 1 / 2, 5: 1.0, 10: 1.0, 20: 1.0}
    assert scores.map_step == pytest.approx((1 + 1 / 3) / 2)
    assert scores.map_trapezoid == pytest.approx((1 + (0 / 2 + 1 / 3) / 2) / 2)
    assert scores.minp == pytest.approx((1 + 1 / 3) / 2)
    assert set(scores.std.values()) == {0.0}


def test_single_shot_draws_one_image_of_each_identity_from_the_other_view() -> None:
    query = labels([1, 2], [1, 2])
    gallery = labels([1, 1, 1, 2, 2, 2, 3, -1, 0, 0], [1, 2, 2, 1, 1, 2, 2, 2, 2, 1])
    draws = draw_single_shot(query, gallery, trials=30, seed=0)
    for camera, distractor, expected in ((1, 8, [0, 1, 2, 3]), (2, 9, [0, 1, 2])):
        for drawn in draws[camera]:
            assert distractor in drawn
            assert sorted(gallery.person_ids[drawn].tolist()) == expected
            assert camera not in gallery.camera_ids[drawn]
            assert drawn.tolist() == sorted(drawn.tolist())
    assert {int(i) for drawn in draws[1] for i in drawn} == {1, 2, 5, 6, 8}


def test_single_shot_draws_depend_on_the_seed_alone() -> None:
    query = Labels(np.arange(1, 31), np.ones(30, np.int64))
    gallery = Labels(np.repeat(np.arange(1, 31), 4), np.full(120, 2))
    first = draw_single_shot(query, gallery, trials=3, seed=7)[1]
    again = draw_single_shot(query, gallery, trials=3, seed=7)[1]
    other = draw_single_shot(query, gallery, trials=3, seed=8)[1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], first[1])


def single_shot_by_loop(
    matrix: FloatArray, query: Labels, gallery: Labels, trials: int, seed: int
) -> tuple[list[float], list[float]]:
    draws = draw_single_shot(query, gallery, trials=trials, seed=seed)
    rank1, average_precision = [], []
    for trial in range(trials):
        found = []
        for q, (person, camera) in enumerate(zip(*query, strict=True)):
            drawn = draws[int(camera)][trial].tolist()
            order = sorted(drawn, key=lambda g: (matrix[q, g], g))
            right = [int(gallery.person_ids[g]) == int(person) for g in order]
            if any(right):
                found.append(right.index(True))
        rank1.append(float(np.mean([rank == 0 for rank in found])))
        average_precision.append(float(np.mean([1 / (rank + 1) for rank in found])))
    return rank1, average_precision


@pytest.mark.parametrize("seed", range(10))
def test_single_shot_equals_a_loop_over_trials_and_queries(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 8, (15, 40)).astype(np.float32)
    query = Labels(rng.integers(1, 9, 15), rng.integers(1, 3, 15))
    gallery = Labels(rng.integers(-1, 8, 40), rng.integers(1, 3, 40))
    rank1, average_precision = single_shot_by_loop(matrix, query, gallery, 5, seed)
    for tile in (1, 4, 64):
        scores = score_single_shot(
            lambda rows: matrix[rows], query, gallery, trials=5, seed=seed, tile=tile
        )
        assert scores.cmc[1] == pytest.approx(np.mean(rank1))
        assert scores.map_step == pytest.approx(np.mean(average_precision))
        assert scores.std["rank1"] == pytest.approx(np.std(rank1, ddof=1))
        assert scores.std["map_step"] == pytest.approx(np.std(average_precision, ddof=1))


def test_one_trial_has_no_deviation() -> None:
    query, gallery = random_described(0, 20), random_described(1, 50)
    assert score_single_shot(euclidean(query, gallery), query, gallery, trials=1).std == {}


def test_single_shot_without_any_other_view_gives_zeros() -> None:
    matrix = np.zeros((1, 2), np.float32)
    scores = score_single_shot(
        lambda rows: matrix[rows], labels([1], [1]), labels([1, 2], [1, 1]), trials=2
    )
    assert (scores.num_unanswerable, scores.cmc[1], scores.map_step) == (1, 0.0, 0.0)


def test_less_than_one_trial_is_refused() -> None:
    query, gallery = random_described(0, 2), random_described(1, 5)
    with pytest.raises(ConfigError, match="at least 1 trial"):
        score_single_shot(euclidean(query, gallery), query, gallery, trials=0)


def test_an_empty_gallery_is_refused_by_both_protocols() -> None:
    query, gallery = random_described(0, 2), random_described(1, 0)
    for score in (score_market, score_single_shot):
        with pytest.raises(DataError, match="gallery is empty"):
            score(euclidean(query, gallery), query, gallery)


def test_chance_on_market_is_good_over_what_is_ranked() -> None:
    # Query (1, camera 1): good 1 image; ranked 5 of 7 (own camera and junk are skipped).
    # Query (2, camera 3): good 2; ranked 6 of 7. Query (9, camera 1) has no answer.
    gallery = labels([1, 1, 2, 2, 3, 0, -1], [1, 2, 1, 2, 1, 1, 1])
    query = labels([1, 2, 9], [1, 3, 1])
    assert chance_market(query, gallery) == pytest.approx((1 / 5 + 2 / 6) / 2)


def test_chance_on_single_shot_is_one_over_the_identities_drawn() -> None:
    gallery = labels([1, 1, 2, 2, 3, 3, 4], [2] * 7)
    assert chance_single_shot(labels([1, 2, 9], [1, 1, 1]), gallery) == pytest.approx(1 / 4)


def test_chance_is_what_random_distances_score() -> None:
    rng = np.random.default_rng(3)
    query = Labels(rng.integers(1, 9, 300), rng.integers(1, 4, 300))
    gallery = Labels(rng.integers(-1, 9, 60), rng.integers(1, 4, 60))
    found = [
        score_market(
            lambda rows: rng.random((rows.stop - rows.start, 60), np.float32), query, gallery
        ).cmc[1]
        for _ in range(10)
    ]
    assert chance_market(query, gallery) == pytest.approx(np.mean(found), abs=0.025)
