"""Stored distances hold in a candidate, or the parity report says that they do not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid.cli import main
from reid.evaluation.verification import Verification
from reid.export.parity.report import ParityReport
from reid.export.parity.thresholds import FPR_CHANGE, TPR_CHANGE, Side, with_thresholds
from reid.model_file.manifest import read_manifest, write_manifest
from reid.model_file.thresholds import PairRate, Thresholds

Capture = pytest.CaptureFixture[str]
REPORT = ParityReport("checkpoint", "file", "fp16", 64, (1,), ())
NUM = 10_000


def pairs(shift: float = 0.0, num: int = NUM) -> Verification:
    """Pairs of different people from 0.5 to 1.5, of one person from 0 to 1, evenly."""
    values = np.linspace(0, 1, num)
    distances = np.concatenate([values, values + 0.5]).astype(np.float32) + np.float32(shift)
    limits, places = np.unique(distances, return_inverse=True)
    counts = [np.bincount(part, minlength=len(limits)) for part in (places[:num], places[num:])]
    return Verification(limits, *counts)


def thresholds(*distances: float) -> Thresholds:
    rates = tuple(PairRate(d - 0.5, d) for d in distances)
    return Thresholds("drawn", "embed", 40, NUM, rates[0].fpr, rates)


def changes(before: Side, after: Side) -> dict[str, tuple[float | None, str]]:
    return {c.measure: (c.found, c.status) for c in with_thresholds(REPORT, before, after).checks}


def test_the_rates_of_both_files_at_the_stored_distances_are_compared() -> None:
    stored = thresholds(0.51)  # one in a hundred
    shifted = changes(Side(pairs(), stored), Side(pairs(0.005), stored))
    assert shifted["fpr_change"][0] == pytest.approx(0.5, abs=0.02)  # 1 % became half a per cent
    assert shifted["fpr_change"][1] == "FAILED"
    assert shifted["tpr_change"] == (pytest.approx(0.005, abs=2e-4), "ok")
    assert changes(Side(pairs(), stored), Side(pairs(), stored)) == {
        "fpr_change": (0.0, "ok"),
        "tpr_change": (0.0, "ok"),
    }
    assert FPR_CHANGE < 0.5
    assert TPR_CHANGE > 0.005


def test_the_largest_change_of_any_rate_counts() -> None:
    stored = thresholds(0.6, 0.51)
    found = changes(Side(pairs(), stored), Side(pairs(0.005), stored))
    assert found["fpr_change"][0] == pytest.approx(0.5, abs=0.02)


def test_a_true_positive_rate_that_changed_by_points_fails() -> None:
    stored = thresholds(0.9)
    found = changes(Side(pairs(), stored), Side(pairs(0.02), stored))
    assert found["tpr_change"] == (pytest.approx(0.02, abs=2e-4), "FAILED")
    assert found["fpr_change"][1] == "ok"


def test_a_file_that_was_measured_itself_is_judged_by_its_own_distances() -> None:
    own = thresholds(0.51)
    moved = Thresholds("drawn", "embed", 40, NUM, 0.01, (PairRate(own.rates[0].fpr, 0.56),))
    found = changes(Side(pairs(), own), Side(pairs(0.05), moved))
    assert {status for _, status in found.values()} == {"ok"}


def test_a_few_pairs_more_or_less_are_no_change() -> None:
    stored = thresholds(0.51)
    few = changes(Side(pairs(num=300), stored), Side(pairs(0.006, num=300), stored))
    assert few == {"fpr_change": (0.0, "ok"), "tpr_change": (0.0, "ok")}


def test_without_stored_distances_nothing_is_judged() -> None:
    stored = thresholds(0.51)
    other = dataclasses.replace(stored, rates=(PairRate(0.5, 1.0),))
    for before, after in ((None, stored), (stored, None), (stored, other)):
        assert changes(Side(pairs(), before), Side(pairs(), after)) == {}


def test_parity_on_data_compares_the_rates_of_the_files(
    road: Any, road_data: list[str], tmp_path: Path, capsys: Capture
) -> None:
    first, second = road.copy_of("fp32", tmp_path), road.copy_of("fp16", tmp_path)
    manifest = read_manifest(first)
    assert main(["eval", str(first), *road_data, "--json"]) == 0
    (measured,) = json.loads(capsys.readouterr().out)["models"]
    distance = measured["distance_at_fpr"]["0.1"]
    stored = Thresholds("drawn", "embed", 40, 100, 0.1, (PairRate(0.1, distance),))
    write_manifest(first, dataclasses.replace(manifest, thresholds=stored))
    half = dataclasses.replace(read_manifest(second), thresholds=stored)
    write_manifest(second, half)
    assert main(["parity", str(first), str(second), *road_data, "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert {checks[name]["status"] for name in ("fpr_change", "tpr_change")} == {"ok"}
    far = dataclasses.replace(stored, rates=(PairRate(0.1, 2.0),))
    write_manifest(second, dataclasses.replace(half, thresholds=far))
    assert main(["parity", str(first), str(second), *road_data]) == 3
    assert "fpr_change" in capsys.readouterr().err
