"""Single-shot and multi-shot: by hand, and against loops over trials, queries and identities."""

from __future__ import annotations

import numpy as np
import pytest

from reid.errors import ConfigError
from reid.evaluation.metrics import Scores
from reid.evaluation.scoring import measure
from reid.evaluation.shots import (
    chance_any_camera,
    chance_shots,
    draw_any_camera,
    draw_shots,
)
from reid.matching.labels import Labels
from reid.types import FloatArray, Protocol


def labels(people: list[int], cameras: list[int]) -> Labels:
    return Labels(np.array(people, np.int64), np.array(cameras, np.int64))


def score(
    matrix: FloatArray, query: Labels, gallery: Labels, *, tile: int = 64, **settings: int
) -> Scores:
    protocol = Protocol("multi_shot", **settings)  # type: ignore[arg-type]
    return measure(lambda rows: matrix[rows], query, gallery, protocol, tile=tile).scores


def test_single_shot_with_one_image_per_identity_is_decided_by_hand() -> None:
    # Query 1 is nearest to its own identity; query 2 is nearer to identities 1 and 3.
    matrix = np.array([[0.1, 0.5, 0.6], [0.1, 0.3, 0.2]], np.float32)
    scores = score(matrix, labels([1, 2], [1, 1]), labels([1, 2, 3], [2, 2, 2]), trials=4)
    assert scores.cmc == {1: 1 / 2, 5: 1.0, 10: 1.0, 20: 1.0}
    assert scores.map_step == pytest.approx((1 + 1 / 3) / 2)
    assert scores.map_trapezoid == pytest.approx((1 + (0 / 2 + 1 / 3) / 2) / 2)
    assert scores.minp == pytest.approx((1 + 1 / 3) / 2)
    assert set(scores.std.values()) == {0.0}


def test_in_multi_shot_an_identity_is_as_far_as_its_nearest_image() -> None:
    # Identity 1's images are at 0.9 and 0.2, identity 2's at 0.5 and 0.6, identity 3's at 0.1.
    matrix = np.array([[0.9, 0.5, 0.2, 0.6, 0.1]], np.float32)
    query, gallery = labels([1], [1]), labels([1, 2, 1, 2, 3], [2] * 5)
    scores = score(matrix, query, gallery, shots=2)
    assert scores.map_step == 1 / 2  # identity 3, then 1, then 2
    single = score(matrix, query, gallery, trials=200)
    assert single.map_step == pytest.approx((1 / 2 + 1 / 3) / 2, abs=0.02)


def test_draws_are_of_each_identity_from_the_other_view() -> None:
    query = labels([1, 2], [1, 2])
    gallery = labels([1, 1, 1, 2, 2, 2, 3, -1, 0, 0], [1, 2, 2, 1, 1, 2, 2, 2, 2, 1])
    draws = draw_shots(query, gallery, trials=30, seed=0)
    for camera, distractor, expected in ((1, 8, [0, 1, 2, 3]), (2, 9, [0, 1, 2])):
        for images, starts in draws[camera]:
            assert distractor in images
            assert sorted(gallery.person_ids[images].tolist()) == expected
            assert camera not in gallery.camera_ids[images]
            assert images.tolist() == sorted(images.tolist())
            assert starts.tolist() == list(range(len(images)))
    assert {int(i) for images, _ in draws[1] for i in images} == {1, 2, 5, 6, 8}


@pytest.mark.parametrize("shots", [1, 2, 3, 9])
def test_every_identity_has_its_shots_or_all_it_has_side_by_side(shots: int) -> None:
    rng = np.random.default_rng(shots)
    gallery = Labels(rng.integers(-1, 8, 60), rng.integers(1, 3, 60))
    for camera, drawn in draw_shots(
        labels([1, 1], [1, 2]), gallery, trials=5, seed=1, shots=shots
    ).items():
        allowed = gallery.person_ids[gallery.camera_ids != camera]
        for images, starts in drawn:
            groups = np.split(gallery.person_ids[images], starts[1:])
            assert all(len(set(group.tolist())) == 1 for group in groups)
            found = {int(group[0]): len(group) for group in groups if group[0] > 0}
            people = {int(person) for person in allowed if person > 0}
            assert found == {p: min(shots, int((allowed == p).sum())) for p in people}
            assert sum(group[0] == 0 for group in groups) == (allowed == 0).sum()
            assert len(set(images.tolist())) == len(images)


def test_draws_depend_on_the_seed_alone() -> None:
    query = Labels(np.arange(1, 31), np.ones(30, np.int64))
    gallery = Labels(np.repeat(np.arange(1, 31), 4), np.full(120, 2))
    first, again, other = (draw_shots(query, gallery, trials=3, seed=seed)[1] for seed in (7, 7, 8))
    assert all(np.array_equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].images, other[0].images)
    assert not np.array_equal(first[0].images, first[1].images)


def by_loop(
    matrix: FloatArray, query: Labels, gallery: Labels, trials: int, seed: int, shots: int
) -> tuple[list[float], list[float]]:
    draws = draw_shots(query, gallery, trials=trials, seed=seed, shots=shots)
    rank1, average_precision = [], []
    for trial in range(trials):
        found = []
        for q, (person, camera) in enumerate(zip(*query, strict=True)):
            nearest: dict[int, tuple[float, int]] = {}
            first: dict[int, int] = {}
            for g in sorted(draws[int(camera)][trial].images.tolist()):
                shown = int(gallery.person_ids[g]) or -2 - g  # each distractor is another
                first.setdefault(shown, g)
                nearest[shown] = min(
                    nearest.get(shown, (np.inf, 0)), (float(matrix[q, g]), first[shown])
                )
            order = sorted(nearest, key=lambda shown: nearest[shown])
            if int(person) in nearest:
                found.append(order.index(int(person)))
        rank1.append(float(np.mean([rank == 0 for rank in found])))
        average_precision.append(float(np.mean([1 / (rank + 1) for rank in found])))
    return rank1, average_precision


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("seed", range(10))
def test_scores_equal_a_loop_over_trials_and_queries(seed: int, shots: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 8, (15, 40)).astype(np.float32)
    query = Labels(rng.integers(1, 9, 15), rng.integers(1, 3, 15))
    gallery = Labels(rng.integers(-1, 8, 40), rng.integers(1, 3, 40))
    rank1, average_precision = by_loop(matrix, query, gallery, 5, seed, shots)
    for tile in (1, 4, 64):
        scores = score(matrix, query, gallery, trials=5, seed=seed, shots=shots, tile=tile)
        assert scores.cmc[1] == pytest.approx(np.mean(rank1))
        assert scores.map_step == pytest.approx(np.mean(average_precision))
        assert scores.std["rank1"] == pytest.approx(np.std(rank1, ddof=1))
        assert scores.std["map_step"] == pytest.approx(np.std(average_precision, ddof=1))


def test_one_trial_has_no_deviation() -> None:
    matrix = np.zeros((2, 2), np.float32)
    assert score(matrix, labels([1, 2], [1, 1]), labels([1, 2], [2, 2])).std == {}


def test_without_any_other_view_there_are_zeros() -> None:
    matrix = np.zeros((1, 2), np.float32)
    scores = score(matrix, labels([1], [1]), labels([1, 2], [1, 1]), trials=2)
    assert (scores.num_unanswerable, scores.cmc[1], scores.map_step) == (1, 0.0, 0.0)


def test_an_image_of_the_query_s_own_camera_is_no_pair_and_is_not_listed() -> None:
    matrix = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    query, gallery = labels([1], [1]), labels([2, 1, 3, 1], [1, 1, 2, 2])
    found = measure(lambda rows: matrix[rows], query, gallery, Protocol("single_shot"))
    assert found.ranking.indices[0, :3].tolist() == [2, 3, -1]
    assert (found.verification.positives.sum(), found.verification.negatives.sum()) == (1, 1)
    assert found.scores.cmc[1] == 0.0


@pytest.mark.parametrize("settings", [{"trials": 0}, {"shots": 0}])
def test_less_than_one_trial_or_shot_is_refused(settings: dict[str, int]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=f"at least 1 {name[:-1]}"):
        score(np.zeros((1, 1), np.float32), labels([1], [1]), labels([1], [2]), **settings)


def test_chance_is_an_identity_s_share_of_the_images_drawn() -> None:
    gallery = labels([1, 1, 2, 2, 3, 3, 4], [2] * 7)
    query = labels([1, 2, 4, 9], [1] * 4)
    assert chance_shots(query, gallery) == pytest.approx(1 / 4)
    assert chance_shots(query, gallery, shots=2) == pytest.approx((2 / 7 + 2 / 7 + 1 / 7) / 3)


def any_camera(matrix: FloatArray, people: list[int], trials: int, tile: int = 64) -> Scores:
    images = labels(people, [0] * len(people))
    protocol = Protocol("any_camera", trials=trials, seed=4)
    return measure(lambda rows: matrix[rows], images, images, protocol, tile=tile).scores


@pytest.mark.parametrize("tile", [3, 64])
def test_any_camera_equals_a_loop_over_trials_queries_and_drawn_images(tile: int) -> None:
    rng = np.random.default_rng(0)
    people = rng.permutation([1, 1, 1, 1, 2, 2, 2, 3, 3, 5, 0, 0, -1]).tolist()
    matrix = rng.random((len(people), len(people))).astype(np.float32)
    images = labels(people, [0] * len(people))
    rank1, rank5 = [], []
    for drawn, _ in draw_any_camera(images, trials=6, seed=4):
        assert sorted(people[i] for i in drawn) == [0, 0, 1, 2, 3, 5]
        ranks = []
        for query, person in enumerate(people):
            right = [i for i in drawn if people[i] == person]
            if person < 1 or query in drawn:
                continue
            ranks.append(sum(matrix[query, i] < matrix[query, right[0]] for i in drawn))
        assert len(ranks) == 3 + 2 + 1
        rank1.append(np.mean([rank < 1 for rank in ranks]))
        rank5.append(np.mean([rank < 5 for rank in ranks]))
    scores = any_camera(matrix, people, trials=6, tile=tile)
    assert scores.cmc[1] == pytest.approx(np.mean(rank1))
    assert scores.cmc[5] == pytest.approx(np.mean(rank5))
    assert scores.std["rank1"] == pytest.approx(np.std(rank1, ddof=1))


def test_with_any_camera_an_image_is_never_its_own_match() -> None:
    matrix = np.ones((4, 4), np.float32) - np.eye(4, dtype=np.float32)  # nearest to itself
    matrix[0, 2] = matrix[1, 3] = matrix[2, 0] = matrix[3, 1] = 0.1  # then to the other person
    images = labels([1, 1, 2, 2], [0] * 4)
    found = measure(lambda rows: matrix[rows], images, images, Protocol("any_camera", trials=9))
    assert (found.ranking.indices[:, 0] == [2, 3, 0, 1]).all()
    assert not (found.ranking.indices == np.arange(4)[:, None]).any()
    assert 0 < found.scores.cmc[1] < 1


def test_with_any_camera_both_sides_are_the_same_images() -> None:
    images = labels([1, 1, 2, 2], [0] * 4)
    fewer = labels([1, 1, 2], [0] * 3)
    matrix = np.zeros((3, 4), np.float32)
    with pytest.raises(ConfigError, match="3 queries and 4"):
        measure(lambda rows: matrix[rows], fewer, images, Protocol("any_camera"))
    assert chance_any_camera(images) == 1 / 2
