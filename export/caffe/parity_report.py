"""The result of a blob-by-blob comparison: a table, JSON, and the first difference."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..parity.report import Hashes, finite_or_none
from .layers import Shape

ALLOWED = 1e-4
"""Limit on a blob's relative error: max |a - b| / max |a| over all crops, where a is PyTorch's.

More than ten times the error of a correct MSP-CNN, and at most a sixth of that from a single
wrong weight in a 3x3 convolution (off by a tenth of the blob's largest value)."""


@dataclass(frozen=True, slots=True)
class BlobCheck:
    """One blob; ``shape`` is without the batch axis, and the errors are over all crops.

    ``problem`` says why the blob could not be compared; a NaN error is a failure.
    """

    blob: str
    layer: str
    shape: Shape
    max_abs: float = math.nan
    relative: float = math.nan
    problem: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem and self.relative <= ALLOWED


@dataclass(frozen=True, slots=True)
class LayerReport:
    """Every blob of the test graph in the order of the layers."""

    reference: str
    candidate: str
    num_crops: int
    batch_sizes: tuple[int, ...]
    blobs: tuple[BlobCheck, ...]
    remarks: tuple[str, ...] = ()
    precision: str = "fp32"
    hashes: Hashes = field(default_factory=Hashes)

    @property
    def first(self) -> BlobCheck | None:
        """The first blob that differs."""
        return next((check for check in self.blobs if not check.ok), None)

    @property
    def failures(self) -> tuple[str, ...]:
        """The first difference; later blobs differ because of it."""
        if not self.blobs:
            return ("nothing was compared",)
        check = self.first
        if check is None:
            return ()
        why = check.problem or f"relative error {check.relative:.3g}, allowed {ALLOWED:g}"
        return (f"first difference at blob {check.blob!r} (layer {check.layer!r}): {why}",)

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def worst(self) -> float:
        """The largest relative error; NaN counts as infinite."""
        found = [check.relative for check in self.blobs]
        return max((math.inf if math.isnan(value) else value for value in found), default=math.inf)

    @property
    def figure(self) -> str:
        """``95 blobs, worst relative 2.0e-06``."""
        return f"{len(self.blobs)} blobs, worst relative {self.worst:.1e}"

    def to_json(self) -> dict[str, Any]:
        """Plain values; a non-finite error becomes null, with status FAILED."""
        return {
            "passed": self.passed,
            "reference": self.reference,
            "candidate": self.candidate,
            "precision": self.precision,
            "num_crops": self.num_crops,
            "batch_sizes": list(self.batch_sizes),
            "allowed_relative": ALLOWED,
            "first_disagreement": self.first.blob if self.first else None,
            "remarks": list(self.remarks),
            **self.hashes.to_json(),
            "blobs": [
                {
                    "blob": check.blob,
                    "layer": check.layer,
                    "shape": list(check.shape),
                    "max_abs": finite_or_none(check.max_abs),
                    "relative": finite_or_none(check.relative),
                    "status": "ok" if check.ok else "FAILED",
                    "problem": check.problem,
                }
                for check in self.blobs
            ],
        }

    def text(self) -> str:
        """The table, with the first difference marked."""
        batches = ", ".join(map(str, self.batch_sizes))
        width = max((len(check.blob) for check in self.blobs), default=4) + 2
        lines = [
            f"reference  {self.reference}",
            f"candidate  {self.candidate}",
            f"crops      {self.num_crops}, in batches of {batches}",
            f"relative   max |a - b| / max |a| of a blob, allowed {ALLOWED:g}",
            *self.hashes.lines(),
            "",
            f"{'blob':<{width}}{'shape':<16}{'max abs':>10}{'relative':>12}  ",
        ]
        for check in self.blobs:
            shape = "x".join(map(str, check.shape))
            status = "ok" if check.ok else f"FAILED {check.problem}".rstrip()
            mark = "  <- first difference" if check is self.first else ""
            numbers = f"{check.max_abs:>10.2e}{check.relative:>12.2e}"
            lines.append(f"{check.blob:<{width}}{shape:<16}{numbers}  {status}{mark}")
        failed = sum(not check.ok for check in self.blobs)
        verdict = "parity: passed" if self.passed else f"parity: FAILED ({failed})"
        return "\n".join([*lines, "", *self.remarks, verdict])
