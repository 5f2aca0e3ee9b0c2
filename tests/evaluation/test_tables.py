"""The tables that ``reid eval`` prints, letter by letter."""

from __future__ import annotations

from reid.evaluation.tables import camera_tables, table
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
        "rank-1 of a random ranking: 1.2 %",
        "",
        "model       rank-1  rank-5  rank-10  rank-20  mAP (step)  mAP (trapezoid)  mINP",
        "run           73.1    88.0     92.0    100.0        62.1             60.5  30.0",
        "model.onnx    73.1    88.0     92.0    100.0        50.0             60.5  30.0",
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
    assert "cuhk01: single-shot, mean and std of 10 draws, seed 3" in text
    assert "73.1 ± 1.2" in text
    assert "62.1 ± 1.0" in text


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
    words = (
        "multi-shot: the nearest of a person's 5 random images, mean and std of 10 draws, seed 2"
    )
    assert text.startswith(f"market1501: {words}\n")


def test_no_query_with_an_answer_has_a_line_of_its_own() -> None:
    text = table([report("run", num_query=9, num_unanswerable=9)])
    assert "no query has a correct match" in text
    assert "excluded from the means" not in text


def test_rates_of_pairs_are_reported_and_where_pairs_are_too_few() -> None:
    text = table([report("run", tpr={1e-2: 0.912, 1e-3: 0.5, 1e-4: None}), report("other")])
    assert text.splitlines()[-4:] == [
        "",
        "TPR at FPR  0.01  0.001  0.0001",
        "run         91.2   50.0       -",
        "-: too few pairs to measure",
    ]
    assert "too few" not in table([report("run", tpr={1e-2: 1.0})])


def test_pairs_of_cameras_are_three_tables() -> None:
    pairs = (
        CameraPair(1, 2, 1200, 0.5, 0.25, 0.2),
        CameraPair(1, 3, 7, 1.0, 0.875, 0.8),
        CameraPair(10, 2, 3, 0.0, 0.1, 0.1),
    )
    assert camera_tables(report("run", camera_pairs=pairs)).splitlines()[1:] == [
        "rank-1     2      3",
        "1       50.0  100.0",
        "10       0.0      -",
        "",
        "mAP (step)     2     3",
        "1           25.0  87.5",
        "10          10.0     -",
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
