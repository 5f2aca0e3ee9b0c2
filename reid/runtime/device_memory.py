"""Device memory, pinned memory and streams: the few CUDA calls that a runner needs.

One interface to two packages, whichever is installed: pycuda (built from source, needs CUDA's
headers) or NVIDIA's cuda-python (wheels, ``cuda.bindings``; ``cuda.cudart`` before 12.8).
Addresses and streams are plain integers, as TensorRT takes them.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from math import prod
from typing import Any, Protocol

import numpy as np

from reid.errors import MissingPackageError, ModelFileError
from reid.runtime.cuda_graphs import CudaGraphs
from reid.runtime.driver import this_driver
from reid.types import FloatArray

_FLOAT_BYTES = 4


class Device(Protocol):
    """The first visible GPU. Every call must happen inside ``with device.active():``."""

    name: str
    compute_capability: tuple[int, int]
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

    def close(self) -> None: ...


def open_device() -> Device:
    """The first visible GPU, through pycuda or else cuda-python.

    Raises MissingPackageError if neither is installed, ModelFileError if no GPU can be used.
    """
    reasons: list[str] = []
    for module, device in (
        ("pycuda.driver", PyCudaDevice),
        ("cuda.bindings.runtime", CudaPythonDevice),
        ("cuda.cudart", CudaPythonDevice),
    ):
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
        raise ModelFileError(
            f"no NVIDIA GPU can be used here ({'; '.join(reasons)}); "
            "install the driver, or run on a machine that has one"
        )
    raise MissingPackageError(
        "no package for GPU memory is installed; pip install pycuda (needs CUDA's headers) or "
        f"pip install {this_driver().cuda_python} (wheels)"
    )


def _no_gpu(reason: object) -> ModelFileError:
    return ModelFileError(
        f"no NVIDIA GPU can be used here ({reason}); run on a machine that has one"
    )


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
            self._context = gpu.retain_primary_context()
        except cuda.Error as error:
            raise _no_gpu(error) from error
        self.name = str(gpu.name())
        major, minor = gpu.compute_capability()
        self.compute_capability = (int(major), int(minor))

    @contextmanager
    def active(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        except self._cuda.Error as error:
            raise ModelFileError(f"the GPU {self.name} failed: {error}") from error
        finally:
            self._context.pop()

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

    def close(self) -> None:
        self._context.detach()


class CudaPythonDevice:
    """Device 0 through cuda-python's runtime API."""

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self.graphs: CudaGraphs | None = CudaGraphs(cuda, self._checked)
        self.name = "GPU 0"
        try:
            self._call("cudaSetDevice", 0)
            attributes = cuda.cudaDeviceAttr
            major = self._call(
                "cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMajor, 0
            )
            minor = self._call(
                "cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMinor, 0
            )
            properties = self._call("cudaGetDeviceProperties", 0)
        except (ModelFileError, RuntimeError) as error:
            # Before version 13 the package raises RuntimeError itself without a driver.
            raise _no_gpu(error) from error
        self.name = bytes(properties.name).rstrip(b"\0").decode(errors="replace")
        self.compute_capability = (int(major), int(minor))

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

    def close(self) -> None:
        """Nothing to release: the primary context lives as long as the process."""
