"""Ranks against a loop written from Market's protocol; ties, junk, tiles."""

from __future__ import annotations

import numpy as np
import pytest

from reid.evaluation.ranking import (
    MarketRules,
    RanksOfGood,
    Tile,
    nearest_in,
    pass_over,
    rank_distances,
)
from reid.matching.distances import Distances
from reid.matching.labels import Labels
from reid.types import FloatArray, IntArray


def labels(people: list[int], cameras: list[int]) -> Labels:
    return Labels(np.array(people, np.int64), np.array(cameras, np.int64))


def market_ranks(
    distances: Distances, query: Labels, gallery: Labels, tile: int = 128
) -> list[IntArray]:
    found = RanksOfGood()
    pass_over(distances, query, gallery, MarketRules(gallery), [found], tile=tile)
    return found.ranks


def random_case(seed: int) -> tuple[FloatArray, Labels, Labels]:
    """Few distinct distances, so many ties; ids -1 (junk) and 0 (distractors) among the rest."""
    rng = np.random.default_rng(seed)
    num_query, num_gallery = int(rng.integers(1, 12)), int(rng.integers(1, 40))
    matrix = rng.integers(0, 6, (num_query, num_gallery)).astype(np.float32)
    query = Labels(rng.integers(1, 5, num_query), rng.integers(1, 4, num_query))
    gallery = Labels(rng.integers(-1, 5, num_gallery), rng.integers(1, 4, num_gallery))
    return matrix, query, gallery


def ranked_by_loop(
    row: FloatArray, person: int, camera: int, gallery: Labels
) -> list[tuple[int, bool]]:
    """(gallery index, right or not) from nearest to farthest, by Market's rules."""
    ranked = []
    for index in sorted(range(len(row)), key=lambda g: (row[g], g)):
        gallery_person = int(gallery.person_ids[index])
        if gallery_person == -1:
            continue
        if gallery_person == person and int(gallery.camera_ids[index]) == camera:
            continue
        ranked.append((index, gallery_person == person))
    return ranked


@pytest.mark.parametrize("seed", range(40))
def test_ranks_equal_a_loop_over_the_sorted_gallery(seed: int) -> None:
    matrix, query, gallery = random_case(seed)
    found = market_ranks(lambda rows: matrix[rows], query, gallery)
    for q, ranks in enumerate(found):
        person, camera = int(query.person_ids[q]), int(query.camera_ids[q])
        ranked = ranked_by_loop(matrix[q], person, camera, gallery)
        assert ranks.tolist() == [rank for rank, (_, right) in enumerate(ranked) if right]


@pytest.mark.parametrize("seed", range(40))
def test_the_ranked_list_equals_a_loop_over_the_sorted_gallery(seed: int) -> None:
    matrix, query, gallery = random_case(seed)
    for k in (1, 3, 50):
        ranking = rank_distances(lambda rows: matrix[rows], query, gallery, k)
        assert ranking.indices.shape == (len(matrix), k)
        for q in range(len(matrix)):
            person, camera = int(query.person_ids[q]), int(query.camera_ids[q])
            ranked = ranked_by_loop(matrix[q], person, camera, gallery)[:k]
            end = [-1] * (k - len(ranked))
            assert ranking.indices[q].tolist() == [index for index, _ in ranked] + end
            assert ranking.correct[q].tolist() == [right for _, right in ranked] + [False] * len(
                end
            )
            expected = [float(matrix[q, index]) for index, _ in ranked] + [np.inf] * len(end)
            assert ranking.distances[q].tolist() == expected


@pytest.mark.parametrize("tile", [1, 2, 3, 7, 100])
def test_the_tile_size_does_not_change_the_ranks(tile: int) -> None:
    rng = np.random.default_rng(5)
    matrix = rng.integers(0, 9, (13, 60)).astype(np.float32)
    query = Labels(rng.integers(1, 5, 13), rng.integers(1, 4, 13))
    gallery = Labels(rng.integers(-1, 5, 60), rng.integers(1, 4, 60))
    whole = market_ranks(lambda rows: matrix[rows], query, gallery, tile=13)
    tiled = market_ranks(lambda rows: matrix[rows], query, gallery, tile=tile)
    assert [one.tolist() for one in tiled] == [one.tolist() for one in whole]


def test_query_never_matches_its_own_camera() -> None:
    matrix = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    query, gallery = labels([7], [1]), labels([7, 8, 7, 9], [1, 1, 2, 2])
    assert market_ranks(lambda rows: matrix[rows], query, gallery)[0].tolist() == [1]
    assert rank_distances(lambda rows: matrix[rows], query, gallery, 3).indices.tolist() == [
        [1, 2, 3]
    ]


def test_junk_is_skipped_and_a_distractor_is_a_wrong_answer() -> None:
    matrix = np.array([[0.1, 0.2, 0.3]], np.float32)
    gallery = labels([-1, 0, 7], [2, 2, 2])
    assert market_ranks(lambda rows: matrix[rows], labels([7], [1]), gallery)[0].tolist() == [1]


def test_a_distractor_is_no_correct_match_of_a_query_without_identity() -> None:
    gallery = labels([0, 7, -1], [2, 2, 2])
    for person in (0, -1):
        (ranks,) = market_ranks(
            lambda rows: np.zeros((1, 3), np.float32), labels([person], [1]), gallery
        )
        assert ranks.tolist() == []


def test_equal_distances_keep_the_order_of_the_gallery() -> None:
    matrix = np.zeros((1, 5), np.float32)
    gallery = labels([2, 1, 3, 1, 4], [2] * 5)
    assert market_ranks(lambda rows: matrix[rows], labels([1], [1]), gallery)[0].tolist() == [1, 3]
    ranking = rank_distances(lambda rows: matrix[rows], labels([1], [1]), gallery, 4)
    assert ranking.indices.tolist() == [[0, 1, 2, 3]]


def test_a_list_of_no_length_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        rank_distances(
            lambda rows: np.zeros((1, 1), np.float32), labels([1], [1]), labels([1], [2]), 0
        )


@pytest.mark.parametrize("size", [1, 31, 200, 1000])
def test_the_nearest_are_those_of_a_stable_sort_at_any_length(size: int) -> None:
    rng = np.random.default_rng(size)
    for values in (rng.random(size), rng.integers(0, 5, size), np.zeros(size), -rng.random(size)):
        row = values.astype(np.float32)
        row[rng.random(size) < 0.2] = np.inf
        finite = int(np.isfinite(row).sum())
        for k in (1, 5, 30, size):
            expected = np.argsort(row, kind="stable")[: min(k, finite)]
            assert nearest_in(row, k).tolist() == expected.tolist()


def test_a_tile_shows_the_distances_as_they_were_and_with_the_skipped_at_infinity() -> None:
    shown: list[Tile] = []

    class Keeper:
        def add(self, tile: Tile) -> None:
            shown.append(tile)

    matrix = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    query, gallery = labels([7], [1]), labels([7, -1, 7, 9], [1, 2, 2, 2])
    pass_over(lambda rows: matrix[rows], query, gallery, MarketRules(gallery), [Keeper()])
    (tile,) = shown
    assert tile.distances.tolist() == matrix.tolist()
    assert (tile.ranked == np.array([[np.inf, np.inf, *matrix[0, 2:]]], np.float32)).all()
    assert [one.tolist() for one in tile.good] == [[2]]
    assert sorted(tile.skipped[0].tolist()) == [0, 1]
