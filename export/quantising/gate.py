"""The gate: an INT8 file against its FP32 file, on images that had no part in making it."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from reid.data import read_image
from reid.evaluation.evaluating import evaluate
from reid.matching import VectorMatcher
from reid.model_file.opening import ModelFile
from reid.model_file.quantisation import DRAWN, LARGEST_CHANGE, MIN_QUERIES
from reid.progress import Reporter
from reid.types import EvalReport, Split

from ..parity.answers import Subject, subjects_of
from ..parity.comparison import compare, with_evaluations
from ..parity.proof import Proof, opened, proof_of
from ..pipeline import MAX_PARITY_CROPS, spread


class Gate:
    """Compares candidates with one reference; the reference is evaluated once.

    Rank-1 and mAP are measured on real images only: of synthetic people they say nothing.
    """

    def __init__(self, reference: ModelFile, split: Split, reporter: Reporter) -> None:
        self._reference, self._split, self._reporter = reference, split, reporter
        self._crops = [read_image(record.path) for record in spread(split, MAX_PARITY_CROPS)]
        self._before: EvalReport | None = None

    @property
    def is_real(self) -> bool:
        """Whether the images are real."""
        return self._split.dataset not in DRAWN

    def judge(self, candidate: Path) -> Proof[Any]:
        """The verdict on an ``.onnx`` file. Raises what ``reid.export.pipeline.prove`` raises."""
        with ExitStack() as stack:
            first, second = (opened(stack, model, "auto") for model in (self._reference, candidate))
            subjects = subjects_of(first, second)
            report = compare(*subjects, self._crops)
            report = dataclasses.replace(report, dataset=self._split.dataset)
            if self.is_real and report.passed:
                before, after = (self._evaluation(subject) for subject in subjects)
                report = with_evaluations(report, (before, after))
            manifests = [runner.manifest for runner in second.values()]
        return proof_of(report, self._reference, candidate, manifests)

    def _evaluation(self, subject: Subject) -> EvalReport:
        is_reference = subject.manifest.precision == "fp32"
        if is_reference and self._before is not None:
            return self._before
        matcher = VectorMatcher(subject.runners[0])
        found = evaluate(matcher, self._split, reporter=self._reporter)
        if is_reference:
            self._before = found.report
        return found.report

    def words(self, proof: Proof[Any]) -> str:
        """``proven on market1501: rank-1 72.9 % -> 72.7 %, mAP ...``, or why it is not proven."""
        if not self.is_real:
            return "not proven: calibrated and compared on synthetic people; give real images"
        if not proof.passed:
            return f"not proven: {'; '.join(proof.report.failures)}"
        changes = [proof.report.found(name) for name in ("rank1_change", "map_change")]
        allowed = {check.measure: check.allowed for check in proof.report.checks}["map_change"]
        figures = ", ".join(
            f"{name} changes by {100 * (change or 0):.2f} points"
            for name, change in zip(("rank-1", "mAP"), changes, strict=True)
        )
        if allowed > LARGEST_CHANGE + 1e-6:
            return (
                f"not proven: {figures}, but {self._split.dataset} has too few queries, expected "
                f"{MIN_QUERIES} or more"
            )
        return f"proven on {self._split.dataset}: {figures}"
