"""Device memory, pinned memory and streams: the few CUDA calls that a runner needs.

One interface to two packages: NVIDIA's cuda-python (wheels, ``cuda.bindings``; ``cuda.cudart``
before 12.8), or pycuda (built from source, needs CUDA's headers) where it is the only one or is
asked for. Addresses and streams are plain integers, as TensorRT takes them.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from math import prod
from typing import Any, Protocol

import numpy as np

from reid.errors import ConfigError, MissingPackageError, ModelFileError
from reid.runtime.cuda_graphs import CudaGraphs
from reid.runtime.driver import driver_words, this_driver
from reid.types import FloatArray

PACKAGE_VARIABLE = "REID_CUDA_PACKAGE"
"""Environment variable with the package to use; without it cuda-python is tried first."""

_FLOAT_BYTES = 4


class Device(Protocol):
    """The first visible GPU. Every call must happen inside ``with device.active():``.

    Opening one makes no CUDA context; ``active`` makes the primary one, which lives as long as the
    process because TensorRT and PyTorch use it too.
    """

    name: str
    compute_capability: tuple[int, int]
    integrated: bool
    """Whether the GPU uses the CPU's memory, as a Jetson's does."""
    graphs: CudaGraphs | None
    """None if the package has no CUDA graphs."""

    def active(self) -> AbstractContextManager[None]:
        """Make this device current in the calling thread."""
        ...

    def allocate(self, num_bytes: int) -> int:
        """The address of new device memory."""
        ...

    def free(self, address: int) -> None: ...

    def pinned(self, shape: tuple[int, ...]) -> FloatArray:
        """A page-locked float32 array, whose copies run in parallel with the GPU's work."""
        ...

    def free_pinned(self, array: FloatArray) -> None: ...

    def mapped_address(self, array: FloatArray) -> int:
        """Where the GPU itself reads and writes an array of ``pinned``, without a copy."""
        ...

    def open_stream(self) -> int: ...

    def close_stream(self, stream: int) -> None: ...

    def copy_to_device(self, address: int, host: FloatArray, stream: int) -> None:
        """Queue a copy of the contiguous ``host``."""
        ...

    def copy_to_host(self, host: FloatArray, address: int, stream: int) -> None:
        """Queue a copy into the contiguous ``host``."""
        ...

    def synchronise(self, stream: int) -> None:
        """Wait until everything queued on ``stream`` is done."""
        ...


def open_device(environment: Mapping[str, str] = os.environ) -> Device:
    """The first visible GPU, through cuda-python or else pycuda.

    Raises MissingPackageError if neither is installed, ModelFileError if no GPU can be used,
    ConfigError for an unknown package in ``REID_CUDA_PACKAGE``.
    """
    reasons: list[str] = []
    package = environment.get(PACKAGE_VARIABLE, "")
    for module, device in _modules(package):
        try:
            cuda = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError, RuntimeError) as error:
            reasons.append(f"{module}: {error}")
            continue
        opened: Device = device(cuda)
        return opened
    if reasons:
        raise _no_gpu("; ".join(reasons))
    if package:
        raise MissingPackageError(
            f"{PACKAGE_VARIABLE} names {package}, which is not installed; {_install_lines()}"
        )
    raise MissingPackageError(f"no package for GPU memory is installed; {_install_lines()}")


def _install_lines() -> str:
    wheels = this_driver().cuda_python
    return f"pip install {wheels} (wheels) or pip install pycuda (needs CUDA's headers)"


def _modules(package: str) -> list[tuple[str, Any]]:
    """The modules of ``package``, of every package if it is empty, in the order to try them."""
    known: dict[str, list[tuple[str, Any]]] = {
        "cuda-python": [
            ("cuda.bindings.runtime", CudaPythonDevice),
            ("cuda.cudart", CudaPythonDevice),
        ],
        "pycuda": [("pycuda.driver", PyCudaDevice)],
    }
    if package and package not in known:
        raise ConfigError(f"{PACKAGE_VARIABLE} must be {' or '.join(known)}, found {package!r}")
    return [module for name in known if package in ("", name) for module in known[name]]


def _no_gpu(reason: object) -> ModelFileError:
    return ModelFileError(f"no NVIDIA GPU can be used here ({reason}); {driver_words()}")


class PyCudaDevice:
    """Device 0 through pycuda, in its primary context, which TensorRT uses."""

    graphs: CudaGraphs | None = None
    """pycuda's releases cannot record a stream."""

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._memory: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        try:
            cuda.init()
            gpu = cuda.Device(0)
            self.name = str(gpu.name())
            major, minor = gpu.compute_capability()
            self.integrated = bool(gpu.get_attribute(cuda.device_attribute.INTEGRATED))
        except cuda.Error as error:
            raise _no_gpu(error) from error
        self.compute_capability = (int(major), int(minor))

    @contextmanager
    def active(self) -> Iterator[None]:
        try:
            context = _primary_context(self._cuda)
            context.push()
            try:
                yield
            finally:
                context.pop()
        except self._cuda.Error as error:
            raise ModelFileError(f"the GPU {self.name} failed: {error}") from error

    def allocate(self, num_bytes: int) -> int:
        memory = self._cuda.mem_alloc(num_bytes)
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        self._memory.pop(address).free()

    def pinned(self, shape: tuple[int, ...]) -> FloatArray:
        array: FloatArray = self._cuda.pagelocked_empty(shape, np.float32)
        return array

    def free_pinned(self, array: FloatArray) -> None:
        owner: Any = array.base
        owner.free()

    def mapped_address(self, array: FloatArray) -> int:
        owner: Any = array.base
        return int(owner.get_device_pointer())

    def open_stream(self) -> int:
        stream = self._cuda.Stream()
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def close_stream(self, stream: int) -> None:
        # pycuda destroys a stream when its last reference goes.
        del self._streams[stream]

    def copy_to_device(self, address: int, host: FloatArray, stream: int) -> None:
        self._cuda.memcpy_htod_async(address, host, self._streams[stream])

    def copy_to_host(self, host: FloatArray, address: int, stream: int) -> None:
        self._cuda.memcpy_dtoh_async(host, address, self._streams[stream])

    def synchronise(self, stream: int) -> None:
        self._streams[stream].synchronize()


@functools.cache
def _primary_context(cuda: Any) -> Any:
    """The primary context, retained once per process and never detached.

    pycuda's ``detach`` releases it while it is current and leaves it on the driver's stack; the
    last release resets the device for everything else in the process.
    """
    return cuda.Device(0).retain_primary_context()


class CudaPythonDevice:
    """Device 0 through cuda-python's runtime API."""

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self.graphs: CudaGraphs | None = CudaGraphs(cuda, self._checked)
        self.name = "GPU 0"
        try:
            attributes = cuda.cudaDeviceAttr
            major = self._call(
                "cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMajor, 0
            )
            minor = self._call(
                "cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMinor, 0
            )
            integrated = self._call("cudaDeviceGetAttribute", attributes.cudaDevAttrIntegrated, 0)
            properties = self._call("cudaGetDeviceProperties", 0)
        except (ModelFileError, RuntimeError) as error:
            # Before version 13 the package raises RuntimeError itself without a driver.
            raise _no_gpu(error) from error
        self.name = bytes(properties.name).rstrip(b"\0").decode(errors="replace")
        self.compute_capability = (int(major), int(minor))
        self.integrated = bool(integrated)

    def _call(self, function: str, *arguments: Any) -> Any:
        return self._checked(function, *getattr(self._cuda, function)(*arguments))

    def _checked(self, function: str, code: Any, *values: Any) -> Any:
        """The value that a call returned after its error code. Raises ModelFileError for a code."""
        if int(code) != 0:
            _, words = self._cuda.cudaGetErrorString(code)
            raise ModelFileError(
                f"the GPU failed in {function}: "
                f"{words.decode() if isinstance(words, bytes) else words} (CUDA error {int(code)})"
            )
        return values[0] if values else None

    @contextmanager
    def active(self) -> Iterator[None]:
        self._call("cudaSetDevice", 0)
        yield

    def allocate(self, num_bytes: int) -> int:
        return int(self._call("cudaMalloc", num_bytes))

    def free(self, address: int) -> None:
        self._call("cudaFree", address)

    def pinned(self, shape: tuple[int, ...]) -> FloatArray:
        count = prod(shape)
        address = int(self._call("cudaMallocHost", count * _FLOAT_BYTES))
        block = (ctypes.c_float * count).from_address(address)
        array: FloatArray = np.ctypeslib.as_array(block).reshape(shape)
        return array

    def free_pinned(self, array: FloatArray) -> None:
        self._call("cudaFreeHost", array.ctypes.data)

    def mapped_address(self, array: FloatArray) -> int:
        return int(self._call("cudaHostGetDevicePointer", array.ctypes.data, 0))

    def open_stream(self) -> int:
        return int(self._call("cudaStreamCreate"))

    def close_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", stream)

    def copy_to_device(self, address: int, host: FloatArray, stream: int) -> None:
        self._copy(address, host.ctypes.data, host.nbytes, "cudaMemcpyHostToDevice", stream)

    def copy_to_host(self, host: FloatArray, address: int, stream: int) -> None:
        self._copy(host.ctypes.data, address, host.nbytes, "cudaMemcpyDeviceToHost", stream)

    def _copy(self, to: int, source: int, num_bytes: int, kind: str, stream: int) -> None:
        direction = getattr(self._cuda.cudaMemcpyKind, kind)
        self._call("cudaMemcpyAsync", to, source, num_bytes, direction, stream)

    def synchronise(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)
