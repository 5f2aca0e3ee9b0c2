"""A GPU and a TensorRT made of NumPy, and engine files for them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from reid.errors import ModelFileError
from reid.model_file.manifest import EngineInfo, Manifest, write_manifest
from reid.model_file.preprocess import Preprocess
from reid.types import FloatArray

ROW = (3, 144, 56)
DIM = 2
FIRST_STREAM = 7
ACTIVATION_BYTES = 16
"""Device memory that a context takes for each image of its profile's largest batch."""


Computes = Callable[[dict[str, FloatArray]], dict[str, FloatArray]]
"""Named inputs of one run -> named outputs."""


def described(images: FloatArray) -> FloatArray:
    """What the fake engine computes: (N, 3, 144, 56) -> (N, 2), different for every row."""
    flat = images.reshape(len(images), -1)
    return np.stack([flat.mean(axis=1), flat.max(axis=1)], axis=1)


Work = Callable[[], None]


class FakeGraphs:
    """Recorded lists of work; recording allows nothing but queueing."""

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.recorded: dict[int, list[Work]] = {}
        self.num_recorded = 0
        self.launches: list[int] = []

    def record(self, stream: int, work: Work) -> int:
        assert self.device.is_active
        assert not self.device.queues[stream], "recording beside running work"
        self.device.recording = []
        try:
            work()
        finally:
            recording, self.device.recording = self.device.recording, None
        self.num_recorded += 1
        self.recorded[self.num_recorded] = recording
        return self.num_recorded

    def launch(self, graph: int, stream: int) -> None:
        assert self.device.recording is None
        self.launches.append(graph)
        self.device.queues[stream] += self.recorded[graph]

    def free(self, graph: int) -> None:
        assert not any(self.device.queues.values()), "a graph was freed while it ran"
        del self.recorded[graph]
        self.device.events.append("free_graph")


class FakeDevice:
    """Device memory is a dictionary; every event is written down; leaks can be counted.

    What is queued on a stream is done when that stream is synchronised, not before.
    """

    name = "Fake GPU"

    def __init__(self, compute_capability: tuple[int, int] = (8, 7)) -> None:
        self.compute_capability = compute_capability
        self.integrated = False
        self.graphs: FakeGraphs | None = FakeGraphs(self)
        self.memory: dict[int, FloatArray] = {}
        self.pinned_blocks: list[int] = []
        self.queues: dict[int, list[Work]] = {}
        self.recording: list[Work] | None = None
        self.events: list[str] = []
        self.order: list[str] = []
        self.is_active = False
        self.allocations_left = 100
        self.num_allocations = 0

    @contextmanager
    def active(self) -> Iterator[None]:
        self.is_active = True
        try:
            yield
        finally:
            self.is_active = False

    def queue(self, stream: int, work: Work) -> None:
        assert self.is_active
        (self.queues[stream] if self.recording is None else self.recording).append(work)

    def allocate(self, num_bytes: int) -> int:
        assert self.is_active
        assert self.recording is None
        if not self.allocations_left:
            raise ModelFileError("the GPU failed in cudaMalloc: out of memory")
        self.allocations_left -= 1
        self.num_allocations += 1
        address = 1000 * self.num_allocations
        self.memory[address] = np.full(num_bytes // 4, np.nan, dtype=np.float32)
        return address

    def free(self, address: int) -> None:
        assert self.is_active
        del self.memory[address]
        self.events.append("free")

    def pinned(self, shape: tuple[int, ...]) -> FloatArray:
        array = np.full(shape, np.nan, dtype=np.float32)
        self.pinned_blocks.append(array.ctypes.data)
        return array

    def free_pinned(self, array: FloatArray) -> None:
        self.pinned_blocks.remove(array.ctypes.data)
        self.memory.pop(array.ctypes.data, None)
        self.events.append("free_pinned")

    def mapped_address(self, array: FloatArray) -> int:
        assert array.ctypes.data in self.pinned_blocks
        self.memory[array.ctypes.data] = array.reshape(-1)
        return array.ctypes.data

    def open_stream(self) -> int:
        stream = FIRST_STREAM + len(self.queues)
        self.queues[stream] = []
        return stream

    def close_stream(self, stream: int) -> None:
        assert not self.queues.pop(stream)
        self.events.append("close_stream")

    def copy_to_device(self, address: int, host: FloatArray, stream: int) -> None:
        assert host.flags.c_contiguous

        def copy() -> None:
            self.memory[address][: host.size] = host.ravel()

        self.queue(stream, copy)

    def copy_to_host(self, host: FloatArray, address: int, stream: int) -> None:
        # Whoever reads before the copy is done reads what is no answer.
        host[:] = np.nan

        def copy() -> None:
            host.ravel()[:] = self.memory[address][: host.size]

        self.queue(stream, copy)

    def synchronise(self, stream: int) -> None:
        assert self.recording is None
        if self.queues[stream]:
            self.order.append(f"wait {stream}")
        while self.queues[stream]:
            self.queues[stream].pop(0)()

    def leaks(self) -> tuple[int, int, int, int]:
        graphs = len(self.graphs.recorded) if self.graphs else 0
        return len(self.memory), len(self.pinned_blocks), len(self.queues), graphs


class FakeTensorRt(ModuleType):
    """As much of the ``tensorrt`` module as the runner uses, over a FakeDevice."""

    class ILogger:
        class Severity(IntEnum):
            ERROR = 1
            WARNING = 2
            INFO = 3

        def __init__(self) -> None: ...

    class TensorIOMode(IntEnum):
        INPUT = 1
        OUTPUT = 2

    class DataType(IntEnum):
        FLOAT = 0
        HALF = 1

    class ProfilingVerbosity(IntEnum):
        LAYER_NAMES_ONLY = 0
        NONE = 1
        DETAILED = 2

    class ExecutionContextAllocationStrategy(IntEnum):
        STATIC = 0
        ON_PROFILE_CHANGE = 1
        USER_MANAGED = 2

    def __init__(self, device: FakeDevice, version: str) -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self.device = device
        self.profiles = [(1, 4, 8)]
        self.inputs: dict[str, tuple[int, ...]] = {"data": ROW}
        self.outputs: dict[str, tuple[int, ...]] = {"embedding": (DIM,)}
        self.unbatched: set[str] = set()
        self.computes: Computes = lambda arrays: {"embedding": described(arrays["data"])}
        self.output_type = self.DataType.FLOAT
        self.starts = True
        self.opens = True
        self.fails_to_run = False
        self.can_be_recorded = True
        self.host_code_allowed = False
        self.batches: list[int] = []
        self.used_profiles: list[int] = []
        self.num_contexts = 0
        self.blocks: list[tuple[int, int]] = []
        self.verbosities: list[FakeTensorRt.ProfilingVerbosity] = []

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        return self.inputs | self.outputs

    def Runtime(self, logger: Any) -> FakeRuntime:
        if not self.starts:
            logger.log(self.ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return FakeRuntime(self, logger)


KINDS: dict[str, type] = {"int": int, "str": str, "bytes": bytes, "tuple": tuple}
"""First word of a parameter's annotation -> the class that the bindings accept."""


def _strict(method: Callable[..., Any]) -> Callable[..., Any]:
    """``method`` with the type error of pybind11 for an argument of another class."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(*arguments: Any, **keywords: Any) -> Any:
        for name, value in signature.bind(*arguments, **keywords).arguments.items():
            kind = KINDS.get(str(signature.parameters[name].annotation).partition("[")[0])
            if kind and not isinstance(value, kind):
                raise TypeError(f"{method.__name__}(): incompatible function arguments: {value!r}")
        return method(*arguments, **keywords)

    return call


class Gone:
    """A TensorRT object: its last reference is written down, its methods check their arguments.

    The public methods have the signatures of the class ``real``; a test compares them with the
    bindings.
    """

    real: ClassVar[str]
    strict: ClassVar[dict[str, Callable[..., Any]]]

    def __init_subclass__(cls, real: str) -> None:
        cls.real = real
        public = {name: value for name, value in vars(cls).items() if name[0] != "_"}
        cls.strict = {name: _strict(value) for name, value in public.items() if callable(value)}
        for name, method in cls.strict.items():
            setattr(cls, name, method)

    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt = trt

    def __del__(self) -> None:
        self.trt.device.events.append(f"del {type(self).__name__.removeprefix('Fake').lower()}")


class FakeRuntime(Gone, real="Runtime"):
    engine_host_code_allowed = False

    def __init__(self, trt: FakeTensorRt, log: Any) -> None:
        super().__init__(trt)
        self.log = log

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> FakeEngine | None:
        assert serialized_engine == b"plan"
        self.trt.host_code_allowed = self.engine_host_code_allowed
        if not self.trt.opens:
            self.log.log(self.trt.ILogger.Severity.INFO, "never mind")
            self.log.log(self.trt.ILogger.Severity.ERROR, "magic tag\n does not match")
            return None
        return FakeEngine(self.trt)


class FakeEngine(Gone, real="ICudaEngine"):
    @property
    def num_io_tensors(self) -> int:
        return len(self.trt.tensors)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.trt.profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self.trt.tensors)[index]

    def get_tensor_mode(self, name: str) -> FakeTensorRt.TensorIOMode:
        modes = self.trt.TensorIOMode
        return modes.INPUT if name in self.trt.inputs else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> FakeTensorRt.DataType:
        return self.trt.DataType.FLOAT if name in self.trt.inputs else self.trt.output_type

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (1 if name in self.trt.unbatched else -1, *self.trt.tensors[name])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert name in self.trt.inputs.keys() - self.trt.unbatched
        return [(size, *self.trt.tensors[name]) for size in self.trt.profiles[profile_index]]

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return ACTIVATION_BYTES * self.trt.profiles[profile_index][2]

    def create_execution_context(
        self, strategy: FakeTensorRt.ExecutionContextAllocationStrategy
    ) -> FakeContext | None:
        assert strategy.name == "USER_MANAGED"
        return FakeContext(self.trt)


class FakeContext(Gone, real="IExecutionContext"):
    """A context: once a graph was recorded of it, nothing in it may change."""

    def __init__(self, trt: FakeTensorRt) -> None:
        super().__init__(trt)
        self.profile = 0
        self.sizes: dict[str, int] = {}
        self.prepared: dict[str, int] = {}
        self.addresses: dict[str, int] = {}
        self.block = (0, 0)
        self.is_recorded = False
        self.nvtx_verbosity = trt.ProfilingVerbosity.DETAILED  # as the engine was built
        trt.num_contexts += 1

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert not self.is_recorded
        assert stream_handle in self.trt.device.queues
        if profile_index >= len(self.trt.profiles):
            raise RuntimeError("Error in set optimization profile async.")
        self.profile, self.sizes = profile_index, {}
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert not self.is_recorded, "a recorded context was given another shape"
        assert shape[1:] == self.trt.inputs[name]
        assert shape[0] == 1 or name not in self.trt.unbatched
        self.sizes[name] = shape[0]
        # The next run prepares it again, be the shape another one or not.
        self.prepared = {}
        return True

    def _batch(self) -> int:
        (size,) = {self.sizes[name] for name in self.trt.inputs.keys() - self.trt.unbatched}
        smallest, _, largest = self.trt.profiles[self.profile]
        assert smallest <= size <= largest, "a batch outside the profile"
        return size

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        size = self.sizes[name] if name in self.trt.inputs else self._batch()
        return (size, *self.trt.tensors[name])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert not self.is_recorded, "a recorded context was given another address"
        self.addresses[name] = memory
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        assert not self.is_recorded, "a recorded context was given other memory"
        assert 4 * len(self.trt.device.memory[memory]) == size
        self.block = (memory, size)

    def execute_async_v3(self, stream_handle: int) -> bool:
        device = self.trt.device
        address, size = self.block
        assert address in device.memory, "no memory for the activations"
        assert size >= ACTIVATION_BYTES * self.trt.profiles[self.profile][2]
        self.trt.blocks.append((stream_handle, address))
        self.trt.verbosities.append(self.nvtx_verbosity)
        if device.recording is not None:
            assert self.prepared == self.sizes, "recorded before it ran once with these shapes"
            self.is_recorded = True
        if self.trt.fails_to_run or (device.recording is not None and not self.trt.can_be_recorded):
            return False
        batch = self._batch()
        shapes = {name: self.get_tensor_shape(name) for name in self.trt.inputs}
        alive = weakref.ref(self)

        def work() -> None:
            context = alive()
            assert context is not None, "the context went before its work was done"
            context._compute(shapes)
            self_trt.batches.append(batch)
            self_trt.used_profiles.append(context.profile)

        self_trt = self.trt
        device.order.append(f"run {stream_handle}")
        device.queue(stream_handle, work)
        return True

    def _compute(self, shapes: dict[str, tuple[int, ...]]) -> None:
        memory = self.trt.device.memory
        arrays = {}
        for name, shape in shapes.items():
            source = memory[self.addresses[name]][: int(np.prod(shape))]
            assert not np.isnan(source).any(), "a row was run that was never written"
            arrays[name] = source.reshape(shape)
        for name, result in self.trt.computes(arrays).items():
            memory[self.addresses[name]][: result.size] = result.ravel()
        self.prepared = dict(self.sizes)


BUILT = EngineInfo("sm87", "10.3.0", "tensorrt", min_batch=1, opt_batch=4, max_batch=8)


def engine_file(folder: Path, **changes: Any) -> Path:
    """A plan with its manifest."""
    manifest = Manifest("msp_cnn", "embed", Preprocess(), output_dim=DIM)
    return write_engine(folder, manifest, **changes)


def write_engine(folder: Path, manifest: Manifest, **changes: Any) -> Path:
    file = folder / f"{manifest.network}.engine"
    file.write_bytes(b"plan")
    engine = dataclasses.replace(BUILT, **changes)
    write_manifest(file, dataclasses.replace(manifest, engine=engine))
    return file


def images(count: int) -> FloatArray:
    return np.random.default_rng(count).normal(size=(count, *ROW)).astype(np.float32)
