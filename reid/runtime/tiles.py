"""One query against many images on a CPU: tiles of images, each computed by one thread.

Threads that share every operation wait for each other at each, and move results between the cores
that the caches cannot hold.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from reid.model_file.half import widen
from reid.model_file.manifest import Manifest
from reid.runtime.inputs import batch_size
from reid.types import FloatArray

AT_ONCE, LEAST = 128, 16
"""Images of all threads' tiles together, which bounds the memory, and of a tile at least: each tile
prepares the query again (``tests/benchmarks/README.md``)."""

Compute = Callable[[Mapping[str, FloatArray]], list[FloatArray]]


def compares_one_with_many(manifest: Manifest) -> bool:
    """Whether a graph has an input for the whole batch, and takes any number of images."""
    return not manifest.static_batch and not all(spec.batched for spec in manifest.input_arrays)


class Tiles:
    """Runs ``compute``, which uses one thread and may be called by several, on tiles of a batch.

    ``threads`` 0 is the number of cores of this process.
    """

    def __init__(self, compute: Compute, manifest: Manifest, threads: int) -> None:
        self._compute, self._manifest = compute, manifest
        self._threads = threads or _num_cores()
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        self._widened = threading.local()

    def run(self, arrays: Mapping[str, FloatArray]) -> list[FloatArray]:
        """The outputs for checked inputs, float32 or float16."""
        count = batch_size(arrays, self._manifest)
        num = -(-count // max(LEAST, AT_ONCE // self._threads))
        num = min(count, -(-num // self._threads) * self._threads)  # as many for each thread
        ends = [count * (index + 1) // num for index in range(num)]
        tiles = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

        def compute(rows: slice) -> list[FloatArray]:
            return self._compute(
                {
                    spec.name: self._single(spec.name, arrays[spec.name], spec.batched, rows)
                    for spec in self._manifest.input_arrays
                }
            )

        found = map(compute, tiles) if self._pool is None else self._pool.map(compute, tiles)
        return [
            np.concatenate(parts) if spec.batched else parts[0]
            for spec, parts in zip(
                self._manifest.output_arrays, zip(*found, strict=True), strict=True
            )
        ]

    def close(self) -> None:
        """End the threads; may be called twice."""
        if self._pool is not None:
            self._pool.shutdown()

    def _single(self, name: str, array: FloatArray, batched: bool, rows: slice) -> FloatArray:
        """Some rows as float32; what is converted is valid until this thread's next tile."""
        part = array[rows] if batched else array
        if part.dtype == np.float32:
            return part
        kept: FloatArray | None = getattr(self._widened, name, None)
        if kept is None or len(kept) < len(part):
            kept = np.empty(part.shape, np.float32)
            setattr(self._widened, name, kept)
        out = kept[: len(part)]
        widen(part, out)
        return out


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
