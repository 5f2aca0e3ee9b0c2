"""The tables that ``reid eval`` prints, letter by letter."""

from __future__ import annotations

import pytest

from reid.evaluation.tables import camera_tables, percent, points, short_names, table
from reid.types import CameraPair, EvalReport, Protocol


def report(model: str, **changes: object) -> EvalReport:
    fields: dict[str, object] = {
        "model": model,
        "dataset": "market1501",
        "protocol": Protocol("market"),
        "num_query": 3368,
        "num_gallery": 15913,
        "num_unanswerable": 0,
        "cmc": {1: 0.7312, 5: 0.88, 10: 0.92, 20: 1.0},
        "map_step": 0.6208,
        "map_trapezoid": 0.6049,
        "minp": 0.3,
    }
    return EvalReport(**(fields | changes))  # type: ignore[arg-type]


def test_the_table_has_one_row_per_model_under_protocol_and_counts() -> None:
    text = table([report("run"), report("model.onnx", map_step=0.5)], chance=0.0123)
    assert text.splitlines() == [
        "market1501: Market protocol, single query",
        "3,368 queries, 15,913 gallery images",
        "rank-1 of a random ranking: 1.23 %",
        "",
        "model       rank-1  rank-5  rank-10  rank-20  mAP (step)  mAP (trapezoid)   mINP",
        "run          73.12   88.00    92.00   100.00       62.08            60.49  30.00",
        "model.onnx   73.12   88.00    92.00   100.00       50.00            60.49  30.00",
    ]


def test_the_table_shows_the_deviation_over_trials() -> None:
    text = table(
        [
            report(
                "run",
                dataset="cuhk01",
                protocol=Protocol("single_shot", 10, seed=3),
                std={"rank1": 0.0123, "map_step": 0.01},
            )
        ]
    )
    assert "; mean and std of 10 draws, seed 3" in text
    assert "73.12 ± 1.23" in text
    assert "62.08 ± 1.00" in text


def test_the_table_says_how_many_queries_have_no_answer() -> None:
    words = "queries without a correct match in the gallery, excluded from the means"
    assert f"{words}: 7" in table([report("run", num_unanswerable=7)])
    assert words not in table([report("run")])


def test_the_table_says_what_the_comparisons_cost() -> None:
    text = table([report("run", num_compared=1250, compare_s=1.25), report("vectors")])
    assert text.endswith("\n\nrun: 1,250 pairs compared in 1.2 s (1,000 pairs/s)")


def test_models_measured_on_different_data_stand_in_tables_of_their_own() -> None:
    text = table([report("a"), report("b", dataset="cuhk01"), report("c")])
    assert text.count("model  rank-1") == 2
    assert text.index("c  ") < text.index("b  ")


def test_no_report_makes_an_empty_table() -> None:
    assert table([]) == ""


def test_multi_shot_says_how_many_images_of_a_person_there_are() -> None:
    text = table([report("run", protocol=Protocol("multi_shot", 10, 2, shots=5))])
    protocol = text.splitlines()[0]
    assert protocol.startswith("market1501: multi-shot (CUHK's protocol): ")
    assert "5 random images of each person from the other cameras" in protocol
    assert protocol.endswith("; mean and std of 10 draws, seed 2")


def test_no_query_with_an_answer_has_a_line_of_its_own() -> None:
    text = table([report("run", num_query=9, num_unanswerable=9)])
    assert "no query has a correct match" in text
    assert "excluded from the means" not in text


def test_rates_of_pairs_and_their_distances_are_reported_and_where_pairs_are_too_few() -> None:
    rates: dict[str, object] = {"tpr": {1e-2: 0.912, 1e-3: 0.5, 1e-4: None}}
    text = table([report("run", **rates), report("other")])
    assert text.splitlines()[-4:] == [
        "",
        "TPR at FPR   0.01  0.001  0.0001",
        "run         91.20  50.00       -",
        "-: too few pairs to measure",
    ]
    rates["distance_at"] = {1e-2: 0.87654, 1e-3: 0.5, 1e-4: None}
    assert table([report("run", **rates)]).splitlines()[-3:-1] == [
        "distance at FPR    0.01   0.001  0.0001",
        "run              0.8765  0.5000       -",
    ]
    assert "too few" not in table([report("run", tpr={1e-2: 1.0})])
    assert "cosine" not in table([report("run", **rates)])
    *_, head, row, few, words = table([report("run", **rates, unit_vectors=True)]).splitlines()
    assert head.split() == ["cosine", "at", "FPR", "0.01", "0.001", "0.0001"]
    assert row.split() == ["run", f"{1 - 0.87654**2 / 2:.4f}", "0.8750", "-"]
    assert few.startswith("-:")
    assert "cosine = 1 - distance^2 / 2" in words


def test_pairs_of_cameras_are_three_tables() -> None:
    pairs = (
        CameraPair(1, 2, 1200, 0.5, 0.25, 0.2),
        CameraPair(1, 3, 7, 1.0, 0.875, 0.8),
        CameraPair(10, 2, 3, 0.0, 0.1, 0.1),
    )
    assert camera_tables(report("run", camera_pairs=pairs)).splitlines()[1:] == [
        "rank-1      2       3",
        "1       50.00  100.00",
        "10       0.00       -",
        "",
        "mAP (step)      2      3",
        "1           25.00  87.50",
        "10          10.00      -",
        "",
        "queries      2  3",
        "1        1,200  7",
        "10           3  -",
    ]


def test_without_pairs_of_cameras_the_tables_are_empty() -> None:
    assert camera_tables(report("run")).splitlines()[1:] == [
        "rank-1",
        "",
        "mAP (step)",
        "",
        "queries",
    ]


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [
        (1731, 2000, "86.55"),  # 86.5499... in binary
        (201, 400_000, "0.05"),
        (86_545, 100_000, "86.55"),  # a half is rounded up, as on paper
        (1, 3, "33.33"),
        (0, 5, "0.00"),
        (5, 5, "100.00"),
    ],
)
def test_percent_is_rounded_as_on_paper(count: int, total: int, expected: str) -> None:
    assert percent(count / total) == expected


def test_a_difference_of_nothing_has_no_sign() -> None:
    assert points(-1e-9) == points(1e-9, "+") == "0.00"
    assert (points(-0.012), points(0.012, "+")) == ("-1.20", "+1.20")
    assert points(0.61 - 0.59245) == "1.76"  # 1.7549999... in binary


def test_models_have_the_shortest_names_that_tell_them_apart() -> None:
    models = {
        "/data/runs/market": "market",
        "/data/runs/market, best 10": "market, best 10",
        "old/csn/checkpoint.pt": "old/csn/checkpoint.pt",
        "new/csn/checkpoint.pt": "new/csn/checkpoint.pt",
        "new/sisnet/checkpoint.pt": "sisnet/checkpoint.pt",
        "exported/a.onnx": "a.onnx",
        "b/x": "b/x",
        "a/b/x": "a/b/x",
        ".": ".",
    }
    assert short_names(list(models)) == models


def test_a_model_has_its_short_name_in_the_table_and_its_path_in_the_values() -> None:
    one = report("/data/runs/market", short_name="market", tpr={1e-2: 1.0}, warnings=("so",))
    text = table([one]) + camera_tables(one)
    assert "/data" not in text
    assert text.count("market ") == 2
    assert one.to_json()["model"] == "/data/runs/market"


def test_why_results_may_be_too_good_is_said_once() -> None:
    one = report("run", num_trained_on=1234, warnings=("a copy", "a name"))
    text = table([one, report("other", num_trained_on=0, warnings=("a copy",))])
    assert "run was trained on 1,234 of the test images" in text
    assert text.count("warning: a copy") == 1
    assert "warning: a name" in text
    assert "other was" not in text
    found = one.to_json()
    assert (found["num_trained_on"], found["warnings"]) == (1234, ["a copy", "a name"])
    assert report("file.onnx").to_json()["num_trained_on"] is None
