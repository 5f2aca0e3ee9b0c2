"""The seam over pycuda and cuda-python, each played by a few lines of Python."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reid.errors import ConfigError, MissingPackageError, ModelFileError
from reid.runtime.device_memory import (
    PACKAGE_VARIABLE,
    CudaPythonDevice,
    PyCudaDevice,
    open_device,
)


class FakeRuntimeApi(ModuleType):
    """``cuda.bindings.runtime`` where device memory is host memory."""

    class cudaDeviceAttr(IntEnum):
        cudaDevAttrIntegrated = 18
        cudaDevAttrComputeCapabilityMajor = 75
        cudaDevAttrComputeCapabilityMinor = 76

    class cudaMemcpyKind(IntEnum):
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.code = 0
        self.num_contexts = 0
        self.blocks: dict[int, Any] = {}
        self.streams: list[int] = []

    def cudaSetDevice(self, index: int) -> tuple[int]:
        """It makes the primary context, from CUDA 12 on."""
        self.num_contexts += 1
        return (self.code,)

    def cudaDeviceGetAttribute(self, attribute: int, index: int) -> tuple[int, int]:
        return self.code, {18: 1, 75: 8, 76: 7}[attribute]

    def cudaGetDeviceProperties(self, index: int) -> tuple[int, SimpleNamespace]:
        return self.code, SimpleNamespace(name=b"Orin" + bytes(252))

    def cudaGetErrorString(self, code: int) -> tuple[int, bytes]:
        return 0, {2: b"out of memory", 35: b"driver too old"}[code]

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        if self.code:
            return self.code, 0
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    cudaMallocHost = cudaMalloc

    def cudaFree(self, address: int) -> tuple[int]:
        del self.blocks[address]
        return (0,)

    cudaFreeHost = cudaFree

    def cudaHostGetDevicePointer(self, address: int, flags: int) -> tuple[int, int]:
        """Pinned memory lies at the same address on both sides, where addresses are unified."""
        assert address in self.blocks
        assert flags == 0
        return 0, address

    def cudaStreamCreate(self) -> tuple[int, int]:
        self.streams.append(5)
        return 0, 5

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        self.streams.remove(stream)
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        return (self.code,)

    def cudaMemcpyAsync(
        self, to: int, source: int, size: int, kind: int, stream: int
    ) -> tuple[int]:
        ctypes.memmove(to, source, size)
        return (0,)


class FakeDriverApi(ModuleType):
    """``pycuda.driver`` where device memory is host memory.

    As in its sources: pycuda keeps a stack of its own, and only its top is on the driver's.
    ``detach`` pushes a context that is not current before it releases it, and the driver does not
    pop on a release; at the last one it resets the context.
    """

    class Error(Exception): ...

    class device_attribute(IntEnum):
        INTEGRATED = 18

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.stack: list[Context] = []
        self.drivers_stack: list[Context] = []
        self.references = 0
        self.resets = 0
        self.is_initialised = False
        self.memory: dict[int, Any] = {}
        self.freed: list[str] = []

    def init(self) -> None:
        self.is_initialised = True

    def Device(self, index: int) -> SimpleNamespace:
        assert self.is_initialised
        assert index == 0
        return SimpleNamespace(
            name=lambda: "Orin",
            compute_capability=lambda: (8, 7),
            get_attribute=lambda attribute: {18: 1}[attribute],
            retain_primary_context=lambda: Context(self),
        )

    def current(self) -> None:
        if not self.drivers_stack or not self.references:
            raise self.Error("cuMemAlloc failed: invalid device context")

    def mem_alloc(self, size: int) -> Any:
        self.current()
        if size > 1 << 30:
            raise self.Error("cuMemAlloc failed: out of memory")
        block = ctypes.create_string_buffer(size)
        address = ctypes.addressof(block)
        self.memory[address] = block
        memory = SimpleNamespace(free=lambda: self.memory.pop(address))

        class Allocation:
            free = staticmethod(memory.free)

            def __int__(self) -> int:
                return address

        return Allocation()

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: type) -> Any:
        self.current()
        freed = self.freed

        class Block(np.ndarray):
            def free(self) -> None:
                freed.append("pinned")

            def get_device_pointer(self) -> int:
                return self.ctypes.data

        return np.empty(shape, dtype).view(Block)[...].view(np.ndarray)

    def Stream(self) -> SimpleNamespace:
        self.current()
        return SimpleNamespace(handle=5, synchronize=lambda: None)

    def memcpy_htod_async(self, to: int, source: Any, stream: Any) -> None:
        assert stream.handle == 5
        ctypes.memmove(to, source.ctypes.data, source.nbytes)

    def memcpy_dtoh_async(self, to: Any, source: int, stream: Any) -> None:
        assert stream.handle == 5
        ctypes.memmove(to.ctypes.data, source, to.nbytes)


class Context:
    """The primary context of a FakeDriverApi, retained once more."""

    def __init__(self, api: FakeDriverApi) -> None:
        self.api, self.is_valid = api, True
        api.references += 1

    def _off_the_driver(self) -> None:
        if self.api.stack:
            self.api.drivers_stack.pop()

    def push(self) -> None:
        self._off_the_driver()
        self.api.drivers_stack.append(self)
        self.api.stack.append(self)

    def pop(self) -> None:
        """A static method in pycuda: it pops whatever is on top."""
        self._off_the_driver()
        if not self.api.stack:
            raise self.api.Error("cannot pop non-current context")
        self.api.stack.pop()
        self.api.drivers_stack += self.api.stack[-1:]

    def detach(self) -> None:
        if not self.is_valid:
            raise self.api.Error("cannot detach from invalid context")
        if self.api.stack[-1:] != [self]:
            self.api.drivers_stack.append(self)
        self.is_valid = False
        self.api.references -= 1
        self.api.resets += not self.api.references


@pytest.mark.parametrize(
    ("device", "api"),
    [(PyCudaDevice, FakeDriverApi), (CudaPythonDevice, FakeRuntimeApi)],
)
def test_what_is_copied_to_the_device_comes_back(
    device: Callable[[Any], Any], api: Callable[[], Any]
) -> None:
    gpu = device(api())
    assert (gpu.name, gpu.compute_capability, gpu.integrated) == ("Orin", (8, 7), True)
    with gpu.active():
        stream = gpu.open_stream()
        address = gpu.allocate(24)
        host = gpu.pinned((2, 3))
        assert gpu.mapped_address(host) == host.ctypes.data
        assert host.shape == (2, 3)
        assert host.dtype == np.float32
        host[:] = np.arange(6).reshape(2, 3)
        gpu.copy_to_device(address, host, stream)
        host[:] = 0
        gpu.copy_to_host(host[:1], address, stream)
        gpu.synchronise(stream)
        np.testing.assert_array_equal(host, [[0, 1, 2], [0, 0, 0]])
        gpu.free_pinned(host)
        gpu.free(address)
        gpu.close_stream(stream)


def test_cuda_python_leaves_nothing_behind() -> None:
    api = FakeRuntimeApi()
    gpu = CudaPythonDevice(api)
    host, address, stream = gpu.pinned((4,)), gpu.allocate(16), gpu.open_stream()
    gpu.free_pinned(host)
    gpu.free(address)
    gpu.close_stream(stream)
    assert (api.blocks, api.streams) == ({}, [])


def test_pycuda_retains_the_primary_context_once_and_leaves_it_balanced() -> None:
    api = FakeDriverApi()
    for _ in range(2):
        gpu = PyCudaDevice(api)
        with gpu.active():
            assert api.drivers_stack == api.stack
            host, address = gpu.pinned((4,)), gpu.allocate(16)
            with gpu.active():
                stream = gpu.open_stream()
            gpu.close_stream(stream)
            gpu.free_pinned(host)
            gpu.free(address)
    assert (api.stack, api.drivers_stack, api.references, api.resets) == ([], [], 1, 0)
    assert (api.memory, api.freed) == ({}, ["pinned"] * 2)


def test_detaching_a_context_that_is_not_current_is_what_must_not_happen() -> None:
    """The stand-in is as unforgiving as pycuda."""
    api = FakeDriverApi()
    context = Context(api)
    context.push()
    context.pop()
    context.detach()
    assert (api.drivers_stack, api.references, api.resets) == ([context], 0, 1)


def test_the_compute_capability_is_read_without_a_context() -> None:
    driver, runtime = FakeDriverApi(), FakeRuntimeApi()
    assert PyCudaDevice(driver).compute_capability == (8, 7)
    assert CudaPythonDevice(runtime).compute_capability == (8, 7)
    assert (driver.references, runtime.num_contexts) == (0, 0)


def test_a_failing_call_is_one_line_of_ours() -> None:
    api = FakeRuntimeApi()
    gpu = CudaPythonDevice(api)
    api.code = 2
    with pytest.raises(ModelFileError, match=r"cudaMalloc: out of memory \(CUDA error 2\)"):
        gpu.allocate(16)
    driver = FakeDriverApi()
    other = PyCudaDevice(driver)
    with pytest.raises(ModelFileError, match="out of memory"), other.active():
        other.allocate(1 << 40)
    assert driver.drivers_stack == []


def hide(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pycuda", "pycuda.driver", "cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "cuda.cudart", None)


def test_without_a_package_both_install_lines_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch)
    with pytest.raises(MissingPackageError, match=r"pip install cuda-python .* pip install pycuda"):
        open_device()


def test_cuda_python_is_taken_before_pycuda_unless_pycuda_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch)
    runtime, driver = FakeRuntimeApi(), FakeDriverApi()
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    assert isinstance(open_device({}), PyCudaDevice)
    monkeypatch.setitem(sys.modules, "cuda.bindings", ModuleType("cuda.bindings"))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    assert isinstance(open_device({}), CudaPythonDevice)
    assert isinstance(open_device({PACKAGE_VARIABLE: "pycuda"}), PyCudaDevice)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(MissingPackageError, match=rf"{PACKAGE_VARIABLE} names pycuda"):
        open_device({PACKAGE_VARIABLE: "pycuda"})
    with pytest.raises(ConfigError, match=rf"{PACKAGE_VARIABLE} .*cuda-python or pycuda.*'cupy'"):
        open_device({PACKAGE_VARIABLE: "cupy"})


def test_a_machine_without_a_driver_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch)
    runtime = FakeRuntimeApi()
    runtime.code = 35
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.cudart", runtime)
    with pytest.raises(ModelFileError, match=r"no NVIDIA GPU can be used here .*driver too old"):
        open_device()


def test_a_package_that_cannot_load_the_driver_is_a_machine_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch)
    runtime = FakeRuntimeApi()

    def no_driver(attribute: int, index: int) -> tuple[int]:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(runtime, "cudaDeviceGetAttribute", no_driver)
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.cudart", runtime)
    with pytest.raises(ModelFileError, match=r"no NVIDIA GPU can be used here .*libcuda"):
        open_device()


def test_cuda_python_has_graphs_and_pycuda_has_none() -> None:
    assert CudaPythonDevice(FakeRuntimeApi()).graphs is not None
    assert PyCudaDevice(FakeDriverApi()).graphs is None
