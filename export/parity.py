"""Do two model files answer alike? Measured on crops, judged by a table, able to fail.

Each runner prepares the crops by its own manifest, so a wrong mean, resize or channel
order shows as well as a wrong weight. The crops must be real or drawn people: on noise or
a constant every network answers nearly the same to every image, and a candidate that has
its channels swapped, or ignores its input, passes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reid.errors import DataError, ParityError
from reid.manifest import Manifest, read_manifest, write_manifest
from reid.runtime import Runner
from reid.types import EvalReport, FloatArray, Image

from .parity_report import Check, ParityReport, Report
from .tolerances import TOLERANCES, Tolerances

__all__ = [
    "BATCH_SIZES",
    "MIN_CROPS",
    "TOLERANCES",
    "Check",
    "ParityReport",
    "Tolerances",
    "compare",
    "embeddings",
    "record",
    "require",
    "with_evaluations",
]

MIN_CROPS = 16
"""Fewer crops than this are too few to judge by."""

BATCH_SIZES = (1, 3, 16)
"""Batches in which the candidate must give the same rows; the largest carries all crops."""

TOP_K = 5
"""Neighbours whose set is compared, beside the nearest."""


def compare(
    reference: Runner,
    candidate: Runner,
    crops: Sequence[Image],
    *,
    tolerances: Tolerances | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    evaluations: tuple[EvalReport, EvalReport] | None = None,
) -> ParityReport:
    """Run both on ``crops`` (BGR images as decoded, any size) and measure the difference.

    ``tolerances`` default to those of the candidate's precision; ``evaluations`` are the
    reference's and the candidate's, for the change of rank-1 and mAP. Raises DataError
    for fewer than ``MIN_CROPS`` crops, ParityError where the outputs cannot be compared.
    """
    if len(crops) < MIN_CROPS:
        raise DataError(
            f"{len(crops)} crops are too few to judge parity by; give at least {MIN_CROPS}"
        )
    if not batch_sizes or min(batch_sizes) < 1:
        raise ValueError(f"batch sizes must be at least 1, found {tuple(batch_sizes)}")
    limits = tolerances or _tolerances_of(candidate.manifest)
    _require_same_output(reference.manifest, candidate.manifest)
    largest = max(batch_sizes)
    expected = embeddings(reference, crops, largest)
    found = embeddings(candidate, crops, largest)
    measures: dict[str, float | None] = {
        **_errors(expected, found),
        **_rank_agreement(expected, found, limits.tie),
        "batch_error": _batch_error(candidate, crops, found, batch_sizes),
        **_changes(evaluations),
    }
    return ParityReport(
        reference=reference.backend,
        candidate=candidate.backend,
        precision=candidate.manifest.precision,
        num_crops=len(crops),
        batch_sizes=tuple(sorted(batch_sizes)),
        checks=tuple(
            Check(name, value, _allowed(name, limits, evaluations))
            for name, value in measures.items()
        ),
        remarks=(*_not_finite("reference", expected), *_not_finite("candidate", found)),
    )


def with_evaluations(
    report: ParityReport, evaluations: tuple[EvalReport, EvalReport]
) -> ParityReport:
    """The report with the change of rank-1 and mAP judged, from the two evaluations."""
    limits = TOLERANCES[report.precision]
    changes = {
        name: Check(name, value, _allowed(name, limits, evaluations))
        for name, value in _changes(evaluations).items()
    }
    checks = tuple(changes.get(check.measure, check) for check in report.checks)
    return dataclasses.replace(report, checks=checks)


def require(report: Report) -> None:
    """Raise ParityError, in one line, unless the report passed."""
    if not report.passed:
        raise ParityError(
            f"{report.candidate} ({report.precision}) does not answer as {report.reference} on "
            f"{report.num_crops} crops: {'; '.join(report.failures)}"
        )


def record(report: Report, path: Path) -> Manifest:
    """Write the report into the manifest beside the candidate's file ``path``."""
    manifest = read_manifest(path)
    return write_manifest(path, dataclasses.replace(manifest, parity=report.to_json()))


def embeddings(runner: Runner, crops: Sequence[Image], batch_size: int) -> FloatArray:
    """(N, D): the crops prepared by the runner's own manifest, run batch by batch."""
    manifest = runner.manifest
    rows = []
    for start in range(0, len(crops), batch_size):
        data = manifest.preprocess.batch(list(crops[start : start + batch_size]))
        rows.append(runner.run({manifest.input_name: data})[manifest.output_name])
    return np.concatenate(rows)


def _tolerances_of(manifest: Manifest) -> Tolerances:
    limits = TOLERANCES.get(manifest.precision)
    if limits is None:
        raise ParityError(
            f"no tolerances for the precision {manifest.precision!r} of the candidate's manifest; "
            f"there are {', '.join(TOLERANCES)}"
        )
    return limits


def _require_same_output(reference: Manifest, candidate: Manifest) -> None:
    pair = [
        (manifest.output_meaning, manifest.output_dim, manifest.normalised)
        for manifest in (reference, candidate)
    ]
    if pair[0] != pair[1]:
        raise ParityError(
            "the two cannot be compared: (output, size, normalised) of the reference is "
            f"{pair[0]}, of the candidate {pair[1]}; compare files of one checkpoint"
        )


def _errors(expected: FloatArray, found: FloatArray) -> dict[str, float]:
    """Absolute errors over all entries, and the cosine of the worst row.

    The cosine over the whole batch would hide a row that is wholly wrong: from 334 rows
    on it passes 0.997.
    """
    a, b = expected.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN fails every check
        error = np.abs(a - b)
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosine = (a * b).sum(axis=1) / lengths
    return {
        "max_error": float(error.max()),
        "mean_error": float(error.mean()),
        "median_error": float(np.median(error)),
        "p99_error": float(np.percentile(error, 99)),
        "lowest_row_cosine": float(cosine.min()),
    }


def _rank_agreement(expected: FloatArray, found: FloatArray, tie: float) -> dict[str, float]:
    """Each crop as query against the rest: share whose nearest, and nearest five, agree.

    A candidate's choice agrees when the reference holds it for as near, up to ``tie``,
    as its own choice: among twins no order is the right one.
    """
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return {"top1_agreement": math.nan, "top5_agreement": math.nan}
    reference, candidate = _squared_distances(expected), _squared_distances(found)
    order = np.argsort(candidate, axis=1, kind="stable")
    chosen = np.take_along_axis(reference, order[:, :TOP_K], axis=1)
    nearest = np.sort(reference, axis=1)
    top1 = chosen[:, 0] <= nearest[:, 0] + tie
    top5 = (chosen <= nearest[:, TOP_K - 1 : TOP_K] + tie).all(axis=1)
    return {"top1_agreement": float(top1.mean()), "top5_agreement": float(top5.mean())}


def _squared_distances(vectors: FloatArray) -> npt.NDArray[np.float64]:
    """(N, N), infinite on the diagonal: a crop is not its own neighbour."""
    v = vectors.astype(np.float64)
    squares = (v * v).sum(axis=1)
    distances: npt.NDArray[np.float64] = squares[:, None] + squares[None, :] - 2 * v @ v.T
    np.fill_diagonal(distances, np.inf)
    return distances


def _batch_error(
    runner: Runner, crops: Sequence[Image], found: FloatArray, batch_sizes: Sequence[int]
) -> float:
    """Largest difference of a row between batch sizes; an engine right at 1 may be wrong at 3.

    Every size runs over as many crops as the largest batch holds, so ends are cut short too.
    """
    largest = min(max(batch_sizes), len(crops))
    runs = [embeddings(runner, crops[:largest], size) for size in sorted(set(batch_sizes))]
    with np.errstate(invalid="ignore"):
        return float(np.abs(np.stack(runs) - found[:largest]).max())


def _changes(evaluations: tuple[EvalReport, EvalReport] | None) -> dict[str, float | None]:
    """Loss or gain of rank-1 and mAP (step), as absolute change; None without evaluations."""
    if evaluations is None:
        return {"rank1_change": None, "map_change": None}
    reference, candidate = evaluations
    return {
        "rank1_change": abs(candidate.cmc[1] - reference.cmc[1]),
        "map_change": abs(candidate.map_step - reference.map_step),
    }


def _allowed(
    measure: str, limits: Tolerances, evaluations: tuple[EvalReport, EvalReport] | None
) -> float:
    """The limit; for rank-1 and mAP no less than one query's worth, the least that can show."""
    limit = float(getattr(limits, measure))
    if evaluations is None or measure not in ("rank1_change", "map_change"):
        return limit
    answerable = evaluations[0].num_query - evaluations[0].num_unanswerable
    return max(limit, 1 / max(1, answerable) + 1e-9)


def _not_finite(who: str, rows: FloatArray) -> tuple[str, ...]:
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if not bad.size:
        return ()
    return (f"{bad.size} of {len(rows)} rows of the {who} are not finite (first: crop {bad[0]})",)
