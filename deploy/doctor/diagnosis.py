"""Which fault explains outputs that differ from the golden answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reid.matching.golden import Golden, answers_of
from reid.model_file.preprocess import Preprocess
from reid.runtime import Runner
from reid.types import FloatArray

from .faults import preparations

HEALTHY = 0.02
"""Largest error of an answer, relative to the golden answers' spread.

Measured with a trained MSP-CNN: FP16 is far below, the mildest fault, another interpolation, is
above.
"""

SINGLE_PRECISION = 1e-4
"""Below it an answer was computed in FP32: FP16's error is about ten times as large."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check. ``status`` is ``ok``, ``fault`` or ``not checked``."""

    check: str
    status: str
    words: str


def error_of(answers: FloatArray, golden: Golden) -> FloatArray:
    """(N,): each answer's distance from the golden one, relative to the golden answers' spread."""
    distances = np.linalg.norm(answers - golden.answers, axis=1)
    return np.asarray(distances / max(golden.spread, 1e-12), np.float32)


def worst(answers: FloatArray, golden: Golden) -> float:
    """The largest error; infinite if an answer is not finite."""
    error = error_of(answers, golden)
    return float(error.max()) if np.isfinite(error).all() else float("inf")


def explain(runner: Runner, preprocess: Preprocess, golden: Golden, answers: FloatArray) -> str:
    """The faults in preprocessing that explain these answers of ``runner``; empty if none does.

    The preparation with the nearest answers counts, if they are equal up to rounding.
    """
    target = Golden(golden.crops, answers, golden.network, golden.checkpoint, golden.precision)
    best_error, best = HEALTHY, ""
    for preparation in preparations(preprocess, runner.manifest.inside):
        inputs = preparation.batch(preprocess, golden.crops)
        error = worst(answers_of(runner, inputs), target)
        if error < best_error:
            best_error, best = error, "; ".join(preparation.faults)
        if error < HEALTHY / 10:
            break
    return best


def misread(answers: FloatArray, golden: Golden) -> str:
    """Faults that the answers alone show: their length, order or batches."""
    if not np.isfinite(answers).all():
        return "the answers hold NaN or infinity: FP16 overflowed, or the output was read too early"
    lengths = np.linalg.norm(golden.answers, axis=1, keepdims=True)
    own = np.linalg.norm(answers, axis=1, keepdims=True)
    scaled = answers / np.where(own > 0, own, 1) * lengths
    if worst(scaled, golden) < HEALTHY:
        return "the vectors are scaled differently: divide each by its length"
    distances = np.linalg.norm(answers[:, None] - golden.answers[None], axis=2)
    nearest = distances.argmin(axis=1)
    near = distances.min(axis=1) < HEALTHY * golden.spread
    if near.all() and len(set(nearest.tolist())) == len(nearest):
        return "the answers are correct but in another order than the crops"
    right = error_of(answers, golden) < HEALTHY
    wrong = int(np.argmin(right))
    if right[0] and not right[wrong:].any():
        return (
            f"the first {wrong} answers are correct, later ones are not: the batch is larger than "
            "the engine was built for, or only a part of it was copied"
        )
    return ""
