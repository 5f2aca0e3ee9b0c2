"""The table of camera pairs, by hand and against a search within each camera."""

from __future__ import annotations

import numpy as np
import pytest

from reid.evaluation.camera_pairs import CameraPairs
from reid.evaluation.ranking import MarketRules, pass_over
from reid.evaluation.scoring import measure
from reid.matching.labels import Labels
from reid.types import CameraPair, FloatArray, Protocol


def table(
    matrix: FloatArray, query: Labels, gallery: Labels, tile: int = 128
) -> tuple[CameraPair, ...]:
    found = CameraPairs(query, gallery)
    pass_over(lambda rows: matrix[rows], query, gallery, MarketRules(gallery), [found], tile=tile)
    return found.pairs()


def labels(people: list[int], cameras: list[int]) -> Labels:
    return Labels(np.array(people, np.int64), np.array(cameras, np.int64))


def test_a_pair_ranks_only_its_camera_s_images_without_junk() -> None:
    query = labels([1], [1])
    gallery = labels([2, -1, 1, 3, 1, 1, 2], [2, 2, 2, 3, 3, 1, 3])
    matrix = np.array([[0.3, 0.1, 0.4, 0.2, 0.1, 0.0, 0.5]], np.float32)
    second, third = table(matrix, query, gallery)
    assert second == CameraPair(1, 2, 1, rank1=0.0, map_step=1 / 2, map_trapezoid=1 / 4)
    assert third == CameraPair(1, 3, 1, rank1=1.0, map_step=1.0, map_trapezoid=1.0)


@pytest.mark.parametrize("seed", range(10))
def test_each_pair_s_figures_are_those_of_a_search_within_the_camera(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 9, (25, 60)).astype(np.float32)
    query = Labels(rng.integers(1, 6, 25), rng.integers(1, 4, 25))
    gallery = Labels(rng.integers(-1, 6, 60), rng.integers(1, 5, 60))
    expected = []
    for one in range(1, 4):
        for other in range(1, 5):
            rows, columns = query.camera_ids == one, gallery.camera_ids == other
            part = matrix[np.ix_(rows, columns)]
            found = measure(
                lambda tile, part=part: part[tile],  # type: ignore[misc]
                Labels(query.person_ids[rows], query.camera_ids[rows]),
                Labels(gallery.person_ids[columns], gallery.camera_ids[columns]),
                Protocol("market"),
            ).scores
            answered = found.num_query - found.num_unanswerable
            if answered:
                figures = (found.cmc[1], found.map_step, found.map_trapezoid)
                expected.append(CameraPair(one, other, answered, *figures))
    for tile in (7, 128):
        assert list(table(matrix, query, gallery, tile)) == pytest.approx(expected)


def test_no_right_image_gives_no_pair() -> None:
    assert table(np.zeros((1, 1), np.float32), labels([1], [1]), labels([2], [2])) == ()
