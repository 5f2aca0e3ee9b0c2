"""Figures of the papers: those of the same test stand beside a measured one, others do not."""

from __future__ import annotations

import pytest

from reid.data import DATASETS
from reid.data.readers.datasets import published_counts
from reid.evaluation.published import published_beside, published_table, published_tests
from reid.evaluation.scoring import PROTOCOLS
from reid.evaluation.tables import COLUMNS
from reid.types import EvalReport, Protocol
from tests.evaluation.test_tables import report

WHOLE = {"num_identities": 750, "num_query": 3368, "num_gallery": 19732}


def market(**changes: object) -> EvalReport:
    return report("run", **(WHOLE | changes))


def test_every_row_is_of_a_known_dataset_and_has_figures_and_a_source() -> None:
    tests = published_tests()
    assert {one.dataset for one in tests} <= set(DATASETS)
    assert {one.protocol for one in tests} <= set(PROTOCOLS)
    for row in (row for one in tests for row in one.rows):
        assert row.source
        assert set(row.figures) <= {*COLUMNS.values(), "gap_rank1", "gap_map"}
        assert all(0 < figure < 1 for figure in row.figures.values())
        ranks = [row.figures[name] for name in ("rank1", "rank5", "rank10") if name in row.figures]
        assert ranks == sorted(ranks)
    keys = [(one.dataset, one.num_identities, row.method) for one in tests for row in one.rows]
    assert len(set(keys)) == len(keys)


def test_counts_of_a_fixed_test_are_those_that_its_reader_knows() -> None:
    for test in published_tests():
        counts = published_counts(test.dataset)
        if test.num_query:
            assert counts["query"] == (test.num_query, test.num_identities)
            assert counts["gallery"][0] == test.num_gallery


def test_the_papers_rows_stand_below_the_measured_one() -> None:
    beside = published_beside(market())
    assert beside.test is not None
    methods = [row.method for row in beside.test.rows]
    assert {"MSP-CNN", "SiSNet+DRC, S+T"} <= set(methods)
    lines = published_table(market()).splitlines()
    assert lines[0] == "published results with the same protocol"
    assert lines[2].startswith("run ")
    msp = next(line for line in lines if line.startswith("MSP-CNN"))
    assert msp.split()[1:] == ["81.9", "-", "-", "-", "-", "63.6", "-"]
    sisnet = next(line for line in lines if line.startswith("SiSNet+DRC, S+T"))
    assert sisnet.split()[2:] == ["95.2", "-", "-", "-", "85.4", "-", "-"]
    assert any("ICIP 2020" in line and "(step) is inferred" in line for line in lines)
    first = beside.to_json()["rows"][0]
    assert (first["method"], first["rank1"]) == ("MSP-CNN", pytest.approx(0.819))


def test_figures_of_the_papers_have_the_digits_that_were_printed() -> None:
    (test,) = (one for one in published_tests() if one.dataset == "viper")
    (row,) = (one for one in test.rows if one.method == "CSN (L2, L3, L4)")
    assert [row.percent[name] for name in ("rank1", "rank5", "rank10")] == [
        *("50.10", "73.10", "84.35")
    ]
    assert [row.figures[name] for name in ("rank1", "rank10")] == [0.501, 0.8435]
    found = row.to_json()
    assert (found["rank10"], found["percent"]["rank10"]) == (0.8435, "84.35")
    cuhk01 = report(
        "run", dataset="cuhk01", protocol=Protocol("single_shot", 10), num_identities=100
    )
    assert " 86.55 " in published_table(cuhk01)


def test_what_cascading_adds_is_kept_beside_the_figures_of_one_scale() -> None:
    (test,) = (one for one in published_tests() if one.dataset == "msmt17")
    gaps = {row.method: row.figures.get("gap_map") for row in test.rows}
    assert gaps["SiSNet's baseline, S"] == pytest.approx(0.0406)
    assert gaps["SiSNet+DRC, S+T"] == pytest.approx(0.0002)
    assert gaps["OSNet"] is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"num_gallery": 15_913}, "19,732 gallery images, measured: 15,913"),
        ({"num_query": 100}, "3,368 queries, measured: 100"),
        ({"num_identities": 20}, "750 identities, measured: 20"),
        ({"protocol": Protocol("single_shot", 10)}, "protocol market, measured: single_shot"),
        ({"reranking": "k1 20"}, "without re-ranking"),
        ({"dataset": "folder"}, "no published results for folder; there are for cuhk01, "),
    ],
)
def test_another_test_is_refused_in_one_line_that_says_why(
    changes: dict[str, object], why: str
) -> None:
    beside = published_beside(market(**changes))
    assert beside.test is None
    assert why in beside.why
    assert beside.to_json()["rows"] == []
    assert published_table(market(**changes)) == f"not comparable with the papers: {beside.why}"


def test_of_two_splits_of_a_dataset_each_has_its_own_rows() -> None:
    def cuhk01(num: int) -> EvalReport:
        protocol = Protocol("single_shot", 10)
        return report("run", dataset="cuhk01", protocol=protocol, num_identities=num)

    small, large = (published_beside(cuhk01(num)).test for num in (100, 486))
    assert small is not None
    assert large is not None
    assert [row.method for row in small.rows][1:3] == ["CSN (L2, L3)", "CSN (L2, L3, L4)"]
    assert [row.figures["rank1"] for row in large.rows] == [pytest.approx(0.637)]
    why = published_beside(cuhk01(50)).why
    assert "100 identities, measured: 50; or 486 identities, measured: 50" in why
