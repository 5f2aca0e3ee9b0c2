"""The part of ``import reid`` for exported files: ``Model.export`` and ``prove``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from reid.api.results import ExportedFiles
from reid.errors import ConfigError
from reid.model_file.opening import ModelFile
from reid.packages import named_packages
from reid.progress import SILENT, Reporter, reporting

from .foreign import SUFFIX as ONNX_SUFFIX
from .foreign import export_file, refuse_for_files
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
from .quantising.exporting import Int8File, export_int8, refuse_pairs_of
from .quantising.images import CROPS, Calibration, CalibrationImages, calibration_images
from .quantising.quantiser import SYMMETRIC
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
    mirror: bool = False,
    int8: bool = False,
    calibrate: str = "",
    root: str | os.PathLike[str] | None = None,
    calibration_crops: int = CROPS,
    calibration_seed: int = 0,
    prove: bool = True,
    engine_options: Mapping[str, object] | EngineOptions | None = None,
    reporter: Reporter = SILENT,
) -> ExportedFiles:
    """See ``reid.Model.export``; ``reporter`` gets a line for each file made and checked."""
    if bn_count < 1 or (bn_count > 1 and not caffe):
        raise ConfigError(f"bn_count must be 1 or above, and above 1 needs caffe; found {bn_count}")
    if mirror and caffe:
        raise ConfigError(
            "Caffe has no layer that mirrors an image, so --caffe writes the plain network only; "
            "leave --mirror out, or export to Caffe by itself"
        )
    options = engine_options_from(engine_options)
    calibration = _calibration(int8, calibrate, root, calibration_crops, calibration_seed)
    precisions = ("fp32", "fp16") if fp16 else ("fp32",)
    if run.suffix == ONNX_SUFFIX:
        refuse_for_files(caffe, also)
        written = export_file(run, out, precisions, pixels, mirror, reporter)
    else:
        written = export_checkpoint(run, out, precisions, also, pixels, mirror, reporter)
    made: list[Exported] = []
    int8_files: list[Int8File] = []
    with ExitStack() as stack:
        # What INT8 cannot do without is looked for before any work is done.
        images = stack.enter_context(_images(run, calibration)) if calibration else None
        for exported in written:
            reporter.say(exported.words())
            made.append(exported)
        if calibration and images:
            base = next(one.path for one in made if one.precision == "fp32" and not one.on_request)
            for quantised in export_int8(base, out, images, calibration, reporter):
                reporter.say(quantised.exported.words())
                int8_files.append(quantised)
    caffe_files = _caffe_files(run, out, bn_count, reporter) if caffe else []
    files = [exported.path for exported in made]
    proofs: list[dict[str, object]] = []
    if prove:
        proofs = _proofs(run, [*one_of_each(files), *caffe_files[1:]], reporter)
    else:
        reporter.say("parity: not checked")
    for quantised in int8_files:
        quantised.proof.settle()
        proofs.append(quantised.proof.report.to_json())
    built_from = [*files, *(one.exported.path for one in int8_files if one.variant is SYMMETRIC)]
    files += [one.exported.path for one in int8_files]
    engines = []
    for built in build_engines(built_from, out, options, reporter) if trt else ():
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


@contextmanager
def _images(run: ModelFile, calibration: Calibration) -> Iterator[CalibrationImages]:
    """The images of the calibration. Raises ConfigError for a network that compares pairs."""
    if run.is_checkpoint:
        refuse_pairs_of(run)
    with calibration_images(run, calibration) as images:
        yield images


def _calibration(
    int8: bool, calibrate: str, root: str | os.PathLike[str] | None, crops: int, seed: int
) -> Calibration | None:
    """What INT8 is calibrated on; None without it. Raises ConfigError for one without the other."""
    if not int8:
        if calibrate or root is not None:
            raise ConfigError(
                "--calibrate and --data-root are for INT8; give --int8 too, or leave them out"
            )
        return None
    if not calibrate:
        raise ConfigError(
            "--int8 needs images to calibrate on: --calibrate NAME --data-root DIR (known names: "
            "reid datasets), or --calibrate synthetic, which proves nothing"
        )
    return Calibration(calibrate, None if root is None else Path(root), crops, seed)


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
