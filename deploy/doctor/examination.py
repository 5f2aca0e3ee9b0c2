"""One examination: libraries, file, precision, answers; and what to do about each."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import DataError, ReidError
from reid.model_file.opening import ModelFile
from reid.packages import clash
from reid.runtime import Runner, open_runner
from reid.types import FloatArray

from ..bundle.golden import Golden, answers_of, find_golden, load_golden
from .diagnosis import HEALTHY, SINGLE_PRECISION, Finding, explain, misread, worst
from .machine import Machine, missing, this_machine

BATCHES = (1, 5, 64)
"""Sizes in which the crops are replayed: one by one, in uneven pieces, all at once."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found of ``model``, check by check."""

    model: str
    machine: str
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """No fault; what was not checked is told apart."""
        return all(finding.status != "fault" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "healthy": self.healthy}

    def text(self) -> str:
        """A line for each check."""
        width = max(len(finding.check) for finding in self.findings)
        lines = [f"{one.check:<{width}}  {one.status:<11}  {one.words}" for one in self.findings]
        return "\n".join([f"{self.model}: {self.machine}", *lines])


def examine(
    model: Path,
    *,
    golden_file: Path | None = None,
    answers_file: Path | None = None,
    device: str = "auto",
    machine: Machine | None = None,
) -> Examination:
    """Look for what is wrong with a model file here.

    ``answers_file`` holds what another program, fed with the golden crops, got of this model:
    then its fault is looked for. Raises DataError for golden crops or answers that cannot be
    read; what is wrong with the model or this machine is a finding, not an error.
    """
    machine = machine or this_machine()
    golden = _golden(model, golden_file)
    answers = None if answers_file is None else load_answers(answers_file, golden)
    findings: list[Finding] = []
    if other := clash():
        findings.append(Finding("installation", "fault", other))
    lacking = _missing(model)
    for module in lacking:
        line = machine.install_line(module)
        findings.append(Finding("libraries", "fault", f"{module} is not installed: {line}"))
    if not lacking:
        findings.append(Finding("libraries", "ok", "all that this file needs is installed"))
        findings += _file(model, golden, answers, device)
    return Examination(str(model), machine.words(), tuple(findings))


def load_answers(path: Path, golden: Golden | None) -> FloatArray:
    """(N, D) float32 of a ``.npy`` file, a row for each golden crop. Raises DataError."""
    if golden is None:
        raise DataError(
            "answers can be judged beside golden crops only; name the bundle's golden.safetensors "
            "by --golden"
        )
    expected = golden.answers.shape
    try:
        # Mapped: a header that tells of more than the file holds is refused before any memory.
        found = np.lib.format.open_memmap(path, mode="r")
        rows = np.array(found, np.float32).reshape(len(found), -1)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} is no .npy file of numbers ({error})") from None
    if rows.shape != expected:
        raise DataError(
            f"{path} holds answers of shape {rows.shape}, expected {expected}: one row for each of "
            "the golden crops, in the order of their names"
        )
    return rows


def _golden(model: Path, golden_file: Path | None) -> Golden | None:
    path = golden_file or find_golden(ModelFile.at(model).path.resolve())
    return load_golden(path) if path else None


def _missing(model: Path) -> list[str]:
    file = ModelFile.at(model)
    flavour = "tensorrt"
    if file.suffix in (".engine", ".plan") and file.has_manifest_beside:
        try:
            engine = file.unchecked_manifest.engine
            flavour = engine.flavour if engine else flavour
        except ReidError:
            pass  # told by opening the file
    return missing(file.suffix, flavour)


def _file(
    model: Path, golden: Golden | None, answers: FloatArray | None, device: str
) -> list[Finding]:
    try:
        runner = open_runner(model, device)
    except ReidError as error:
        return [Finding("file", "fault", str(error))]
    with closing(runner):
        found = [Finding("file", "ok", f"opens: {runner.backend}")]
        if golden is None:
            words = "no golden crops beside the model; `reid bundle` writes them, or name --golden"
            return [*found, Finding("answers", "not checked", words)]
        found.append(_same_model(runner, golden))
        try:
            return [*found, *_answers(runner, golden), *_others(runner, golden, answers)]
        except ReidError as error:
            return [*found, Finding("answers", "fault", str(error))]


def _same_model(runner: Runner, golden: Golden) -> Finding:
    manifest = runner.manifest
    if manifest.checkpoint_sha256[:16] == golden.checkpoint:
        return Finding("checkpoint", "ok", "the one that the golden answers come from")
    return Finding(
        "checkpoint",
        "fault",
        f"the manifest names checkpoint {manifest.checkpoint_sha256[:16] or 'unknown'}, the golden "
        f"answers come from {golden.checkpoint or 'unknown'}: bundle this model anew, or copy the "
        "right file",
    )


def _answers(runner: Runner, golden: Golden) -> list[Finding]:
    """The model by its own manifest: right answers in every batch, of the precision asked for."""
    inputs = runner.manifest.preprocess.batch(list(golden.crops))
    by_size = {size: answers_of(runner, inputs, size) for size in BATCHES}
    if any(answers.shape != golden.answers.shape for answers in by_size.values()):
        shapes = {answers.shape for answers in by_size.values()}
        words = f"the model gives {shapes.pop()}, the golden answers are {golden.answers.shape}"
        return [Finding("answers", "fault", f"{words}: these crops are of another model")]
    errors = {size: worst(answers, golden) for size, answers in by_size.items()}
    wrong = [size for size, error in errors.items() if not error < HEALTHY]
    if not wrong:
        words = f"golden, within {max(errors.values()):.1e} of people's distance from one another"
        return [Finding("answers", "ok", words), _precision(runner, golden, max(errors.values()))]
    if 1 not in wrong:
        words = f"right one by one, wrong in batches of {wrong[0]}: build the engine for batches"
        return [Finding("answers", "fault", words)]
    found = misread(by_size[1], golden)
    if not found:
        faults = explain(runner, runner.manifest.preprocess, golden, golden.answers)
        found = (
            f"by its manifest the model answers wrongly, and rightly with {faults}: the manifest "
            "is not this file's; copy both from the export, or export again"
            if faults
            else f"wrong by {errors[1]:.2g} of people's distance from one another, and no known "
            "preparation of the crops mends it: these are other weights, or a broken build"
        )
    return [Finding("answers", "fault", found)]


def _precision(runner: Runner, golden: Golden, error: float) -> Finding:
    """Numbers tell it: FP16 cannot give FP32's answers to the last digits."""
    asked = runner.manifest.precision
    if golden.precision != "fp32":
        return Finding("precision", "not checked", f"the golden answers are {golden.precision}'s")
    if asked == "fp16" and error < SINGLE_PRECISION:
        words = (
            f"the manifest says fp16 and the answers are FP32's to {error:.0e}: the file computes "
            "in FP32; build it strongly typed from the fp16 ONNX (reid export --fp16 --trt)"
        )
        return Finding("precision", "fault", words)
    if asked == "fp32" and error > 10 * SINGLE_PRECISION:
        words = (
            f"the manifest says fp32 and the answers are off by {error:.0e}: the file computes in "
            "less than FP32 (TF32 or FP16); build an engine without TF32 (trtexec: --noTF32), or "
            "export again"
        )
        return Finding("precision", "fault", words)
    return Finding("precision", "ok", f"{asked}, as the manifest says (off by {error:.0e})")


def _others(runner: Runner, golden: Golden, answers: FloatArray | None) -> list[Finding]:
    """The answers of another program, and what that program does wrongly."""
    if answers is None:
        return []
    error = worst(answers, golden)
    if error < HEALTHY:
        return [Finding("their answers", "ok", f"golden, within {error:.1e}")]
    faults = misread(answers, golden)
    if not faults:
        faults = explain(runner, runner.manifest.preprocess, golden, answers)
        faults = faults and f"the crops were prepared with {faults}"
    words = faults or (
        f"wrong by {error:.2g} of people's distance from one another, and no known fault gives "
        "these answers: is it the same model, and the crops in the order of their names?"
    )
    return [Finding("their answers", "fault", words)]
