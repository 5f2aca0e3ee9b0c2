"""A shortlist beside the whole gallery: what it loses and what it saves, counted by hand."""

from __future__ import annotations

import pytest

from reid.evaluation.cascade import cascades, savings
from reid.types import EvalReport, Protocol


def report(model: str, rank1: float, map_step: float, pairs: int, seconds: float) -> EvalReport:
    return EvalReport(
        model=model,
        dataset="drawn",
        protocol=Protocol("market"),
        num_query=10,
        num_gallery=40,
        num_unanswerable=0,
        cmc={1: rank1},
        map_step=map_step,
        map_trapezoid=map_step,
        minp=0.1,
        num_compared=pairs,
        compare_s=seconds,
    )


ONE = [
    report("one, best 5", 0.7, 0.52, 50, 2.0),
    report("one", 0.8, 0.5, 400, 10.0),
    report("one, best 20", 0.8, 0.5, 200, 5.0),
]
OTHER = [
    report("other, best 5", 0.5, 0.4, 50, 1.0),
    report("other", 0.9, 0.6, 400, 10.0),
    report("other, best 20", 0.85, 0.55, 200, 5.0),
]


def test_each_shortlist_stands_against_the_whole_gallery_of_its_own_model() -> None:
    found = cascades([*ONE, *OTHER], (5, 0, 20))
    assert [(one.whole.model, one.short.model) for one in found] == [
        ("one", "one, best 5"),
        ("one", "one, best 20"),
        ("other", "other, best 5"),
        ("other", "other, best 20"),
    ]
    first = found[0]
    assert first.rank1_lost == pytest.approx(0.1)
    assert first.map_step_lost == pytest.approx(-0.02)
    assert first.pairs_saved == 1 - 50 / 400
    assert first.times_as_fast == 5
    assert first.to_json() == {
        "model": "one, best 5",
        "against": "one",
        "rank1_lost": first.rank1_lost,
        "map_step_lost": first.map_step_lost,
        "pairs_saved": 0.875,
        "times_as_fast": 5.0,
    }


def test_without_the_whole_gallery_there_is_nothing_to_compare_with() -> None:
    assert cascades([ONE[0], ONE[2]], (5, 20)) == []
    assert cascades([ONE[1]], ()) == []
    assert savings([]) == []


def test_savings_are_reported_a_line_per_shortlist() -> None:
    assert savings(cascades(ONE, (5, 0, 20))) == [
        "against the whole gallery\n"
        "one, best 5: loses 10.00 points of rank-1 and -2.00 of mAP (step); saves 87.5% of the "
        "comparisons, 5.0 times as fast\n"
        "one, best 20: loses 0.00 points of rank-1 and 0.00 of mAP (step); saves 50.0% of the "
        "comparisons, 2.0 times as fast"
    ]
