"""``reid.score``: the protocol on arrays that were counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

import reid

# Two queries; right images at ranks 1 and 3 of the first, at rank 2 of the second.
TABLE = np.array([[0.1, 0.2, 0.3], [0.2, 0.1, 0.3]])


def test_figures_are_those_counted_by_hand() -> None:
    found = reid.score(TABLE, [1, 1], [1, 2, 1])
    # Query 1: precision 1/1 and 2/3. Query 2: hits at ranks 2 and 3, precision 1/2 and 2/3.
    assert found.rank1 == 0.5
    assert found.mAP == pytest.approx(((1 + 2 / 3) / 2 + (1 / 2 + 2 / 3) / 2) / 2)
    assert found.mINP == pytest.approx(2 / 3)
    assert (found.num_query, found.num_unanswerable) == (2, 0)


def test_query_never_matches_its_own_camera() -> None:
    found = reid.score(
        TABLE[:1], ["ann"], ["ann", "bob", "ann"], ["door"], ["door", "hall", "hall"]
    )
    # The nearest is skipped: of bob and ann, ann is second.
    assert found.rank1 == 0.0
    assert found.mAP == pytest.approx(1 / 2)


def test_an_image_of_identity_minus_one_is_junk_and_zero_is_a_person() -> None:
    assert reid.score([[0.1, 0.2]], [5], [-1, 5]).rank1 == 1.0
    assert reid.score([[0.1, 0.2]], [0], [0, 5]).rank1 == 1.0


def test_a_query_without_a_right_image_is_counted_and_left_out() -> None:
    found = reid.score(TABLE, [1, 9], [1, 2, 1])
    assert (found.num_query, found.num_unanswerable) == (2, 1)
    assert found.rank1 == 1.0


def test_single_shot_draws_one_image_of_each_person() -> None:
    cameras = [0], [1, 1, 1]
    found = reid.score(
        TABLE[:1], [1], [1, 2, 1], *cameras, protocol="single_shot", trials=20, seed=3
    )
    # Drawn at rank 1 or, behind person 2, at rank 2.
    assert 0 < found.rank1 < 1


def test_names_numbers_and_arrays_are_the_same() -> None:
    by_name = reid.score(TABLE, ["1", "1"], np.array(["1", "2", "1"]))
    assert by_name == reid.score(TABLE.tolist(), np.array([1, 1]), [1, 2, 1])


def test_queries_that_are_in_the_gallery_are_told() -> None:
    vectors = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = np.sqrt(np.maximum(0, 2 - 2 * vectors @ vectors.T))
    people = [1, 1, 2, 2, 3, 3]
    with pytest.warns(UserWarning, match="in the gallery itself"):
        assert reid.score(table, people, people).rank1 == 1.0
    with pytest.warns(UserWarning, match="in the gallery itself"):
        reid.score(table[1:4], people[1:4], people)
    cameras = [0, 1] * 3
    reid.score(table, people, people, cameras, cameras)  # skips each image itself
    reid.score(table + np.eye(6, dtype=np.float32), people, people)
    reid.score(table, people, people[::-1])
