"""The curves of a training run, drawn from its CSV log."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import DataError
from reid.report.charts import colour_of, image_of, new_figure, plain_axis
from reid.report.drawing import save_png
from reid.types import FloatArray, Image

HELD_OUT = ("held_out_rank1", "held_out_map")
"""Columns about people that are not trained on, which few rows have."""

NOT_LOSS_PARTS = ("step", "stage", "epoch", "lr", "loss", "images_per_s", *HELD_OUT)
"""Columns of a training log that are not parts of the loss; all others are."""

SMOOTHED_SHARE = 0.06
"""Width of the running mean over the noisy curves, as a share of a stage's rows."""

_LEAST_SMOOTHED = 8


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """A run's log, ordered by step: (N,) float32 per numeric column, NaN where a cell is empty.

    ``stages`` holds each row's stage name; it is empty for a log without that column.
    """

    columns: Mapping[str, FloatArray]
    stages: tuple[str, ...]


def read_training_log(log_csv: Path) -> TrainingLog:
    """Read a run's CSV log; of rows with the same step (a resumed run) the last one counts.

    Raises DataError for any other file.
    """
    try:
        with open(log_csv, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or ())
            by_step = {row["step"]: row for row in reader} if "step" in names else {}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{log_csv}: the training log cannot be read: {error}") from error
    if "step" not in names:
        found = ", ".join(names) or "none"
        raise DataError(
            f"{log_csv}: not a training log, expected a 'step' column; columns found: {found}"
        )
    try:
        rows = sorted(by_step.values(), key=lambda row: float(row["step"]))
        columns = {
            name: np.array([float(row[name] or "nan") for row in rows], np.float32)
            for name in names
            if name != "stage"
        }
    except ValueError as error:
        raise DataError(f"{log_csv}: a cell is not a number: {error}") from error
    stages = tuple(row["stage"] or "" for row in rows) if "stage" in names else ()
    return TrainingLog(columns, stages)


def write_curves(log_csv: Path, png: Path) -> None:
    """Draw a training log's curves into a PNG file.

    Raises DataError for a log that cannot be read, OutputError for a file that cannot be
    written.
    """
    save_png(curves_picture(log_csv), png)


def curves_picture(log_csv: Path) -> Image:
    """Loss, its parts, learning rate and images/s against the iteration: (H, W, 3) uint8 BGR.

    Every column that is not in ``NOT_LOSS_PARTS`` is drawn as a part of the loss; a run that was
    stopped before its first row has empty panels. Raises DataError for a file that is not a
    training log.
    """
    log = read_training_log(log_csv)
    parts = tuple(name for name in log.columns if name not in NOT_LOSS_PARTS)
    panels = [
        ("Total loss", _present(log, "loss")),
        ("Parts of the loss", _present(log, *parts)),
        ("Learning rate", _present(log, "lr")),
        ("Images per second", _present(log, "images_per_s")),
    ]
    held_out = dict(zip(("rank-1", "mAP"), _present(log, *HELD_OUT).values(), strict=False))
    if held_out:
        panels.append(("Held-out people", held_out))
    figure = new_figure(11 if len(panels) == 4 else 16, 7)
    axes = figure.subplots(2, 2 if len(panels) == 4 else 3, sharex=True)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
        axes[0][-1].tick_params(labelbottom=True)
    for axis, (title, curves) in zip(axes.flat, panels, strict=False):
        smooth = curves is not held_out and title != "Learning rate"
        _draw_panel(axis, title, curves, log, smooth)
    for axis in axes[1]:
        axis.set_xlabel("iteration", color="#444444")
    return image_of(figure)


def _present(log: TrainingLog, *names: str) -> dict[str, FloatArray]:
    """Those of the named columns that the log has and that contain a number, in the log's order."""
    return {
        name: values
        for name, values in log.columns.items()
        if name in names and np.isfinite(values).any()
    }


def _draw_panel(
    axis: Any,
    title: str,
    curves: Mapping[str, FloatArray],
    log: TrainingLog,
    smooth: bool,
) -> None:
    plain_axis(axis, title)
    axis.locator_params(axis="x", integer=True, nbins=6)
    for i, (name, values) in enumerate(curves.items()):
        label = name.replace("_", " ")
        for rows in _stage_rows(log):
            _draw_curve(axis, log.columns["step"][rows], values[rows], colour_of(i), label, smooth)
            label = ""  # one legend entry for all stages
    for rows in _stage_rows(log)[1:]:
        start = float(log.columns["step"][rows.start])
        axis.axvline(start, color="#999999", linewidth=1, linestyle=(0, (4, 3)))
        axis.annotate(
            log.stages[rows.start],
            (start, 0.03),
            xycoords=("data", "axes fraction"),
            xytext=(2, 0),
            textcoords="offset points",
            rotation=90,  # stages may be a few updates long
            fontsize=8,
            color="#777777",
            parse_math=False,
        )
    if len(curves) > 1:
        axis.legend(frameon=False, fontsize=9, loc="best")
    if not curves:
        axis.text(0.5, 0.5, "not logged", transform=axis.transAxes, ha="center", color="#888888")
    axis.set_ylim(bottom=0)


def _draw_curve(
    axis: Any, step: FloatArray, values: FloatArray, colour: str, label: str, smooth: bool
) -> None:
    """One stage's part of a curve; with ``smooth``, faint under its running mean."""
    drawn = np.isfinite(values)
    step, values = step[drawn], values[drawn]
    if smooth and len(values) >= _LEAST_SMOOTHED:
        axis.plot(step, values, color=colour, alpha=0.25, linewidth=1)
        values = _running_mean(values, max(3, round(len(values) * SMOOTHED_SHARE)))
    marker = "o" if len(step) == 1 or (not smooth and len(step) < _LEAST_SMOOTHED) else ""
    axis.plot(step, values, color=colour, linewidth=1.8, marker=marker, label=label or None)


def _running_mean(values: FloatArray, width: int) -> FloatArray:
    """Centred mean of up to ``width`` neighbours, fewer at the ends."""
    weights = np.ones(min(width, len(values)))
    total = np.convolve(values, weights, mode="same")
    return np.asarray(total / np.convolve(np.ones(len(values)), weights, mode="same"), np.float32)


def _stage_rows(log: TrainingLog) -> list[slice]:
    """The rows of each stage, in order; all rows as one if the log names no stages."""
    num = len(log.columns["step"])
    starts = [i for i in range(1, len(log.stages)) if log.stages[i] != log.stages[i - 1]]
    return [slice(a, b) for a, b in zip([0, *starts], [*starts, num], strict=True)]
