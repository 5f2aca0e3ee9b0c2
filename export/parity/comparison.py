"""Compare the results of two model files on crops, and judge the differences by limits.

Each subject preprocesses the crops by its own manifest, so that a wrong mean, resize or channel
order is found as well as a wrong weight. The crops must be real or synthetic people: on noise
or constant images every network gives nearly the same result for all of them, and a candidate
with swapped channels, or one that ignores its input, would pass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import DataError, ModelFileError, ParityError
from reid.model_file.manifest import Manifest, read_manifest, write_manifest
from reid.types import EvalReport, FloatArray, Image, IntArray

from .answers import Answers, Distances, Subject
from .report import Check, ParityReport, Report
from .tolerances import Tolerances

__all__ = [
    "BATCH_SIZES",
    "MIN_CROPS",
    "Check",
    "ParityReport",
    "Tolerances",
    "compare",
    "record",
    "require",
    "with_evaluations",
]

MIN_CROPS = 16
"""The least number of crops for a verdict."""

BATCH_SIZES = (1, 3, 16)
"""Batch sizes for which the candidate must give the same results; the largest is used for the
comparison with the reference."""

TOP_K = 5
"""Number of nearest neighbours compared as a set; the nearest one is also compared alone."""

BATCH_QUERIES = 2
"""Crops used as queries to compare batch sizes; vectors need none."""


def compare(
    reference: Subject,
    candidate: Subject,
    crops: Sequence[Image],
    *,
    tolerances: Tolerances | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    evaluations: tuple[EvalReport, EvalReport] | None = None,
) -> ParityReport:
    """Run both on ``crops`` (decoded BGR images of any size) and measure the differences.

    ``tolerances`` default to those for the candidate's precision; ``evaluations`` are of the
    reference and of the candidate, for the change of rank-1 and mAP. Raises DataError for
    fewer than ``MIN_CROPS`` crops, ParityError if the results are not comparable.
    """
    if len(crops) < MIN_CROPS:
        raise DataError(
            f"parity needs at least {MIN_CROPS} crops, found {len(crops)}; give more images"
        )
    if not batch_sizes or min(batch_sizes) < 1:
        raise ValueError(f"batch sizes must be at least 1, found {tuple(batch_sizes)}")
    limits = tolerances or _tolerances_of(candidate)
    if reference.gives != candidate.gives:
        raise _incomparable(reference.gives, candidate.gives)
    queries = _queries(len(crops), reference, candidate)
    inputs = crops, queries, max(batch_sizes)
    expected, found = reference.answers(*inputs), candidate.answers(*inputs)
    stored = candidate.stored(*inputs)
    ranked = found if stored is None else stored
    measures: dict[str, float | None] = {
        **_errors(expected.values, found.values),
        "lowest_row_cosine": _lowest_row_cosine(expected, found),
        **({} if stored is None else {"stored_error": _largest(expected.values, stored.values)}),
        **_rank_agreement(expected.distances, ranked.distances, limits.tie),
        "batch_error": _batch_error(candidate, crops, batch_sizes),
        "rank1_change": None,
        "map_change": None,
    }
    report = ParityReport(
        reference=reference.runners[0].backend,
        candidate=candidate.runners[0].backend,
        precision=candidate.manifest.precision,
        reference_precision=reference.manifest.precision,
        num_crops=len(crops),
        batch_sizes=tuple(sorted(batch_sizes)),
        checks=tuple(
            Check(name, value, float(getattr(limits, name))) for name, value in measures.items()
        ),
        remarks=(
            *_not_finite("reference", expected),
            *_not_finite("candidate", found),
            *(() if stored is None else _not_finite("candidate's stored descriptions", stored)),
        ),
    )
    return report if evaluations is None else with_evaluations(report, evaluations)


def with_evaluations(
    report: ParityReport, evaluations: tuple[EvalReport, EvalReport]
) -> ParityReport:
    """The report with the changes of rank-1 and mAP (step) between the two evaluations.

    Each may change by the weight of one query, the smallest measurable change.
    """
    before, after = evaluations
    least = 1 / max(1, before.num_query - before.num_unanswerable) + 1e-9
    changes = {
        "rank1_change": abs(after.cmc[1] - before.cmc[1]),
        "map_change": abs(after.map_step - before.map_step),
    }
    checks = tuple(
        Check(check.measure, changes[check.measure], max(check.allowed, least))
        if check.measure in changes
        else check
        for check in report.checks
    )
    return dataclasses.replace(report, checks=checks)


def require(report: Report) -> None:
    """Raise a one-line ParityError if the report failed."""
    if not report.passed:
        raise ParityError(
            f"{report.candidate} ({report.precision}) differs from {report.reference} on "
            f"{report.num_crops} crops: {'; '.join(report.failures)}"
        )


def record(report: Report, path: Path) -> Manifest:
    """Write the report to the manifest beside the candidate's file ``path``.

    Raises ManifestError for a manifest of another file, ModelFileError for a file that was written
    again since it was compared.
    """
    manifest, verdict = read_manifest(path), report.to_json()
    compared = verdict.get("candidate_sha256", {}).get(path.name, manifest.file_sha256)
    if compared != manifest.file_sha256:
        raise ModelFileError(
            f"{path} was written again while it was compared, so that the verdict is not of it; "
            "check it again: reid parity"
        )
    return write_manifest(path, judged(manifest, verdict))


def judged(manifest: Manifest, verdict: dict[str, Any]) -> Manifest:
    """The manifest with a verdict, which can prove the accuracy of an INT8 file."""
    made = manifest.quantisation
    quantisation = made and made.judged(verdict)
    return dataclasses.replace(manifest, parity=verdict, quantisation=quantisation)


def _tolerances_of(candidate: Subject) -> Tolerances:
    limits = candidate.tolerances.get(candidate.manifest.precision)
    if limits is None:
        raise ParityError(
            f"no tolerances for precision {candidate.manifest.precision!r} in the candidate's "
            f"manifest; expected {', '.join(candidate.tolerances)}"
        )
    return limits


def _incomparable(reference: str, candidate: str) -> ParityError:
    return ParityError(
        f"the models are not comparable: the reference outputs {reference}, the candidate "
        f"{candidate}; compare files made from the same checkpoint"
    )


def _queries(num_crops: int, *subjects: Subject) -> IntArray:
    """Indices of the crops used as queries: evenly spread, as many as both subjects allow."""
    at_most = [one.max_queries for one in subjects if one.max_queries is not None]
    count = min([num_crops, *at_most])
    return np.asarray(np.linspace(0, num_crops - 1, count).round(), np.int64)


def _errors(expected: FloatArray, found: FloatArray) -> dict[str, float]:
    """Absolute errors over all entries."""
    with np.errstate(invalid="ignore"):  # NaN fails every check
        error = np.abs(expected.astype(np.float64) - found)
    return {
        "max_error": float(error.max()),
        "mean_error": float(error.mean()),
        "median_error": float(np.median(error)),
        "p99_error": float(np.percentile(error, 99)),
    }


def _largest(expected: FloatArray, found: FloatArray) -> float:
    return _errors(expected, found)["max_error"]


def _lowest_row_cosine(expected: Answers, found: Answers) -> float | None:
    """The cosine of the worst row of any array; None if there are no rows to compare.

    The cosine over the whole batch would hide a single wrong row: with 334 rows or more it
    would still exceed 0.997.
    """
    if not expected.rows or not found.rows:
        return None
    shapes = [{name: a.shape for name, a in one.rows.items()} for one in (expected, found)]
    if shapes[0] != shapes[1]:
        raise _incomparable(*(f"arrays {shape}" for shape in shapes))
    return float(np.min([_lowest_cosine(a, found.rows[name]) for name, a in expected.rows.items()]))


def _lowest_cosine(expected: FloatArray, found: FloatArray) -> float:
    """The lowest cosine of corresponding rows, one row at a time, because they can be large."""
    cosines = []
    for one, other in zip(expected, found, strict=True):
        a, b = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):  # NaN fails the check
            cosines.append((a @ b) / (np.linalg.norm(a) * np.linalg.norm(b)))
    return float(np.min(cosines))


def _rank_agreement(reference: Distances, candidate: Distances, tie: float) -> dict[str, float]:
    """Share of queries whose nearest crop, and nearest five crops, agree.

    The candidate's choice agrees if, in the reference, it is as near as the reference's own
    choice, up to ``tie``: among nearly identical crops every order is correct.
    """
    if np.isnan(reference).any() or np.isnan(candidate).any():
        return {"top1_agreement": math.nan, "top5_agreement": math.nan}
    order = np.argsort(candidate, axis=1, kind="stable")
    chosen = np.take_along_axis(reference, order[:, :TOP_K], axis=1)
    nearest = np.sort(reference, axis=1)
    top1 = chosen[:, 0] <= nearest[:, 0] + tie
    top5 = (chosen <= nearest[:, TOP_K - 1 : TOP_K] + tie).all(axis=1)
    return {"top1_agreement": float(top1.mean()), "top5_agreement": float(top5.mean())}


def _batch_error(subject: Subject, crops: Sequence[Image], batch_sizes: Sequence[int]) -> float:
    """Largest difference of a value between batch sizes; a model may fail for only one of them.

    Every size is run over as many crops as the largest batch, which includes incomplete last
    batches.
    """
    few = crops[: max(batch_sizes)]
    queries = np.arange(min(BATCH_QUERIES, len(few)), dtype=np.int64)
    runs = [subject.answers(few, queries, size).values for size in sorted(set(batch_sizes))]
    return float(np.max([_largest(runs[-1], run) for run in runs]))


def _not_finite(who: str, answers: Answers) -> tuple[str, ...]:
    finite = answers.finite()
    bad = np.flatnonzero(~finite)
    if not bad.size:
        return ()
    return (f"{bad.size} of {len(finite)} rows of the {who} are not finite (first: crop {bad[0]})",)
