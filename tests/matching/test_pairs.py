"""PairMatcher on numpy's runners: each pair scored once, in tiles, by the two graphs."""

from __future__ import annotations

import numpy as np
import pytest

from reid.errors import ConfigError
from reid.matching import PairMatcher
from reid.types import FloatArray, Image
from tests.matching.conftest import DESCRIBED, PREPROCESS, TRAINED, CompareRunner, DescribeRunner


def literal_distances(images: list[Image], num_query: int) -> FloatArray:
    """Each pair through the two graphs, one by one, in float32 throughout."""
    describe, compare = DescribeRunner(), CompareRunner()
    described = [describe.run({"data": PREPROCESS.batch([image])}) for image in images]
    table = np.zeros((num_query, len(images)), np.float32)
    for q in range(num_query):
        for g, other in enumerate(described):
            inputs = {f"query_{name}": array for name, array in described[q].items()}
            inputs |= {f"gallery_{name}": array for name, array in other.items()}
            table[q, g] = -compare.run(inputs)["score"][0]
    return table


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-6), (True, 1e-3)])
def test_distances_are_minus_the_scores_of_each_pair(images, half, tolerance):
    matcher = PairMatcher(DescribeRunner(), CompareRunner(), batch_size=4, half=half)
    query, gallery = matcher.describe(images[:3]), matcher.describe(images)
    rows = matcher.tiles(query, gallery)
    found = np.concatenate([rows(slice(0, 2)), rows(slice(2, 3))])
    expected = literal_distances(images, 3)
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    assert np.abs(expected - expected.T[:3, :11].mean()).max() > 0.01  # they do differ


def test_a_pair_is_compared_once_however_often_its_row_is_asked_for(images):
    compare = CompareRunner()
    matcher = PairMatcher(DescribeRunner(), compare, batch_size=4)
    query, gallery = matcher.describe(images[:3]), matcher.describe(images)
    done: list[int] = []
    rows = matcher.tiles(query, gallery, done.append)
    first = rows(slice(0, 3))
    again = rows(slice(0, 3))
    assert compare.compared == sum(done) == 3 * 11
    assert np.array_equal(first, again)


def test_what_a_caller_does_to_a_tile_does_not_change_what_is_kept(matcher, images):
    rows = matcher.tiles(matcher.describe(images[:2]), matcher.describe(images))
    block = rows(slice(0, 2))
    before = block.copy()
    block[:] = 0
    assert np.array_equal(rows(slice(0, 2)), before)


@pytest.mark.parametrize("best", [1, 5, 11])
def test_a_shortlist_compares_only_the_best_by_the_vector_and_puts_them_first(images, best):
    compare = CompareRunner()
    matcher = PairMatcher(DescribeRunner(), compare, batch_size=4)
    query, gallery = matcher.describe(images[:3]), matcher.describe(images)
    whole = matcher.tiles(query, gallery)(slice(0, 3))
    compare.compared = 0
    rows = matcher.tiles(query, gallery, best=best)
    found = rows(slice(0, 3))
    assert compare.compared == 3 * best
    vectors = gallery.whole("vector").astype(np.float64)
    for q in range(3):
        apart = np.linalg.norm(vectors - query.whole("vector")[q], axis=1)
        near = set(np.argsort(apart, kind="stable")[:best].tolist())
        assert set(np.argsort(found[q], kind="stable")[:best].tolist()) == near
        chosen = sorted(near)
        np.testing.assert_allclose(found[q, chosen], whole[q, chosen], rtol=1e-6)
        far = [g for g in range(11) if g not in near]
        order = np.argsort(found[q, far], kind="stable")
        assert np.all(np.diff(apart[far][order]) >= -1e-3)


def test_a_shortlist_longer_than_the_gallery_is_one_line(matcher, images):
    described = matcher.describe(images)
    with pytest.raises(ConfigError, match="1 to 11 images, as the gallery has; found 12"):
        matcher.tiles(described, described, best=12)
    with pytest.raises(ConfigError, match="found -1"):
        matcher.refuse_shortlist(-1, 11)
    matcher.refuse_shortlist(11, 11)


def test_a_shortlist_needs_the_ranking_vector():
    describe = DescribeRunner()
    describe.manifest = TRAINED.of_graph("describe", describe.manifest.inputs, DESCRIBED[:2])
    matcher = PairMatcher(describe, CompareRunner())
    with pytest.raises(ConfigError, match="needs the ranking vector"):
        matcher.refuse_shortlist(3, 11)
    matcher.refuse_shortlist(0, 11)


def test_time_of_a_pair_is_measured_and_nothing_costs_nothing(matcher, images):
    described = matcher.describe(images)
    assert 0 < matcher.seconds(described, described) < 1
    assert matcher.seconds(matcher.describe([]), described) == 0
    assert matcher.tiles(described, matcher.describe([]))(slice(0, 2)).shape == (2, 0)


def test_images_that_are_not_finite_in_storage_are_told(images):
    matcher = PairMatcher(DescribeRunner(scale=1e6), CompareRunner(), batch_size=4)
    assert not matcher.finite(matcher.describe(images)).any()  # beyond float16
    single = PairMatcher(DescribeRunner(scale=1e6), CompareRunner(), batch_size=4, half=False)
    assert single.finite(single.describe(images)).all()


def test_closing_closes_both_graphs():
    describe, compare = DescribeRunner(), CompareRunner()
    PairMatcher(describe, compare).close()
    assert (describe.closed, compare.closed) == (1, 1)


def test_batch_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1, found 0"):
        PairMatcher(DescribeRunner(), CompareRunner(), batch_size=0)
