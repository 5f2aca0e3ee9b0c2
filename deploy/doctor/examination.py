"""The checks of ``reid doctor``: libraries, file, precision, answers."""

from __future__ import annotations

import importlib
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import DataError, ReidError
from reid.matching.golden import Golden, answers_of, find_golden, load_golden
from reid.model_file.manifest import EngineInfo
from reid.model_file.opening import ModelFile
from reid.packages import clash
from reid.runtime import OPENVINO_SUFFIXES, Runner, open_runner
from reid.types import FloatArray

from .deepstream_versions import deepstream_check, fits_deepstream
from .diagnosis import HEALTHY, SINGLE_PRECISION, CheckResult, explain, misread, worst
from .machine import Machine, is_installed, missing, this_machine
from .streams import find_streams

ENGINE_SUFFIXES = (".engine", ".plan")

BATCHES = (1, 5, 64)
"""Batch sizes for the crops: one by one, in uneven pieces, all at once."""


@dataclass(frozen=True, slots=True)
class Examination:
    """The results for ``model``, check by check; ``cameras`` says which streams can be opened,
    ``openvino`` which devices OpenVINO has here (empty for a file that it does not run)."""

    model: str
    machine: str
    findings: tuple[CheckResult, ...]
    cameras: str = ""
    openvino: str = ""

    @property
    def healthy(self) -> bool:
        """Whether no check found a fault; some may not have been run."""
        return all(finding.status != "fault" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "healthy": self.healthy}

    def text(self) -> str:
        """A line for each check."""
        width = max(len(finding.check) for finding in self.findings)
        lines = [f"{one.check:<{width}}  {one.status:<11}  {one.words}" for one in self.findings]
        more = [words for words in (self.openvino, self.cameras) if words]
        return "\n".join(["; ".join([f"{self.model}: {self.machine}", *more]), *lines])


def examine(
    model: Path,
    *,
    golden_file: Path | None = None,
    answers_file: Path | None = None,
    device: str = "auto",
    machine: Machine | None = None,
    deepstream: str = "",
) -> Examination:
    """Check a model file on this machine, and with ``deepstream``, a version, whether it fits that.

    ``answers_file`` holds this model's outputs for the golden crops from another program, which
    is then checked too. Raises DataError for golden crops or answers that cannot be read,
    ConfigError for an unknown version of DeepStream; faults of the model or this machine are
    results, not errors.
    """
    machine = machine or this_machine()
    golden = _golden(model, golden_file)
    answers = None if answers_file is None else load_answers(answers_file, golden)
    findings: list[CheckResult] = []
    if deepstream:
        findings.append(fits_deepstream(ModelFile.at(model).manifest, deepstream))
    if other := clash():
        findings.append(CheckResult("installation", "fault", other))
    if ModelFile.at(model).suffix in ENGINE_SUFFIXES and (fault := machine.driver_fault()):
        findings.append(CheckResult("driver", "fault", fault))
    engine = _engine(model)
    if engine is not None and engine.flavour == "tensorrt" and not deepstream:
        findings.append(deepstream_check(engine))
    lacking = _missing(model)
    for module in lacking:
        line = machine.install_line(module)
        findings.append(CheckResult("libraries", "fault", f"{module} is not installed: {line}"))
    if not lacking:
        findings.append(
            CheckResult("libraries", "ok", "everything that this file needs is installed")
        )
        findings += _file(model, golden, answers, device)
    return Examination(
        str(model),
        machine.words(),
        tuple(findings),
        find_streams().words(),
        _openvino_words() if ModelFile.at(model).suffix in OPENVINO_SUFFIXES else "",
    )


def _openvino_words() -> str:
    """Which devices OpenVINO has here, as ``--device openvino:NAME`` takes them."""
    if not is_installed("openvino"):
        return "OpenVINO is not installed"
    library = importlib.import_module("reid.runtime.openvino_library")
    listed = ", ".join(f"{name} ({full})" for name, full in library.devices().items())
    return f"OpenVINO {library.VERSION} on {listed or 'no device'}"


def load_answers(path: Path, golden: Golden | None) -> FloatArray:
    """(N, D) float32 of a ``.npy`` file, a row for each golden crop. Raises DataError."""
    if golden is None:
        raise DataError(
            "answers need golden crops to compare with; name the bundle's golden.safetensors "
            "with --golden"
        )
    expected = golden.answers.shape
    try:
        # Memory-mapped, so that a header that announces more than the file holds allocates nothing.
        found = np.lib.format.open_memmap(path, mode="r")
        rows = np.array(found, np.float32).reshape(len(found), -1)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} is not a .npy file of numbers ({error})") from None
    if rows.shape != expected:
        raise DataError(
            f"{path} holds answers of shape {rows.shape}, expected {expected}: one row for each of "
            "the golden crops, in the order of their names"
        )
    return rows


def _golden(model: Path, golden_file: Path | None) -> Golden | None:
    path = golden_file or find_golden(ModelFile.at(model).path.resolve())
    return load_golden(path) if path else None


def _engine(model: Path) -> EngineInfo | None:
    """What the manifest says of an engine; None for other files, and without a manifest."""
    file = ModelFile.at(model)
    if file.suffix in ENGINE_SUFFIXES and file.has_manifest_beside:
        try:
            return file.unchecked_manifest.engine
        except ReidError:
            pass  # opening the file reports it
    return None


def _missing(model: Path) -> list[str]:
    engine = _engine(model)
    return missing(ModelFile.at(model).suffix, engine.flavour if engine else "tensorrt")


def _file(
    model: Path, golden: Golden | None, answers: FloatArray | None, device: str
) -> list[CheckResult]:
    try:
        runner = open_runner(model, device)
    except ReidError as error:
        return [CheckResult("file", "fault", str(error))]
    with closing(runner):
        found = [CheckResult("file", "ok", f"opens: {runner.backend}")]
        if golden is None:
            words = (
                "no golden crops beside the model; run `reid bundle`, or name them with --golden"
            )
            return [*found, CheckResult("answers", "not checked", words)]
        found.append(_same_model(runner, golden))
        try:
            return [*found, *_answers(runner, golden), *_others(runner, golden, answers)]
        except ReidError as error:
            return [*found, CheckResult("answers", "fault", str(error))]


def _same_model(runner: Runner, golden: Golden) -> CheckResult:
    manifest = runner.manifest
    if manifest.checkpoint_sha256[:16] == golden.checkpoint:
        return CheckResult("checkpoint", "ok", "the one of the golden answers")
    return CheckResult(
        "checkpoint",
        "fault",
        f"the manifest names checkpoint {manifest.checkpoint_sha256[:16] or 'unknown'}, the golden "
        f"answers come from {golden.checkpoint or 'unknown'}: bundle this model again, or copy the "
        "right file",
    )


def _answers(runner: Runner, golden: Golden) -> list[CheckResult]:
    """Checks with the model's own manifest: correct answers in every batch size, and precision."""
    inputs = runner.manifest.preprocess.batch(list(golden.crops))
    by_size = {size: answers_of(runner, inputs, size) for size in BATCHES}
    if any(answers.shape != golden.answers.shape for answers in by_size.values()):
        shapes = {answers.shape for answers in by_size.values()}
        words = f"the model outputs {shapes.pop()}, the golden answers are {golden.answers.shape}"
        return [
            CheckResult("answers", "fault", f"{words}: these golden crops belong to another model")
        ]
    errors = {size: worst(answers, golden) for size, answers in by_size.items()}
    wrong = [size for size, error in errors.items() if not error < HEALTHY]
    if not wrong:
        words = f"equal to the golden answers within {max(errors.values()):.1e} of their spread"
        return [
            CheckResult("answers", "ok", words),
            _precision(runner, golden, max(errors.values())),
        ]
    if 1 not in wrong:
        words = f"correct one by one, wrong in batches of {wrong[0]}: build the engine for batches"
        return [CheckResult("answers", "fault", words)]
    found = misread(by_size[1], golden)
    if not found:
        faults = explain(runner, runner.manifest.preprocess, golden, golden.answers)
        found = (
            f"wrong with the manifest's preprocessing, correct with {faults}: the manifest does "
            "not belong to this file; copy both from the export, or export again"
            if faults
            else f"wrong by {errors[1]:.2g} of the golden answers' spread, with every known "
            "preprocessing: these are other weights, or a broken build"
        )
    return [CheckResult("answers", "fault", found)]


def _precision(runner: Runner, golden: Golden, error: float) -> CheckResult:
    """From the numbers: FP16 cannot give FP32's answers to the last digits."""
    asked = runner.manifest.precision
    if golden.precision != "fp32":
        return CheckResult(
            "precision", "not checked", f"the golden answers were computed in {golden.precision}"
        )
    if asked == "fp16" and error < SINGLE_PRECISION:
        words = (
            f"the manifest says fp16, and the answers match FP32 within {error:.0e}: the file "
            "computes in FP32; build it strongly typed from the fp16 ONNX file (reid build "
            "FILE.onnx --fp16)"
        )
        return CheckResult("precision", "fault", words)
    if asked == "fp32" and error > 10 * SINGLE_PRECISION:
        words = (
            f"the manifest says fp32, and the answers are off by {error:.0e}: the file computes in "
            "less than FP32 (TF32 or FP16); build an engine without TF32 (trtexec: --noTF32), or "
            "export again"
        )
        return CheckResult("precision", "fault", words)
    return CheckResult("precision", "ok", f"{asked}, as the manifest says (off by {error:.0e})")


def _others(runner: Runner, golden: Golden, answers: FloatArray | None) -> list[CheckResult]:
    """Checks of another program's answers."""
    if answers is None:
        return []
    error = worst(answers, golden)
    if error < HEALTHY:
        return [
            CheckResult("their answers", "ok", f"equal to the golden answers within {error:.1e}")
        ]
    faults = misread(answers, golden)
    if not faults:
        faults = explain(runner, runner.manifest.preprocess, golden, answers)
        faults = faults and f"the crops were preprocessed with {faults}"
    words = faults or (
        f"wrong by {error:.2g} of the golden answers' spread, and no known fault explains "
        "it: is it the same model, and are the crops in the order of their names?"
    )
    return [CheckResult("their answers", "fault", words)]
