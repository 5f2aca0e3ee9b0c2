"""A TensorRT engine from an exported ONNX file: one way for TensorRT 10, 11 and RTX.

The network is strongly typed: its precision is the ONNX graph's, proven before the build
and after it. A plan that is not what was asked for is refused and never written.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.errors import BuildError, MissingPackageError, ModelFileError, ReidError
from reid.files import check_writable, sha256_of_file, write_atomically
from reid.model_file.manifest import EngineInfo, Manifest, read_manifest, write_manifest
from reid.progress import SILENT, Reporter
from reid.runtime.device_memory import open_device
from reid.runtime.tensorrt_module import (
    FLAVOURS,
    captured_log,
    last_line,
    load_tensorrt,
    version_of,
)

from .builder_config import DYNAMIC, builder_config
from .builder_progress import progress_monitor
from .options import EngineOptions, engine_path
from .precision import (
    check_inspected_precision,
    check_parsed_precision,
    check_plan_size,
    parsed_network,
)
from .timing_cache import attach_timing_cache, save_timing_cache

NO_GPU = "no GPU here: build on the target, or install tensorrt-rtx to build ahead of time"

CANCELLED = "BuildCanceled"
"""TensorRT's word for a build that its progress monitor ended."""

NOT_INSPECTED = "not inspected: the engine cannot be opened without a GPU it runs on"


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """What a build left: the plan, its manifest, how long it took, and lines worth showing."""

    path: Path
    manifest: Manifest
    seconds: float
    notes: tuple[str, ...] = ()


def build_engine(
    onnx_path: Path,
    target: Path,
    options: EngineOptions | None = None,
    reporter: Reporter = SILENT,
) -> BuiltEngine:
    """Build ``onnx_path`` into ``target``: an ``.engine`` or ``.plan`` file, or a folder.

    In a folder the file is named by ``engine_file_name``. The plan is written raw, its
    manifest beside it. Raises MissingPackageError without TensorRT, ManifestError for an
    ONNX without its manifest, BuildError where there is no GPU to build for, the ONNX
    does not parse, the build fails, or the precision is not the manifest's, and
    OutputError, before the build, where the result cannot be written.
    """
    started = time.perf_counter()
    options = options or EngineOptions()
    if not onnx_path.is_file():
        raise BuildError(f"{onnx_path}: no such file; export the checkpoint to ONNX first")
    source = read_manifest(onnx_path)
    trt, info = _builder_here(options)
    log = captured_log(trt)
    builder = _new_builder(trt, log)
    network, parser = _parsed(trt, builder, log, onnx_path)
    _check_network(trt, network, source, onnx_path)
    parsed = parsed_network(trt, network)
    check_parsed_precision(parsed, source, onnx_path.name)
    config = builder_config(trt, builder, network, options)
    notes: list[str] = []
    if options.timing_cache_file is not None:
        notes.append(attach_timing_cache(trt, config, options.timing_cache_file, log))
    path = engine_path(target, source, info)
    check_writable(path)
    plan = _plan(trt, builder, network, config, reporter)
    # The parser owns the weights that the network only points to: it must outlive the build.
    del parser
    proof = _proof(trt, plan, parsed.num_weights, source, options)
    manifest = dataclasses.replace(
        source,
        source_sha256=sha256_of_file(onnx_path),
        engine=dataclasses.replace(info, precision_proof=proof),
        parity={},
    )
    write_atomically(path, lambda file: file.write(plan))
    written = write_manifest(path, manifest)
    if options.timing_cache_file is not None:
        save_timing_cache(config, options.timing_cache_file)
    notes.append(f"precision: {proof}")
    return BuiltEngine(path, written, time.perf_counter() - started, tuple(notes))


def _builder_here(options: EngineOptions) -> tuple[Any, EngineInfo]:
    """The TensorRT to build with, and where its plan will run.

    ``auto`` is tensorrt where there is a GPU, otherwise tensorrt_rtx.
    """
    refusals: list[ReidError] = []
    for flavour in FLAVOURS if options.flavour == "auto" else (options.flavour,):
        asked = dataclasses.replace(options, flavour=flavour)
        try:
            trt = load_tensorrt(flavour)
            return trt, _target_of(trt, flavour, asked)
        except (MissingPackageError, ModelFileError, BuildError) as error:
            refusals.append(error)
    missing = all(isinstance(refusal, MissingPackageError) for refusal in refusals)
    reason = "no engine can be built here: " + "; ".join(map(str, refusals))
    raise MissingPackageError(reason) if missing else BuildError(reason)


def _target_of(trt: Any, flavour: str, options: EngineOptions) -> EngineInfo:
    level = options.hardware_compatibility_level
    if flavour == "tensorrt_rtx":
        architecture = "rtx"
    else:
        major, minor = _compute_capability()
        architecture = "ampere_plus" if level == "ampere+" else f"sm{major}{minor}"
    return EngineInfo(
        gpu_architecture=architecture,
        tensorrt_version=version_of(trt),
        flavour=flavour,
        min_batch=options.min_batch,
        opt_batch=options.opt_batch,
        max_batch=options.max_batch,
        hardware_compatible=level != "none",
        version_compatible=options.version_compatible,
        stripped=options.strip_weights,
        more_profiles=options.more_profiles,
    )


def _compute_capability() -> tuple[int, int]:
    """Of the GPU that the builder times its kernels on."""
    try:
        device = open_device()
    except ModelFileError as error:
        raise BuildError(f"{NO_GPU} ({error})") from error
    try:
        return device.compute_capability
    finally:
        device.close()


def _new_builder(trt: Any, log: Any) -> Any:
    log.take()
    try:
        return trt.Builder(log)
    except (TypeError, RuntimeError) as error:
        # Without a driver the C++ factory returns nothing, which the bindings report so.
        raise BuildError(f"{NO_GPU} ({last_line(log, str(error))})") from error


def _parsed(trt: Any, builder: Any, log: Any, onnx_path: Path) -> tuple[Any, Any]:
    """The strongly typed network of an ONNX file, with the parser that owns its weights.

    Raises BuildError with all that the parser complains of, each with its node.
    """
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx_path)):
        problems = [_described(parser.get_error(i)) for i in range(parser.num_errors)]
        found = "; ".join(problems) or last_line(log, "no reason given")
        raise BuildError(f"{onnx_path}: TensorRT cannot parse it: {found}")
    return network, parser


def _described(problem: Any) -> str:
    """``node 'conv1.conv/Conv' (Conv): <the parser's words>``."""
    words = " ".join(problem.desc().split())
    name, operator = problem.node_name(), problem.node_operator()
    return f"node {name!r} ({operator}): {words}" if name or operator else words


def _check_network(trt: Any, network: Any, manifest: Manifest, onnx_path: Path) -> None:
    """The graph is the manifest's: names, shapes, float32 at both ends, a dynamic batch."""
    expected = {
        spec.name: (DYNAMIC if spec.batched else 1, *spec.shape)
        for spec in (*manifest.input_arrays, *manifest.output_arrays)
    }
    ends = [network.get_input(i) for i in range(network.num_inputs)]
    ends += [network.get_output(i) for i in range(network.num_outputs)]
    found = {tensor.name: tuple(tensor.shape) for tensor in ends}
    if found != expected:
        raise BuildError(
            f"{onnx_path}: the manifest describes {expected}, the graph has {found} (-1 is the "
            "dynamic batch); export the ONNX again"
        )
    for tensor in ends:
        if tensor.dtype != trt.DataType.FLOAT:
            raise BuildError(
                f"{onnx_path}: {tensor.name!r} is {tensor.dtype.name}, expected float32 at the "
                "graph's input and output; export the ONNX again"
            )


def _plan(trt: Any, builder: Any, network: Any, config: Any, reporter: Reporter) -> bytes:
    """Build. Raises BuildError with TensorRT's last words, or what ``reporter`` raised."""
    log = captured_log(trt)
    log.take()
    monitor = progress_monitor(trt, reporter)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.failure is not None:
        raise monitor.failure
    if plan is None:
        reason = last_line(log, "it gave no reason")
        if CANCELLED in reason:
            # Ctrl-C came between two lines of the monitor; the bindings made it a "no".
            raise KeyboardInterrupt
        raise BuildError(f"TensorRT built no engine: {reason}")
    return bytes(plan)


def _proof(
    trt: Any, plan: bytes, num_weights: int, source: Manifest, options: EngineOptions
) -> str:
    """What shows the plan's precision, in words. Raises BuildError where it is not so."""
    words = ["parsed types"]
    inspected = _inspected(trt, plan, source, options)
    # A version-compatible plan carries a runtime, a stripped one no weights: no size to judge.
    weighable = not (options.version_compatible or options.strip_weights)
    if not inspected and weighable:
        words.append(check_plan_size(len(plan), num_weights, source.precision))
    words.append(inspected or NOT_INSPECTED)
    return "; ".join(word for word in words if word)


def _inspected(trt: Any, plan: bytes, source: Manifest, options: EngineOptions) -> str:
    """The inspector's proof, empty where the engine cannot be opened here."""
    log = captured_log(trt)
    runtime = trt.Runtime(log)
    if options.version_compatible:
        runtime.engine_host_code_allowed = True  # of the plan that was built a moment ago
    engine = runtime.deserialize_cuda_engine(plan)
    log.take()
    if engine is None:
        return ""
    inspector = engine.create_engine_inspector()
    return check_inspected_precision(
        inspector.get_engine_information(trt.LayerInformationFormat.JSON),
        source.precision,
        source.fp32_islands,
    )
