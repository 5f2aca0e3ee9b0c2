"""Charts of an evaluation: CMC and ROC with a curve per model, and distance histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from reid.evaluation.evaluating import Evaluation
from reid.evaluation.verification import FPRS
from reid.report.charts import colour_of, image_of, new_figure, plain_axis
from reid.report.drawing import short
from reid.types import Image

POSITIVE, NEGATIVE = "#2e9e54", "#d6343a"
"""The colours of positive and negative, as in the frames of ranked lists."""

LINES = ("-", "--", ":", "-.")
"""Line styles in turn, so that curves of models that agree can be distinguished."""

NUM_BINS = 80

DPI = 176
"""A page shows a picture at half its size."""


def curves_picture(evaluations: Sequence[Evaluation]) -> Image:
    """CMC at the left, ROC at the right: (H, W, 3) uint8 BGR.

    The ROC's false positive rate is logarithmic, from the least one measured.
    """
    figure = new_figure(11, 4.6, DPI)
    cmc, roc = figure.subplots(1, 2)
    plain_axis(cmc, "CMC: correct match within rank k")
    plain_axis(roc, "ROC: verification of pairs")
    curves: list[Any] = []
    for i, one in enumerate(evaluations):
        look = {"color": colour_of(i), "linestyle": LINES[i % len(LINES)], "linewidth": 1.8}
        shares = one.cmc_curve
        curves += cmc.plot(np.arange(1, len(shares) + 1), 100 * shares, **look)
        fpr, tpr = one.verification.roc()
        # A threshold's TPR is valid up to the next one's FPR.
        roc.plot(fpr.clip(min=min(FPRS) / 10), 100 * tpr, drawstyle="steps-post", **look)
    cmc.set_xlabel("rank k", color="#444444")
    cmc.set_ylabel("queries, %", color="#444444")
    cmc.locator_params(axis="x", integer=True)
    cmc.set_ylim(top=100)
    # Matplotlib leaves out a curve whose label begins with an underscore.
    names = [short(one.report.name) for one in evaluations]
    legend = cmc.legend(curves, names, frameon=False, fontsize=9, loc="lower right")
    for words in legend.get_texts():
        words.set_parse_math(False)
    roc.set_xscale("log")
    roc.set_xlim(min(FPRS), 1)
    roc.set_ylim(0, 100)
    roc.set_xlabel("negative pairs accepted (false positive rate)", color="#444444")
    roc.set_ylabel("positive pairs accepted, %", color="#444444")
    return image_of(figure)


def distances_picture(evaluations: Sequence[Evaluation]) -> Image:
    """Distances of positive and negative pairs, a panel for each model: (H, W, 3) uint8 BGR.

    Both are shares of their own total, as there are many more negative pairs.
    """
    columns = min(2, len(evaluations))
    rows = -(-len(evaluations) // columns)
    figure = new_figure(11 if columns == 2 else 7, 3.4 * rows, DPI)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, one in zip(axes, evaluations, strict=False):
        _draw_distances(axis, one)
    for axis in axes[len(evaluations) :]:
        axis.set_axis_off()
    return image_of(figure)


def _draw_distances(axis: Any, evaluation: Evaluation) -> None:
    plain_axis(axis, short(evaluation.report.name))
    edges, positives, negatives = evaluation.verification.histogram(NUM_BINS)
    for label, counts, colour in (("wrong", negatives, NEGATIVE), ("right", positives, POSITIVE)):
        total = int(counts.sum())
        shares = 100 * counts / max(total, 1)
        axis.stairs(shares, edges, color=colour, fill=True, alpha=0.35)
        axis.stairs(shares, edges, color=colour, linewidth=1.2, label=f"{label}: {total:,} pairs")
    if evaluation.report.limit is not None:
        limit = evaluation.report.limit
        axis.axvline(limit, color="#444444", linestyle=":", label=f"limit: {limit:.4f}")
    compares = evaluation.report.num_compared > 0
    axis.set_xlabel("minus the score" if compares else "distance", color="#444444")
    axis.set_ylabel("share of the pairs, %", color="#444444")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=9, framealpha=0.9, edgecolor="none")
