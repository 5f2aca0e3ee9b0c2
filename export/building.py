"""``reid.build``: a TensorRT engine from an exported ONNX file, on a machine without PyTorch.

An edge box gets the ONNX file and builds here: the engine with its manifest, the proof of its
precision, and parity with the ONNX file, which ONNX Runtime runs on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from reid.api.results import ExportedFiles
from reid.data.golden_crops import golden_crops
from reid.errors import BuildError, EngineMismatchError, MissingPackageError, ModelFileError
from reid.model_file.manifest import Manifest
from reid.model_file.opening import CHECKPOINT_SUFFIX, ModelFile
from reid.packages import named_packages
from reid.progress import Reporter, reporting
from reid.runtime import Runner
from reid.runtime.device_memory import open_device
from reid.runtime.tensorrt_fit import check_architecture, engine_info

from .parity.answers import subjects_of
from .parity.comparison import MIN_CROPS, compare
from .parity.proof import Proof, opened, proof_of
from .parity.report import Report
from .tensorrt.engine import BuiltEngine, build_engine
from .tensorrt.options import SUFFIXES as ENGINE_SUFFIXES
from .tensorrt.options import EngineOptions, engine_options_from

ONNX_SUFFIX = ".onnx"


def build(
    file: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    fp16: bool = False,
    prove: bool = True,
    engine_options: Mapping[str, object] | EngineOptions | None = None,
    progress: bool | Reporter = False,
) -> ExportedFiles:
    """Build the TensorRT engine of an exported ONNX file, without PyTorch.

    The engine and its manifest are written into the folder ``out``, by default the file's own. Its
    precision is the file's: ``fp16`` requires an FP16 file. A network that compares pairs has two
    files, and both are built. ``prove`` compares the engine with the ONNX file on golden crops and
    writes the verdict into the engine's manifest; where the engine cannot run, as on a machine
    without a GPU, a line says so and ``proofs`` stays empty. ``engine_options`` are fields of
    ``reid.export.tensorrt.options.EngineOptions``, named nearly as in trtexec.

    Raises BuildError for a file that is no exported ONNX file, is not FP16 as required, or that
    TensorRT cannot build, ManifestError for an ONNX file of another program, ModelFileError for a
    damaged one, MissingPackageError without TensorRT or ONNX Runtime, ConfigError, OutputError, and
    ParityError if the engine differs from its file; the engine is then there.

    >>> reid.build("msp_cnn.fp16.onnx", fp16=True).engines  # doctest: +SKIP
    (PosixPath('msp_cnn.sm87.trt10.3.fp16.b1-8-32.engine'),)
    """
    options = engine_options_from(engine_options)
    source = _onnx_file(Path(file))
    folder = source.path.parent if out is None else Path(out)
    with reporting(progress) as reporter, named_packages(), ExitStack() as stack:
        reference = opened(stack, source, "cpu")
        files = _files_of(source, reference)
        _refuse_static(files)
        if len(files) > 1 and folder.suffix.lower() in ENGINE_SUFFIXES:
            raise BuildError(
                f"{source.path} is one of two files, which are both built; expected a folder to "
                f"write into, found {folder}"
            )
        if fp16:
            _require_fp16(files)
        built = []
        for path, manifest in files.items():
            built.append(build_engine(path, folder, options, reporter, manifest))
            reporter.say(built[-1].words())
        proof = _proof(source, reference, built[0], reporter) if prove else None
        if not prove:
            reporter.say("parity: not checked")
    if proof is not None:
        reporter.say(proof.words())
        proof.settle()
    proofs = () if proof is None else (proof.report.to_json(),)
    return ExportedFiles(onnx=(), engines=tuple(one.path for one in built), proofs=proofs)


def _onnx_file(path: Path) -> ModelFile:
    """The ONNX file at ``path``. Raises BuildError for anything else."""
    expected = "expected an .onnx file that `reid export` or `reid import-onnx` wrote"
    suffix = path.suffix.lower()
    if suffix in ENGINE_SUFFIXES:
        raise BuildError(f"{path} is an engine already; {expected}, to build an engine from")
    if path.is_dir() or suffix == CHECKPOINT_SUFFIX:
        raise BuildError(
            f"{path} is a run folder or checkpoint; {expected}; where PyTorch is installed: "
            f"reid export {path} --out DIR"
        )
    if suffix != ONNX_SUFFIX:
        raise BuildError(f"{path} has the suffix {path.suffix!r}; {expected}")
    if not path.is_file():
        raise BuildError(f"{path}: no such file; {expected}")
    return ModelFile.at(path)


def _files_of(source: ModelFile, reference: Mapping[str, Runner]) -> dict[Path, Manifest]:
    """The ONNX file, and the other one of a network that compares pairs -> its manifest."""
    graph, *_ = reference
    paths = [source.path, source.partner(graph)]
    manifests = [runner.manifest for runner in reference.values()]
    return {path: found for path, found in zip(paths, manifests, strict=False) if path is not None}


def _refuse_static(files: Mapping[Path, Manifest]) -> None:
    """Raise BuildError for a graph with a fixed batch size: an engine's profile gives a range."""
    for path, manifest in files.items():
        if manifest.static_batch:
            raise BuildError(
                f"{path} is fixed to batches of {manifest.static_batch}; export the network with a "
                "dynamic batch where it was trained, and import that file: reid import-onnx"
            )


def _require_fp16(files: Mapping[Path, Manifest]) -> None:
    """Raise BuildError for a file of another precision: the builder never changes it."""
    for path, manifest in files.items():
        if manifest.precision != "fp16":
            name = path.name.replace(f".{manifest.precision}.", ".fp16.")
            exists = name != path.name and path.with_name(name).is_file()
            advice = (
                f"build {path.with_name(name)}" if exists else "write it: reid export RUN --fp16"
            )
            raise BuildError(
                f"{path} is {manifest.precision}, and an engine has its file's precision; --fp16 "
                f"expects the exported FP16 file; {advice}"
            )


def _proof(
    source: ModelFile, reference: Mapping[str, Runner], built: BuiltEngine, reporter: Reporter
) -> Proof[Report] | None:
    """The comparison of the engine with its ONNX file; None, with a line, if it cannot run here."""
    if reason := _cannot_run(built):
        reporter.say(f"parity: not checked, because the engine cannot run here ({reason})")
        return None
    with ExitStack() as stack:
        engine = opened(stack, built.path, "auto")
        report = compare(*subjects_of(reference, engine), golden_crops(MIN_CROPS))
        manifests = [runner.manifest for runner in engine.values()]
    return proof_of(report, source, built.path, manifests)


def _cannot_run(built: BuiltEngine) -> str:
    """Why the engine cannot run on this machine; empty if it can."""
    info = built.manifest.engine
    if info is not None and info.stripped:
        return "built without its weights"
    try:
        device = open_device()
    except (MissingPackageError, ModelFileError) as error:
        return str(error)
    try:
        check_architecture(engine_info(built.manifest, built.path), device, built.path)
    except EngineMismatchError as error:
        return str(error)
    return ""
