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

from reid.errors import MissingPackageError, ModelFileError
from reid.runtime.device_memory import CudaPythonDevice, PyCudaDevice, open_device


class FakeRuntimeApi(ModuleType):
    """``cuda.bindings.runtime`` where device memory is host memory."""

    class cudaDeviceAttr(IntEnum):
        cudaDevAttrComputeCapabilityMajor = 75
        cudaDevAttrComputeCapabilityMinor = 76

    class cudaMemcpyKind(IntEnum):
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.code = 0
        self.blocks: dict[int, Any] = {}
        self.streams: list[int] = []

    def cudaSetDevice(self, index: int) -> tuple[int]:
        return (self.code,)

    def cudaDeviceGetAttribute(self, attribute: int, index: int) -> tuple[int, int]:
        return self.code, {75: 8, 76: 7}[attribute]

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
    """``pycuda.driver`` where device memory is host memory."""

    class Error(Exception): ...

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.contexts: list[str] = []
        self.memory: dict[int, Any] = {}
        self.detached = False
        self.freed: list[str] = []

    def init(self) -> None: ...

    def Device(self, index: int) -> SimpleNamespace:
        assert index == 0
        context = SimpleNamespace(
            push=lambda: self.contexts.append("primary"),
            pop=lambda: self.contexts.pop(),
            detach=lambda: setattr(self, "detached", True),
        )
        return SimpleNamespace(
            name=lambda: "Orin",
            compute_capability=lambda: (8, 7),
            retain_primary_context=lambda: context,
        )

    def mem_alloc(self, size: int) -> Any:
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
        freed = self.freed

        class Block(np.ndarray):
            def free(self) -> None:
                freed.append("pinned")

        return np.empty(shape, dtype).view(Block)[...].view(np.ndarray)

    def Stream(self) -> SimpleNamespace:
        return SimpleNamespace(handle=5, synchronize=lambda: None)

    def memcpy_htod_async(self, to: int, source: Any, stream: Any) -> None:
        assert stream.handle == 5
        ctypes.memmove(to, source.ctypes.data, source.nbytes)

    def memcpy_dtoh_async(self, to: Any, source: int, stream: Any) -> None:
        assert stream.handle == 5
        ctypes.memmove(to.ctypes.data, source, to.nbytes)


@pytest.mark.parametrize(
    ("device", "api"),
    [(PyCudaDevice, FakeDriverApi), (CudaPythonDevice, FakeRuntimeApi)],
)
def test_what_is_copied_to_the_device_comes_back(
    device: Callable[[Any], Any], api: Callable[[], Any]
) -> None:
    gpu = device(api())
    assert (gpu.name, gpu.compute_capability) == ("Orin", (8, 7))
    with gpu.active():
        stream = gpu.open_stream()
        address = gpu.allocate(24)
        host = gpu.pinned((2, 3))
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
    gpu.close()


def test_cuda_python_leaves_nothing_behind() -> None:
    api = FakeRuntimeApi()
    gpu = CudaPythonDevice(api)
    host, address, stream = gpu.pinned((4,)), gpu.allocate(16), gpu.open_stream()
    gpu.free_pinned(host)
    gpu.free(address)
    gpu.close_stream(stream)
    assert (api.blocks, api.streams) == ({}, [])


def test_pycuda_leaves_nothing_behind_and_its_context_is_current_only_inside() -> None:
    api = FakeDriverApi()
    gpu = PyCudaDevice(api)
    with gpu.active():
        assert api.contexts == ["primary"]
        host, address = gpu.pinned((4,)), gpu.allocate(16)
        gpu.free_pinned(host)
        gpu.free(address)
    gpu.close()
    assert (api.contexts, api.memory, api.freed, api.detached) == ([], {}, ["pinned"], True)


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
    assert driver.contexts == []


def hide(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pycuda", "pycuda.driver", "cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "cuda.cudart", None)


def test_without_a_package_both_install_lines_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch)
    with pytest.raises(MissingPackageError, match=r"pip install pycuda .* pip install cuda-python"):
        open_device()


def test_pycuda_is_taken_before_cuda_python(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch)
    runtime, driver = FakeRuntimeApi(), FakeDriverApi()
    monkeypatch.setitem(sys.modules, "cuda.bindings", ModuleType("cuda.bindings"))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    assert isinstance(open_device(), CudaPythonDevice)
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    assert isinstance(open_device(), PyCudaDevice)


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

    def no_driver(index: int) -> tuple[int]:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(runtime, "cudaSetDevice", no_driver)
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.cudart", runtime)
    with pytest.raises(ModelFileError, match=r"no NVIDIA GPU can be used here .*libcuda"):
        open_device()


def test_cuda_python_has_graphs_and_pycuda_has_none() -> None:
    assert CudaPythonDevice(FakeRuntimeApi()).graphs is not None
    assert PyCudaDevice(FakeDriverApi()).graphs is None
