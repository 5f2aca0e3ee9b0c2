"""Distances against loops; tiles that cannot be ranked are refused."""

from __future__ import annotations

import numpy as np
import pytest

from reid.errors import DataError, ModelFileError
from reid.matching.distances import Distances, euclidean_distances, euclidean_tiles, tiles_of
from reid.types import FloatArray


def test_euclidean_distances_equal_a_loop() -> None:
    rng = np.random.default_rng(0)
    query, gallery = rng.standard_normal((7, 16)), rng.standard_normal((9, 16))
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    found = euclidean_distances(query.astype(np.float32), gallery.astype(np.float32))
    assert found.dtype == np.float32
    for q in range(7):
        for g in range(9):
            expected = sum((a - b) ** 2 for a, b in zip(query[q], gallery[g], strict=True)) ** 0.5
            assert abs(float(found[q, g]) - expected) < 1e-5


def test_a_twin_is_at_distance_zero_and_not_at_nan() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((50, 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.diagonal(euclidean_distances(vectors, vectors)).max() < 2e-3


def test_vectors_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\)"):
        euclidean_distances(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))


def through(distances: Distances, num_query: int, num_gallery: int, tile: int = 2) -> None:
    for _ in tiles_of(distances, num_query, num_gallery, tile):
        pass


def test_no_more_rows_than_a_tile_are_asked_for_at_once() -> None:
    asked: list[int] = []

    def distances(rows: slice) -> FloatArray:
        asked.append(rows.stop - rows.start)
        return np.zeros((rows.stop - rows.start, 2), np.float32)

    through(distances, 10, 2, tile=4)
    assert asked == [4, 4, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_distance_that_is_not_finite_is_refused_with_its_query(bad: float) -> None:
    matrix = np.ones((6, 3), np.float32)
    matrix[4, 2] = bad
    with pytest.raises(ModelFileError, match="query 4"):
        through(lambda rows: matrix[rows], 6, 3)


def test_vectors_too_large_for_float32_are_refused() -> None:
    huge = np.full((2, 4), 3e38, np.float32)
    with pytest.raises(ModelFileError, match="not all finite"):
        through(euclidean_tiles(huge, huge), 2, 2)


def test_an_empty_side_is_refused() -> None:
    with pytest.raises(DataError, match="gallery is empty"):
        through(lambda rows: np.zeros((1, 0), np.float32), 1, 0)
    with pytest.raises(DataError, match="query is empty"):
        through(lambda rows: np.zeros((0, 1), np.float32), 0, 1)


def test_distances_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\), found \(1, 3\)"):
        through(lambda rows: np.zeros((1, 3), np.float32), 1, 2)


def test_a_tile_without_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 query"):
        through(lambda rows: np.zeros((1, 1), np.float32), 1, 1, tile=0)
