"""Build a TensorRT engine from an exported ONNX file, with TensorRT 10, 11 or RTX.

The network is strongly typed: its precision is that of the ONNX graph, checked before and after
the build. An engine with the wrong precision is rejected and never written.
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
from reid.runtime.device_memory import Device, open_device
from reid.runtime.tensorrt_module import (
    FLAVOURS,
    captured_log,
    last_line,
    load_tensorrt,
    started,
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

NO_GPU = "no GPU found: build on the target, or install tensorrt-rtx to build ahead of time"

CANCELLED = "BuildCanceled"
"""TensorRT's message for a build cancelled by its progress monitor."""

NOT_INSPECTED = "not inspected: opening the engine needs a GPU that can run it"


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """The result of a build: the engine file, its manifest, the time, and notes to print."""

    path: Path
    manifest: Manifest
    seconds: float
    notes: tuple[str, ...] = ()

    def words(self) -> str:
        """The file and its time, then a line for each note."""
        return "\n  ".join((f"{self.path}  {self.seconds:.1f} s", *self.notes))


def build_engine(
    onnx_path: Path,
    target: Path,
    options: EngineOptions | None = None,
    reporter: Reporter = SILENT,
    source: Manifest | None = None,
) -> BuiltEngine:
    """Build ``onnx_path`` into ``target``: an ``.engine`` or ``.plan`` file, or a folder.

    In a folder the file is named by ``engine_file_name``. The engine is written as TensorRT
    serialized it, with its manifest beside it. ``source`` is the ONNX file's manifest, by default
    the one beside it. Raises MissingPackageError without TensorRT,
    ManifestError for an ONNX file without its manifest, BuildError if there is no GPU to
    build for, the ONNX file cannot be parsed, the build fails, or the precision is not the
    manifest's, and OutputError, before the build, if the result cannot be written.
    """
    started = time.perf_counter()
    options = options or EngineOptions()
    if not onnx_path.is_file():
        raise BuildError(f"{onnx_path}: no such file; export the checkpoint to ONNX first")
    source = source or read_manifest(onnx_path)
    _refuse_uint8(onnx_path, source)
    trt, info = _builder_here(options)
    options = dataclasses.replace(options, more_profiles=info.more_profiles)
    log = captured_log(trt)
    builder = _new_builder(trt)
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


def _refuse_uint8(onnx_path: Path, source: Manifest) -> None:
    """Raise BuildError for the INT8 file of CPUs: TensorRT takes symmetric int8 only."""
    if source.quantisation is not None and source.quantisation.activations == "uint8":
        name = onnx_path.name.replace(".x86.", ".")
        raise BuildError(
            f"{onnx_path} has uint8 activations, which only CPUs run; build the engine from the "
            f"file with int8 activations, {name}"
        )


def _builder_here(options: EngineOptions) -> tuple[Any, EngineInfo]:
    """The TensorRT module to build with, and where the engine will run.

    ``auto`` is tensorrt if there is a GPU, otherwise tensorrt_rtx.
    """
    refusals: list[ReidError] = []
    for flavour in FLAVOURS if options.flavour == "auto" else (options.flavour,):
        chosen = dataclasses.replace(options, flavour=flavour)
        try:
            trt = load_tensorrt(flavour)
            return trt, _target_of(trt, flavour, chosen)
        except (MissingPackageError, ModelFileError, BuildError) as error:
            refusals.append(error)
    missing = all(isinstance(refusal, MissingPackageError) for refusal in refusals)
    reason = "cannot build an engine on this machine: " + "; ".join(map(str, refusals))
    raise MissingPackageError(reason) if missing else BuildError(reason)


def _target_of(trt: Any, flavour: str, options: EngineOptions) -> EngineInfo:
    level = options.hardware_compatibility_level
    if flavour == "tensorrt_rtx":
        architecture = "rtx"
    else:
        gpu = _gpu()
        if gpu.integrated and options.more_profiles is None:
            # Large batches gain little on a small GPU, and take memory that the CPU needs.
            options = dataclasses.replace(options, more_profiles=())
        major, minor = gpu.compute_capability
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
        more_profiles=options.profiles[1:],
    )


def _gpu() -> Device:
    """The GPU on which the builder times kernels."""
    try:
        return open_device()
    except ModelFileError as error:
        raise BuildError(f"{NO_GPU} ({error})") from error


def _new_builder(trt: Any) -> Any:
    try:
        return started(trt, trt.Builder)
    except ModelFileError as error:
        raise BuildError(str(error)) from error


def _parsed(trt: Any, builder: Any, log: Any, onnx_path: Path) -> tuple[Any, Any]:
    """The strongly typed network of an ONNX file, and the parser that owns its weights.

    Raises BuildError with all errors of the parser, each with its node.
    """
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx_path)):
        problems = [_described(parser.get_error(i)) for i in range(parser.num_errors)]
        found = "; ".join(problems) or last_line(log, "no reason given")
        raise BuildError(f"{onnx_path}: TensorRT cannot parse it: {found}")
    return network, parser


def _described(problem: Any) -> str:
    """``node 'conv1.conv/Conv' (Conv): <the parser's message>``."""
    words = " ".join(problem.desc().split())
    name, operator = problem.node_name(), problem.node_operator()
    return f"node {name!r} ({operator}): {words}" if name or operator else words


def _check_network(trt: Any, network: Any, manifest: Manifest, onnx_path: Path) -> None:
    """Raise BuildError unless names, shapes and dynamic batch are as in the manifest, and all
    inputs and outputs are float32."""
    expected = {
        spec.name: (DYNAMIC if spec.batched else 1, *spec.shape)
        for spec in (*manifest.input_arrays, *manifest.output_arrays)
    }
    ends = [network.get_input(i) for i in range(network.num_inputs)]
    ends += [network.get_output(i) for i in range(network.num_outputs)]
    found = {tensor.name: tuple(tensor.shape) for tensor in ends}
    if found != expected:
        raise BuildError(
            f"{onnx_path}: expected {expected} by the manifest, the graph has {found} (-1 is the "
            "dynamic batch); export the ONNX again"
        )
    for tensor in ends:
        if tensor.dtype != trt.DataType.FLOAT:
            raise BuildError(
                f"{onnx_path}: {tensor.name!r} is {tensor.dtype.name}, expected float32 at the "
                "graph's input and output; export the ONNX again"
            )


def _plan(trt: Any, builder: Any, network: Any, config: Any, reporter: Reporter) -> bytes:
    """Build. Raises BuildError with TensorRT's last message, or what ``reporter`` raised."""
    log = captured_log(trt)
    log.take()
    monitor = progress_monitor(trt, reporter)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.failure is not None:
        raise monitor.failure
    if plan is None:
        reason = last_line(log, "no reason given")
        if CANCELLED in reason:
            # Ctrl-C between two lines of the monitor; the bindings turned it into "cancel".
            raise KeyboardInterrupt
        raise BuildError(f"TensorRT could not build the engine: {reason}")
    return bytes(plan)


def _proof(
    trt: Any, plan: bytes, num_weights: int, source: Manifest, options: EngineOptions
) -> str:
    """The evidence for the engine's precision, as text. Raises BuildError if it is wrong."""
    words = ["parsed types"]
    inspected = _inspected(trt, plan, source, options)
    # A version-compatible plan includes a runtime and a stripped one has no weights, so their
    # sizes prove nothing.
    weighable = not (options.version_compatible or options.strip_weights)
    if not inspected and weighable:
        num_profiles = len(options.profiles)
        words.append(check_plan_size(len(plan), num_weights, source.precision, num_profiles))
    words.append(inspected or NOT_INSPECTED)
    return "; ".join(word for word in words if word)


def _inspected(trt: Any, plan: bytes, source: Manifest, options: EngineOptions) -> str:
    """The inspector's evidence; empty if the engine cannot be opened on this machine."""
    log = captured_log(trt)
    try:
        runtime = started(trt, trt.Runtime)
    except ModelFileError:
        return ""
    if options.version_compatible:
        runtime.engine_host_code_allowed = True  # safe: we have just built this plan
    engine = runtime.deserialize_cuda_engine(plan)
    inspector = engine and engine.create_engine_inspector()
    log.take()
    if not inspector:
        return ""
    return check_inspected_precision(
        inspector.get_engine_information(trt.LayerInformationFormat.JSON),
        source.precision,
        source.fp32_islands,
    )
