"""Trainings that are compared at equal time: how many steps fit, and how long they took."""

from __future__ import annotations

import csv
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench_sisnet_rows import trained

CORES = len(os.sched_getaffinity(0))
MEASURED, SKIPPED = 12, 4
"""Steps of the short run in a stage, and those at its start that do not count."""

Schedule = Callable[[dict[str, int]], str]
"""The setting ``stages=`` with so many steps of each stage."""


def steps_in(
    minutes: dict[str, float],
    recipe: str,
    settings: list[str],
    schedule: Schedule,
    data: Path,
    images: int,
) -> dict[str, int]:
    """How many steps of ``images`` the minutes of each stage are enough for, by a short run."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        short = [*settings, "run.log_every=1", schedule(dict.fromkeys(minutes, MEASURED))]
        trained(run, recipe, data, short, CORES)
        log = log_of(run)
    found = {}
    for stage, limit in minutes.items():
        rates = [float(row["images_per_s"]) for row in log if row["stage"] == stage][SKIPPED:]
        found[stage] = max(1, round(60 * limit * statistics.median(rates) / images))
    return found


def minutes_of(run: Path, images: int) -> float:
    """How long the steps of a run took."""
    step, seconds = 0, 0.0
    for row in log_of(run):
        seconds += (int(row["step"]) - step) * images / float(row["images_per_s"])
        step = int(row["step"])
    return round(seconds / 60, 1)


def log_of(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))
