"""Appearance with either kind of matcher: what is kept, how it is compared."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from reid.deploy.gallery.limits import VECTOR_LIMIT
from reid.deploy.watch import appearance as module
from reid.deploy.watch.appearance import AppearanceModel, PersonAppearance
from reid.errors import ConfigError
from reid.matching import PairMatcher, unit_vectors
from reid.types import FloatArray, Image
from tests.deploy.watch.conftest import ColourMatcher, appearance_of
from tests.matching.conftest import CompareRunner, DescribeRunner


@pytest.fixture
def crops() -> list[Image]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (20, 10, 3)).astype(np.uint8) for _ in range(6)]


@pytest.fixture
def pairs() -> AppearanceModel:
    return AppearanceModel(PairMatcher(DescribeRunner(), CompareRunner(), batch_size=4))


def vector(appearance: PersonAppearance) -> FloatArray:
    return np.asarray(appearance.rows[0]["vector"][0], np.float32)


def test_the_appearance_of_a_track_is_the_mean_of_its_vectors() -> None:
    rng = np.random.default_rng(0)
    each = unit_vectors(rng.normal(size=(5, 3)).astype(np.float32) + 2)
    appearance = appearance_of(*each[0])
    mean = each[0]
    for count, one in enumerate(each[1:], start=2):
        appearance.add(appearance_of(*one))
        mean = mean + (one - mean) / count
        mean = mean / np.linalg.norm(mean)
    assert appearance.count == 5
    assert len(appearance.rows) == 1
    np.testing.assert_allclose(vector(appearance), mean, rtol=1e-5)


def test_a_long_track_follows_the_light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEAN_OF", 4)
    appearance = appearance_of(1, 0, 0)
    for _ in range(100):
        appearance.add(appearance_of(1, 0, 0))
    for _ in range(20):
        appearance.add(appearance_of(0, 1, 0))
    assert vector(appearance) == pytest.approx([0, 1, 0], abs=0.02)


def test_a_pair_network_s_track_keeps_its_clearest_and_its_newest(
    pairs: AppearanceModel, crops: list[Image]
) -> None:
    first, *others = pairs.describe(crops, [0.5, 0.9, 0.6, 0.7, 0.9, 0.2])
    assert first is not None
    kept = []
    for other in others:
        assert other is not None
        first.add(other)
        kept.append([id(row) for row in first.rows])
    rows = [id(other.rows[0]) for other in others if other is not None]
    assert [[rows.index(row) for row in each] for each in kept] == [
        [0],
        [0, 1],
        [0, 2],
        [3],
        [3, 4],
    ]


def test_all_crops_are_described_in_one_call(crops: list[Image]) -> None:
    matcher = ColourMatcher()
    model = AppearanceModel(matcher)
    found = model.describe(crops, [0.9] * 6)
    assert matcher.batches == [1, 6]  # the grey one that says the matcher's kind, and ours
    assert len(found) == 6
    assert model.describe([], []) == []
    assert matcher.batches == [1, 6]


def test_looks_that_are_not_finite_are_none(crops: list[Image]) -> None:
    class Broken(ColourMatcher):
        def describe(self, images: object, progress: object = None) -> FloatArray:
            vectors = super().describe(images)  # type: ignore[arg-type]
            vectors[1:2] = np.nan
            return vectors

    found = AppearanceModel(Broken()).describe(crops[:3], [0.9] * 3)
    assert [one is None for one in found] == [False, True, False]


def test_distances_are_the_matcher_s_of_the_nearest_rows(
    pairs: AppearanceModel, crops: list[Image]
) -> None:
    described = [one for one in pairs.describe(crops, [0.9, 0.1, 0.9, 0.9, 0.1, 0.9]) if one]
    single = pairs.distances(described, described)
    described[0].add(described[1])
    described[3].add(described[4])
    found = pairs.distances([described[0], described[2]], [described[3], described[5]])
    expected = [
        [min(single[a, b] for a in (0, 1) for b in (3, 4)), min(single[0, 5], single[1, 5])],
        [min(single[2, 3], single[2, 4]), single[2, 5]],
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert pairs.distances([], described).shape == (0, 6)
    assert pairs.distances(described, []).shape == (6, 0)


def test_of_many_looks_a_pair_network_compares_a_shortlist(
    crops: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHORTLIST", 2)
    compare = CompareRunner()
    pairs = AppearanceModel(PairMatcher(DescribeRunner(), compare, batch_size=4))
    described = [one for one in pairs.describe(crops, [0.9] * 6) if one]
    found = pairs.distances(described[:1], described)
    assert compare.compared == 2
    assert (found < 0).sum() == 2
    assert (pairs.relative(found) > 1e3).sum() == 4  # the others are no match


def test_a_distance_of_one_is_the_limit_for_vectors_and_for_scores(pairs: AppearanceModel) -> None:
    vectors = AppearanceModel(ColourMatcher())
    assert (vectors.limit, vectors.compares_pairs) == (VECTOR_LIMIT, False)
    assert (pairs.limit, pairs.compares_pairs) == (-0.7, True)
    half = np.array([VECTOR_LIMIT / 2, VECTOR_LIMIT, 2 * VECTOR_LIMIT], np.float32)
    assert vectors.relative(half) == pytest.approx([0.5, 1, 2])
    scores = np.array([-1.4, -0.7, -0.35], np.float32)
    assert pairs.relative(scores) == pytest.approx([0.5, 1, 2])


def test_the_usual_limit_of_pairs_is_that_of_the_models_score() -> None:
    compare = CompareRunner()
    describe = DescribeRunner()
    describe.manifest = dataclasses.replace(describe.manifest, usual_score=0.25)
    pairs = AppearanceModel(PairMatcher(describe, compare, batch_size=4))
    assert pairs.limit == -0.25


@pytest.mark.parametrize("limit", [0.0, -0.7, float("nan"), float("inf")])
def test_a_limit_of_the_other_kind_of_network_is_refused(limit: float) -> None:
    with pytest.raises(ConfigError, match=r"sign of 0\.65"):
        AppearanceModel(ColourMatcher(), limit)
    with pytest.raises(ConfigError, match=r"sign of -0\.7"):
        AppearanceModel(PairMatcher(DescribeRunner(), CompareRunner()), -limit)


def test_distances_are_relative_to_the_limit() -> None:
    model = AppearanceModel(ColourMatcher(), limit=0.5)
    others = [
        appearance_of(np.cos(angle), np.sin(angle), 0) for angle in 2 * np.arcsin([0.25, 0.5])
    ]
    assert model.relative_distances([appearance_of(1, 0, 0)], others)[0] == pytest.approx([1, 2])
