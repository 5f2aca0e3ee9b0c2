"""A TensorRT engine as a Runner: named tensors, one stream, pinned buffers, no torch.

The plan file is raw; what it needs to run is in its manifest, and a plan for another GPU
or TensorRT version is refused before the library is asked to open it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from reid.errors import EngineMismatchError, ManifestError, ModelFileError
from reid.manifest import EngineInfo, Manifest, read_manifest
from reid.runtime import Runner
from reid.runtime.device_memory import Device, open_device
from reid.runtime.inputs import batch_size, checked_inputs
from reid.runtime.tensorrt_module import captured_log, last_line, load_tensorrt, version_of
from reid.types import FloatArray

_FLOAT_BYTES = 4

REBUILD = "build the engine here again from its ONNX: reid export RUN --out DIR --trt"


@dataclass(frozen=True, slots=True)
class _Buffer:
    """One named tensor at its largest: where it is on the device and its pinned mirror."""

    name: str
    is_input: bool
    shape: tuple[int, ...]
    address: int
    host: FloatArray


class TensorRtRunner(Runner):
    """An open engine. ``threads`` has no meaning on a GPU and is ignored.

    Raises ManifestError without the engine's manifest, EngineMismatchError for an engine
    of another GPU or TensorRT version, MissingPackageError without TensorRT or a package
    for GPU memory, ModelFileError where there is no GPU or the plan does not open.
    """

    def __init__(self, path: Path, device: str = "auto", threads: int = 0) -> None:
        del threads
        self._path = Path(path)
        self._stack = ExitStack()
        self._closed = False
        self.manifest = read_manifest(self._path)
        info = _engine_info(self.manifest, self._path)
        if device not in ("auto", "cpu", "cuda"):
            raise ModelFileError(f"device is auto, cpu or cuda; found {device!r}")
        if device == "cpu":
            raise ModelFileError(
                f"{self._path.name} is a TensorRT engine and runs on a GPU, found device 'cpu'; "
                "use the .onnx file on a CPU"
            )
        self._trt = load_tensorrt(info.flavour)
        _check_version(info, version_of(self._trt), self._path)
        with ExitStack() as stack:
            self._device: Device = open_device()
            stack.callback(self._device.close)
            _check_architecture(info, self._device, self._path)
            # On a failure what was opened is freed while the device is still current.
            with self._device.active(), ExitStack() as opened:
                self._open(info, opened)
                self._stack = opened.pop_all()
            stack.pop_all()
        self.backend = f"{info.flavour} {version_of(self._trt)} on {self._device.name}"

    def _open(self, info: EngineInfo, stack: ExitStack) -> None:
        """Plan -> engine -> context -> stream and buffers; each freed in reverse by ``stack``."""
        trt, log = self._trt, captured_log(self._trt)
        log.take()
        self._stream = self._device.open_stream()
        stack.callback(self._device.close_stream, self._stream)
        # Held by self alone: a local name would keep them alive in the traceback of a
        # failure, beyond the device.
        stack.callback(self._forget, "_runtime")
        self._runtime = trt.Runtime(log)
        if info.version_compatible:
            # Such a plan carries the runtime of its own version, which is code; its hash
            # was compared with the manifest's.
            self._runtime.engine_host_code_allowed = True
        stack.callback(self._forget, "_engine")
        self._engine = self._runtime.deserialize_cuda_engine(self._path.read_bytes())
        if self._engine is None:
            reason = last_line(log, "TensorRT gave no reason")
            raise ModelFileError(f"{self._path}: TensorRT cannot open it: {reason}; {REBUILD}")
        stack.callback(self._forget, "_context")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            reason = last_line(log, "out of GPU memory?")
            raise ModelFileError(f"{self._path}: no execution context: {reason}")
        self._buffers = self._allocate(stack)
        self._check_tensors()

    def _allocate(self, stack: ExitStack) -> dict[str, _Buffer]:
        """Buffers for the largest batch of the engine's profile."""
        io = self._trt.TensorIOMode
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == io.INPUT]
        if not inputs:
            raise ModelFileError(f"{self._path}: the engine has no input; {REBUILD}")
        batched = {spec.name for spec in self.manifest.input_arrays if spec.batched}
        self._min_batch = self._max_batch = 1
        for name in inputs:
            if name in batched:
                smallest, _, largest = self._engine.get_tensor_profile_shape(name, 0)
                self._min_batch, self._max_batch = int(smallest[0]), int(largest[0])
            else:
                largest = self._engine.get_tensor_shape(name)
            self._context.set_input_shape(name, tuple(largest))
        return {name: self._buffer(name, name in inputs, stack) for name in names}

    def _buffer(self, name: str, is_input: bool, stack: ExitStack) -> _Buffer:
        kind = self._engine.get_tensor_dtype(name)
        if kind != self._trt.DataType.FLOAT:
            raise ModelFileError(
                f"{self._path}: tensor {name!r} is {kind}, expected float32 at the engine's "
                "inputs and outputs; export the ONNX again"
            )
        shape = tuple(int(size) for size in self._context.get_tensor_shape(name))
        if min(shape, default=0) < 1:
            raise ModelFileError(f"{self._path}: tensor {name!r} has no fixed shape: {shape}")
        address = self._device.allocate(prod(shape) * _FLOAT_BYTES)
        stack.callback(self._device.free, address)
        host = self._device.pinned(shape)
        stack.callback(self._device.free_pinned, host)
        self._context.set_tensor_address(name, address)
        return _Buffer(name, is_input, shape, address, host)

    def _check_tensors(self) -> None:
        """The manifest's arrays are the engine's. Raises ManifestError."""
        expected = {
            **{spec.name: (True, spec.shape) for spec in self.manifest.input_arrays},
            **{spec.name: (False, spec.shape) for spec in self.manifest.output_arrays},
        }
        found = {b.name: (b.is_input, b.shape[1:]) for b in self._buffers.values()}
        if found != expected:
            raise ManifestError(
                f"{self._path}: the manifest describes {_listed(expected)}, the engine has "
                f"{_listed(found)}; copy the file and its .json together, or {REBUILD}"
            )

    def _forget(self, attribute: str) -> None:
        setattr(self, attribute, None)

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """(N, ...) float32 per input name -> (N, ...) float32 per output name.

        A batch above the profile's maximum is run in pieces; a piece below its minimum is
        filled up with its last row and cut. Raises ModelFileError for a wrong name, shape
        or type, and where the GPU fails.
        """
        if self._closed:
            raise ModelFileError(f"{self._path}: the engine is closed; open the file again")
        arrays = checked_inputs(inputs, self.manifest)
        count = batch_size(arrays, self.manifest)
        outputs = {
            buffer.name: np.empty((count, *buffer.shape[1:]), dtype=np.float32)
            for buffer in self._buffers.values()
            if not buffer.is_input
        }
        with self._device.active():
            for start in range(0, count, self._max_batch):
                self._run_piece(arrays, outputs, start, min(start + self._max_batch, count))
        return outputs

    def _run_piece(
        self,
        arrays: Mapping[str, FloatArray],
        outputs: Mapping[str, FloatArray],
        start: int,
        stop: int,
    ) -> None:
        """Rows ``start`` to ``stop``, at most the profile's maximum."""
        device = self._device
        count = stop - start
        rows = max(count, self._min_batch)
        for spec in self.manifest.input_arrays:
            buffer, array = self._buffers[spec.name], arrays[spec.name]
            if spec.batched:
                buffer.host[:count] = array[start:stop]
                buffer.host[count:rows] = buffer.host[count - 1]
            else:
                buffer.host[:] = array
            filled = buffer.host[:rows] if spec.batched else buffer.host
            device.copy_to_device(buffer.address, filled, self._stream)
            self._context.set_input_shape(spec.name, filled.shape)
        if not self._context.execute_async_v3(self._stream):
            reason = last_line(captured_log(self._trt), "TensorRT gave no reason")
            # A copy that was queued still reads our buffer: let it end first.
            device.synchronise(self._stream)
            raise ModelFileError(f"{self._path}: the engine did not run: {reason}")
        for name in outputs:
            buffer = self._buffers[name]
            device.copy_to_host(buffer.host[:rows], buffer.address, self._stream)
        device.synchronise(self._stream)
        for name, output in outputs.items():
            output[start:stop] = self._buffers[name].host[:count]

    def close(self) -> None:
        """Free buffers, context, engine, runtime, stream and device, in this order."""
        if self._closed:
            return
        self._closed = True
        try:
            with self._device.active():
                self._stack.close()
        finally:
            self._buffers.clear()
            self._device.close()


def _listed(tensors: Mapping[str, tuple[bool, tuple[int, ...]]]) -> str:
    return " and ".join(
        f"{'input' if is_input else 'output'} {name} (N, {', '.join(map(str, row))})"
        for name, (is_input, row) in tensors.items()
    )


def _engine_info(manifest: Manifest, path: Path) -> EngineInfo:
    info = manifest.engine
    if info is None:
        raise ModelFileError(
            f"{path}: its manifest is not of an engine (it has no engine part); {REBUILD}"
        )
    if info.flavour not in ("tensorrt", "tensorrt_rtx"):
        raise ModelFileError(f"{path}: unknown TensorRT flavour {info.flavour!r}; {REBUILD}")
    if info.stripped:
        raise ModelFileError(
            f"{path}: the engine was built without its weights (--stripWeights) and cannot run "
            "before it is refitted; build it without that option"
        )
    return info


def _check_version(info: EngineInfo, here: str, path: Path) -> None:
    """Refuse a plan of another version.

    A plan opens in the version that wrote it; a version-compatible one also in later
    versions of the same major one.
    """
    if here == info.tensorrt_version:
        return
    built = _numbers(info.tensorrt_version)
    running = _numbers(here)
    if info.version_compatible and running[:1] == built[:1] and running >= built:
        return
    raise EngineMismatchError(
        f"{path.name} was built by {info.flavour} {info.tensorrt_version}, here is {here}; "
        f"{REBUILD}"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _check_architecture(info: EngineInfo, device: Device, path: Path) -> None:
    """Refuse a plan for another GPU: see EngineInfo.gpu_architecture for the words."""
    major, minor = device.compute_capability
    fits = {
        "ampere_plus": major >= 8,
        # NVIDIA's support matrix of TensorRT for RTX: 8.x and from 12.0 on.
        "rtx": major == 8 or major >= 12,
    }.get(info.gpu_architecture, info.gpu_architecture == f"sm{major}{minor}")
    if not fits:
        raise EngineMismatchError(
            f"{path.name} was built for {info.gpu_architecture}, here is {device.name} "
            f"(sm{major}{minor}); {REBUILD}"
        )
