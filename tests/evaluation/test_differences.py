"""Models against the first one, figure by figure."""

from __future__ import annotations

import pytest

from reid.evaluation.differences import difference_table, differences
from tests.evaluation.test_tables import report


def test_each_figure_of_each_model_is_held_against_the_first() -> None:
    first, second = report("run"), report("half.onnx", map_step=0.6205, minp=0.31)
    (found,) = differences([first, second])
    assert (found.report, found.first) == (second, first)
    assert found.figures["map_step"] == pytest.approx(-0.0003)
    assert found.figures["minp"] == pytest.approx(0.01)
    assert set(found.figures) == {
        *(f"rank{k}" for k in (1, 5, 10, 20)),
        *("map_step", "map_trapezoid", "minp"),
    }
    assert found.to_json() == {"model": "half.onnx", "against": "run", **found.figures}


def test_the_table_has_points_with_their_sign() -> None:
    reports = [report("run"), report("a", map_step=0.6205, minp=0.31), report("b", minp=0.3 + 1e-9)]
    assert difference_table(differences(reports)) == [
        "difference from run, in points\n"
        "model  rank-1  rank-5  rank-10  rank-20  mAP (step)  mAP (trapezoid)   mINP\n"
        "a        0.00    0.00     0.00     0.00       -0.03             0.00  +1.00\n"
        "b        0.00    0.00     0.00     0.00        0.00             0.00   0.00"
    ]


def test_one_model_alone_has_no_difference() -> None:
    assert differences([report("run")]) == []
    assert difference_table([]) == []
