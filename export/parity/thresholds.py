"""Do the distances that mean the same person hold in the candidate?

A half-precision or integer file moves distances a little. What matters is whether the stored
distances still accept the same pairs: the rates of both files are compared, each at the distances
of its own manifest. An export has those of its checkpoint; a file that was measured itself has its
own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from reid.evaluation.verification import Verification
from reid.model_file.thresholds import Thresholds

from .report import Check, ParityReport

FPR_CHANGE = 0.25
"""Largest change of a false positive rate at a stored distance, as a share of it.

[inferred] The bootstrap over 100 people gives an interval of half of the rate and more to either
side, so that a quarter is within what the rate is known by.
"""

TPR_CHANGE = 0.01
"""Largest change of a true positive rate at a stored distance: a point [inferred]."""

LEAST_PAIRS = 3
"""Pairs that may always be accepted more or less: rounding moves a few."""


@dataclass(frozen=True, slots=True)
class Side:
    """The pairs of one file's evaluation, and the thresholds of its manifest."""

    pairs: Verification
    thresholds: Thresholds | None


def with_thresholds(report: ParityReport, before: Side, after: Side) -> ParityReport:
    """The report with the changes of the rates at the stored distances, if both files have any.

    Only rates that both manifests have are compared; the largest change of each kind counts.
    """
    if before.thresholds is None or after.thresholds is None:
        return report
    after_distances = {one.fpr: one.distance for one in after.thresholds.rates}
    both = [one for one in before.thresholds.rates if one.fpr in after_distances]
    if not both:
        return report
    fpr, tpr = [0.0], [0.0]
    for one in both:
        expected = before.pairs.rates_at(one.distance)
        found = after.pairs.rates_at(after_distances[one.fpr])
        if _beyond_rounding(expected[0], found[0], int(before.pairs.negatives.sum())):
            fpr.append(abs(found[0] - expected[0]) / max(expected[0], one.fpr))
        if _beyond_rounding(expected[1], found[1], int(before.pairs.positives.sum())):
            tpr.append(abs(found[1] - expected[1]))
    checks = (
        Check("fpr_change", max(fpr), FPR_CHANGE),
        Check("tpr_change", max(tpr), TPR_CHANGE),
    )
    return dataclasses.replace(report, checks=(*report.checks, *checks))


def _beyond_rounding(expected: float, found: float, num_pairs: int) -> bool:
    return abs(found - expected) * num_pairs > LEAST_PAIRS + 1e-6
