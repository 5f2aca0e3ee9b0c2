"""Makes every call of ours to NVIDIA's bindings of CUDA, where no GPU can be used.

Its own process: the bindings are on its path only. Prints, for each function, the error code of
the real one, or the class and the message of what it raised. Our code goes on with results such as
a GPU gives, of the bindings' own classes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import cuda.bindings.runtime as real
import numpy as np

from reid.errors import ModelFileError
from reid.runtime import device_memory
from reid.runtime.device_memory import CudaPythonDevice

ADDRESS = 4096

RESULTS: dict[str, Callable[[], Any]] = {
    "cudaDeviceGetAttribute": lambda: 8,
    "cudaGetDeviceProperties": real.cudaDeviceProp,
    "cudaMalloc": lambda: ADDRESS,
    "cudaMallocHost": lambda: ADDRESS,
    "cudaHostGetDevicePointer": lambda: ADDRESS,
    "cudaStreamCreate": lambda: real.cudaStream_t(0),
    "cudaStreamEndCapture": lambda: real.cudaGraph_t(0),
    "cudaGraphInstantiateWithFlags": lambda: real.cudaGraphExec_t(0),
}
"""What a function returns after its error code, where it returns something."""


class Recorded:
    """The real module; its functions' codes are written down, and replaced by success."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        function = getattr(real, name)
        if isinstance(function, type) or name == "cudaGetErrorString":
            return function

        def call(*arguments: Any) -> tuple[Any, ...]:
            try:
                self.found[name] = int(function(*arguments)[0])
            except Exception as error:
                self.found[name] = f"{type(error).__name__}: {error}"
            result = RESULTS.get(name)
            return (0, result()) if result else (0,)

        return call


def calls() -> dict[str, Any]:
    cuda = Recorded()
    gpu = CudaPythonDevice(cuda)
    with gpu.active():
        stream = gpu.open_stream()
        address, host = gpu.allocate(16), gpu.pinned((4,))
        assert gpu.mapped_address(host) == ADDRESS
        rows = np.zeros((2, 2), np.float32)
        gpu.copy_to_device(address, rows, stream)
        gpu.copy_to_host(rows, address, stream)
        assert gpu.graphs is not None
        graph = gpu.graphs.record(stream, lambda: None)
        gpu.graphs.launch(graph, stream)
        gpu.graphs.free(graph)
        gpu.synchronise(stream)
        gpu.free_pinned(host)
        gpu.free(address)
        gpu.close_stream(stream)
    return cuda.found


def refusal() -> str:
    """What a user reads."""
    try:
        device_memory.open_device({})
    except ModelFileError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    json.dump({"codes": calls(), "refusal": refusal()}, sys.stdout)
