"""The part of ``import reid`` for exported files: ``Model.export`` and ``prove``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from reid.api.results import ExportedFiles
from reid.errors import ConfigError
from reid.model_file.opening import ModelFile
from reid.packages import named_packages
from reid.progress import SILENT, Reporter, reporting

from .parity.proof import Proof
from .parity.report import Report
from .pipeline import (
    MAX_PARITY_CROPS,
    SYNTHETIC,
    Exported,
    build_engines,
    export_caffe,
    export_checkpoint,
    one_of_each,
    prove_on_synthetic,
    synthetic_or_real,
)
from .pipeline import prove as prove_files
from .tensorrt.options import EngineOptions, engine_options_from


def prove(
    reference: str | os.PathLike[str],
    candidate: str | os.PathLike[str],
    *,
    dataset: str = SYNTHETIC,
    root: str | os.PathLike[str] | None = None,
    crops: int = MAX_PARITY_CROPS,
    evaluate: bool = True,
    shortlist: int = 0,
    device: str = "auto",
    settle: bool = True,
    progress: bool | Reporter = False,
) -> Proof[Report]:
    """Check parity: does ``candidate`` give the same output as ``reference`` on the same crops?

    Both are run folders, checkpoints, .onnx or .engine files; a .caffemodel is compared with a
    checkpoint blob by blob. The crops are of ``dataset`` in ``root``; without a ``root``,
    synthetic people are drawn. ``evaluate`` compares rank-1 and mAP too. The report is written
    into the candidate's manifest. ``Proof.passed`` and ``Proof.report`` have the result.

    Raises ParityError if they differ by more than the tolerances (with ``settle=False`` raising
    and writing are left to ``Proof.settle``), ModelFileError, ManifestError,
    DataError, CaffeError, OutputError.

    >>> files = model.export(folder / "proven", fp16=False, prove=False)
    >>> reid.prove(run, files.onnx[0], crops=16, evaluate=False).passed
    True
    """
    reference, candidate = Path(reference), Path(candidate)
    data_root = None if root is None else Path(root)
    with (
        reporting(progress) as reporter,
        named_packages(),
        synthetic_or_real(dataset, data_root, reference) as split,
    ):
        proof = prove_files(
            reference,
            candidate,
            split,
            device=device,
            max_crops=crops,
            with_evaluation=evaluate,
            best=shortlist,
            reporter=reporter,
        )
    if settle:
        proof.settle()
    return proof


def export_model(
    run: ModelFile,
    out: Path,
    *,
    fp16: bool = True,
    trt: bool = False,
    caffe: bool = False,
    bn_count: int = 1,
    also: Sequence[str] = (),
    pixels: bool = False,
    prove: bool = True,
    engine_options: Mapping[str, object] | EngineOptions | None = None,
    reporter: Reporter = SILENT,
) -> ExportedFiles:
    """See ``reid.Model.export``; ``reporter`` gets a line for each file made and checked."""
    if bn_count < 1 or (bn_count > 1 and not caffe):
        raise ConfigError(f"bn_count must be 1 or above, and above 1 needs caffe; found {bn_count}")
    options = engine_options_from(engine_options)
    precisions = ("fp32", "fp16") if fp16 else ("fp32",)
    made: list[Exported] = []
    for exported in export_checkpoint(run, out, precisions, also, pixels, reporter):
        reporter.say(exported.words())
        made.append(exported)
    caffe_files = _caffe_files(run, out, bn_count, reporter) if caffe else []
    files = [exported.path for exported in made]
    proofs: list[dict[str, object]] = []
    if prove:
        proofs = _proofs(run, [*one_of_each(files), *caffe_files[1:]], reporter)
    else:
        reporter.say("parity: not checked")
    engines = []
    for built in build_engines(files, out, options, reporter) if trt else ():
        engines.append(built.path)
        reporter.say(built.words())
    return ExportedFiles(
        onnx=tuple(files),
        engines=tuple(engines),
        caffe=tuple(caffe_files),
        proofs=tuple(proofs),
        deployed=next((one.path for one in reversed(made) if not one.on_request), None),
        description_bytes=max((one.description_bytes for one in made), default=0),
    )


def _caffe_files(run: ModelFile, out: Path, bn_count: int, reporter: Reporter) -> list[Path]:
    advance = reporter.begin("exporting to Caffe", 1)
    found = export_caffe(run, out, bn_count)
    for exported in found:
        reporter.say(exported.words())
    advance(1)
    return [exported.path for exported in found]


def _proofs(
    run: ModelFile, candidates: Sequence[Path], reporter: Reporter
) -> list[dict[str, object]]:
    """The parity reports that passed. Raises ParityError at the first that failed."""
    found: list[dict[str, object]] = []
    advance = reporter.begin("proving", len(candidates))
    for proof in prove_on_synthetic(run, candidates):
        advance(1)
        reporter.say(proof.words())
        proof.settle()
        found.append(proof.report.to_json())
    return found
