"""The parity verdict on a file: print it, store it in the manifest, raise an error if failed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from reid.model_file.manifest import Manifest, manifest_path, write_manifest
from reid.model_file.opening import ModelFile
from reid.runtime import OPENVINO_SUFFIXES, Runner, open_runners
from reid.runtime.places import openvino_place

from .comparison import judged, record, require
from .report import Hashes, ParityReport, Report

AnyReport = TypeVar("AnyReport", bound=Report)


@dataclass(frozen=True, slots=True)
class Proof(Generic[AnyReport]):
    """A verdict, as shown (with paths) and as stored in the manifest (with backends).

    ``partner`` is the second file of a candidate with two files; the verdict is for both.
    """

    report: AnyReport
    kept: AnyReport
    file: Path
    manifest: Manifest
    partner: tuple[Path, Manifest] | None = None

    @property
    def passed(self) -> bool:
        """Whether the candidate gives the results of the reference, within the tolerances."""
        return self.report.passed

    def words(self) -> str:
        """``msp_cnn.fp16.onnx: parity passed on 64 crops, lowest row cosine 0.999998``."""
        verdict = "passed" if self.report.passed else "FAILED"
        return (
            f"{self.file.name}: parity {verdict} on {self.report.num_crops} crops, "
            f"{self.report.figure}"
        )

    def keep(self) -> None:
        """Write the verdict to the manifest beside each file; not for checkpoints.

        A candidate that has its manifest only inside it gets one beside it. Raises OutputError
        if the folder cannot be written.
        """
        if self.file.suffix == ".pt":
            return
        halves = [(self.file, self.manifest)]
        for file, manifest in halves if self.partner is None else [*halves, self.partner]:
            if manifest_path(file).exists():
                record(self.kept, file)
            else:
                write_manifest(file, judged(manifest, self.kept.to_json()))

    def settle(self) -> None:
        """Store the verdict, then raise ParityError if it is a failure.

        Raises OutputError if the verdict cannot be stored; this never hides a failure.
        """
        try:
            self.keep()
        finally:
            require(self.report)


def opened(stack: ExitStack, model: Path | ModelFile, device: str) -> dict[str, Runner]:
    """The graphs of a model, that of the named file first; closed with ``stack``.

    One backend computes all of a proof. A reference that OpenVINO cannot open, as a checkpoint,
    runs on the CPU.
    """
    file = ModelFile.at(model)
    if openvino_place(device) and file.suffix not in OPENVINO_SUFFIXES:
        device = "cpu"
    runners = open_runners(file, device, steady=True)
    for runner in runners.values():
        stack.enter_context(runner)
    return runners


def proof_of(
    report: ParityReport,
    reference: Path | ModelFile,
    candidate: Path,
    manifests: Sequence[Manifest],
) -> Proof[Any]:
    """The verdict with the files' names and hashes; ``manifests`` are of the candidate's graphs."""
    file = ModelFile.at(candidate)
    hashes = Hashes(ModelFile.at(reference).hashes(), file.hashes())
    report = dataclasses.replace(report, hashes=hashes)
    name = str(reference.path if isinstance(reference, ModelFile) else reference)
    shown = dataclasses.replace(report, reference=name, candidate=str(candidate))
    manifest, *others = manifests
    other = None if file.is_checkpoint else file.partner(manifest.stage)
    return Proof(shown, report, file.path, manifest, (other, others[0]) if other else None)
