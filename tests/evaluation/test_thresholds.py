"""Thresholds against loops over every pair, every choice of a gallery and every draw."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from reid.errors import DataError
from reid.evaluation import thresholds as measuring
from reid.evaluation.nearest_pairs import PairCollector
from reid.evaluation.ranking import MarketRules, OtherViewRules, pass_over
from reid.evaluation.threshold_report import ThresholdReport, cosine
from reid.evaluation.thresholds import (
    chances_of_finding,
    distance_at,
    measure_thresholds,
    resampled,
)
from reid.matching.labels import Labels
from reid.types import FloatArray, Protocol

MARKET = Protocol("market")
Pair = tuple[int, int, float]


def people(
    seed: int, num_query: int = 150, num_gallery: int = 180, num_people: int = 12
) -> tuple[Labels, Labels]:
    """Junk and distractors are on both sides."""
    rng = np.random.default_rng(seed)
    query = Labels(rng.integers(-1, num_people + 1, num_query), rng.integers(1, 4, num_query))
    gallery = Labels(rng.integers(-1, num_people + 1, num_gallery), rng.integers(1, 4, num_gallery))
    return query, gallery


def alike(seed: int, query: Labels, gallery: Labels, decimals: int = 6) -> FloatArray:
    """Distances that are smaller within a person; few decimals make many of them equal."""
    rng = np.random.default_rng(seed)
    same = query.person_ids[:, None] == gallery.person_ids
    table = rng.uniform(0.5, 1.5, same.shape) - 0.4 * same
    return np.asarray(table.round(decimals), np.float32)


def pairs_by_loop(
    table: FloatArray, query: Labels, gallery: Labels, other_views: bool = False
) -> tuple[list[Pair], list[Pair]]:
    """(query, image, distance) of one person over two cameras, and of different people."""
    same, different = [], []
    for q, (person, camera) in enumerate(zip(*query, strict=True)):
        for g, (shown, by) in enumerate(zip(*gallery, strict=True)):
            junk = person in (-1, 0) or shown == -1
            if junk or (by == camera and (other_views or shown == person)):
                continue
            (same if shown == person else different).append((q, g, float(table[q, g])))
    return same, different


def measured(
    table: FloatArray, query: Labels, gallery: Labels, protocol: Protocol = MARKET, tile: int = 32
) -> ThresholdReport:
    return measure_thresholds(
        lambda rows: table[rows], query, gallery, protocol, source="drawn", graph="embed", tile=tile
    )


@pytest.mark.parametrize("decimals", [6, 3])
@pytest.mark.parametrize("name", ["market", "single_shot"])
def test_rates_equal_a_loop_over_every_pair(name: str, decimals: int) -> None:
    query, gallery = people(1)
    table = alike(2, query, gallery, decimals)
    same, different = pairs_by_loop(table, query, gallery, other_views=name == "single_shot")
    found = measured(table, query, gallery, Protocol(name))
    assert found.thresholds.num_different == len(different)
    assert found.num_same == len(same)
    (*rates,) = found.thresholds.rates
    assert [one.fpr for one in rates] == [1e-2, 1e-3]
    for one in rates:
        falses = [d for *_, d in different if d <= one.distance]
        assert len(falses) / len(different) <= one.fpr
        # One step further would accept too many.
        following = min(d for *_, d in different if d > one.distance)
        assert sum(d <= following for *_, d in different) / len(different) > one.fpr
        assert one.tpr == pytest.approx(sum(d <= one.distance for *_, d in same) / len(same))


@pytest.mark.parametrize("name", ["market", "single_shot"])
def test_intervals_are_of_people_drawn_again_with_all_their_pairs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "RESAMPLES", 40)
    query, gallery = people(3)
    table = alike(4, query, gallery)
    same, different = pairs_by_loop(table, query, gallery, other_views=name == "single_shot")
    one = measured(table, query, gallery, Protocol(name)).thresholds.rates[0]
    known = sorted({*query.person_ids.tolist(), *gallery.person_ids.tolist()} - {-1, 0})
    fprs, tprs = [], []
    for draw in resampled(len(known)):
        times = {0: 1.0, **dict(zip(known, draw, strict=True))}

        def weight(pair: Pair, times: dict[int, float] = times) -> float:
            return times[int(query.person_ids[pair[0]])] * times[int(gallery.person_ids[pair[1]])]

        def once(pair: Pair, times: dict[int, float] = times) -> float:
            return times[int(query.person_ids[pair[0]])]

        near = one.distance
        fprs.append(sum(weight(p) for p in different if p[2] <= near) / sum(map(weight, different)))
        tprs.append(sum(once(p) for p in same if p[2] <= near) / sum(map(once, same)))
    assert (one.fpr_low, one.fpr_high) == pytest.approx(np.percentile(fprs, (2.5, 97.5)))
    assert (one.tpr_low, one.tpr_high) == pytest.approx(np.percentile(tprs, (2.5, 97.5)))


def test_each_draw_has_as_many_people_as_there_are_and_is_the_same_again() -> None:
    draws = resampled(7)
    assert draws.shape == (measuring.RESAMPLES, 7)
    assert (draws.sum(axis=1) == 7).all()
    assert draws.std() > 0.5
    np.testing.assert_array_equal(draws, resampled(7))


@pytest.mark.parametrize("others", [5, 7])
def test_the_chance_of_a_match_is_that_over_all_galleries(others: int) -> None:
    for accepted, entries in itertools.product(range(others + 1), range(1, others + 1)):
        galleries = list(itertools.combinations(range(others), entries))
        hits = sum(min(gallery) < accepted for gallery in galleries)
        (found,) = chances_of_finding(np.array([accepted]), np.array([others]), entries)
        assert found == pytest.approx(hits / len(galleries))


def test_a_search_finds_a_stranger_as_often_as_a_loop_says_and_the_sought_are_left_out() -> None:
    query, gallery = people(5, num_query=260)
    table = alike(6, query, gallery)
    _, different = pairs_by_loop(table, query, gallery)
    found = measured(table, query, gallery)
    strangers = [q for q, person in enumerate(query.person_ids) if person > 0]
    per_query = {q: [d for at, _, d in different if at == q] for q in strangers}
    assert [entries for entries, _ in found.fpir] == [10, 100]
    for entries, shares in found.fpir:
        for rate, share in zip(found.thresholds.rates, shares, strict=True):
            chances = []
            for distances in per_query.values():
                near = sum(d <= rate.distance for d in distances)
                none = math.comb(len(distances) - near, entries) / math.comb(
                    len(distances), entries
                )
                chances.append(1 - none)
            assert share == pytest.approx(np.mean(chances))
    for search in found.thresholds.searches:
        assert 0 < search.fpir <= measuring.SEARCH_FPIR
        assert (search.fpir_low or 1) <= search.fpir <= (search.fpir_high or 0)
    assert [one.entries for one in found.thresholds.searches] == [10, 100]


def test_what_the_data_is_too_small_for_is_named_with_what_it_needs() -> None:
    query, gallery = people(7, num_query=260)
    found = measured(alike(8, query, gallery), query, gallery)
    needs = {one.what: one.needs for one in found.needed}
    sizes = [f"FPIR at {size} entries" for size in ("1,000", "10,000")]
    assert list(needs) == ["FPR 0.0001", "FPR 1e-05", *sizes]
    pairs, number = found.thresholds.num_different, found.thresholds.num_people
    assert f"about {math.ceil(number * math.sqrt(100_000 / pairs))} people" in needs["FPR 0.0001"]
    for what, words in needs.items():
        assert f"{what}: needs {words}" in found.to_text()
    assert found.to_json()["needed"][0]["what"] == "FPR 0.0001"


def test_a_rate_that_was_asked_for_and_cannot_be_shown_is_refused_with_the_number_needed() -> None:
    query, gallery = people(9)
    table = alike(10, query, gallery)
    with pytest.raises(DataError, match=r"FPR 1e-05.* people .*1,000,000 pairs"):
        measure_thresholds(
            lambda rows: table[rows], query, gallery, MARKET, source="x", graph="embed", fpr=1e-5
        )
    other = measure_thresholds(
        lambda rows: table[rows], query, gallery, MARKET, source="x", graph="embed", fpr=0.05
    )
    assert [one.fpr for one in other.thresholds.rates] == [0.05, 1e-2, 1e-3]
    assert other.thresholds.fpr == 0.05


def test_too_few_people_are_refused_with_the_number_needed() -> None:
    query, gallery = people(11, num_people=4)
    with pytest.raises(DataError, match=r"4 people .*at least 10"):
        measured(alike(12, query, gallery), query, gallery)


def test_a_model_to_which_all_people_are_alike_is_refused() -> None:
    query, gallery = people(13)
    with pytest.raises(DataError, match="equally near"):
        measured(np.ones((150, 180), np.float32), query, gallery)
    few_values = measured(alike(13, query, gallery, decimals=2), query, gallery)
    assert [one.fpr for one in few_values.thresholds.rates] == [1e-2]
    needs = {one.what: one.needs for one in few_values.needed}
    assert "equally near" in needs["FPR 0.001"]


@pytest.mark.parametrize("rules", [MarketRules, OtherViewRules])
def test_only_the_nearest_share_of_the_pairs_is_kept(rules: type[MarketRules]) -> None:
    query, gallery = people(14)
    table = alike(15, query, gallery)
    _, different = pairs_by_loop(table, query, gallery, other_views=rules is OtherViewRules)
    collector = PairCollector(query.person_ids > 0, 180, 0.01)
    pass_over(lambda r: table[r], query, gallery, rules(gallery), [collector], tile=8)
    found = collector.found()
    kept = 1 + math.ceil(0.01 * 150 * 180)
    assert len(found.distances) == kept
    assert found.distances.tolist() == sorted(np.float32(d) for *_, d in different)[:kept]
    for distance, q, g in zip(found.distances, found.queries, found.images, strict=True):
        assert table[q, g] == distance
    counts = np.bincount([q for q, *_ in different], minlength=150)
    np.testing.assert_array_equal(found.per_query, counts)


def test_equal_distances_are_accepted_together_or_not_at_all() -> None:
    values = np.array([1, 2, 2, 2, 3], np.float32)
    assert [distance_at(values, count) for count in range(6)] == [None, 1, 1, 1, 2, 3]


def test_the_text_says_cosines_of_vectors_and_none_of_scores() -> None:
    query, gallery = people(16)
    table = alike(17, query, gallery)
    found = measured(table, query, gallery)
    first = found.thresholds.rates[0]
    assert f"{cosine(first.distance):.4f}" in found.to_text()
    vectors = np.array([[1, 0], [0.6, 0.8]])
    assert cosine(float(np.linalg.norm(vectors[0] - vectors[1]))) == pytest.approx(0.6)
    scores = measure_thresholds(
        lambda rows: -1 / table[rows],
        query,
        gallery,
        MARKET,
        source="drawn",
        graph="describe",
        unit_vectors=False,
    )
    assert "cosine" not in scores.to_text()
    assert scores.to_json()["cosine"] is None
    assert scores.thresholds.rates[0].distance == pytest.approx(-1 / first.distance)
