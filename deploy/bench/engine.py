"""Additional timings of a TensorRT engine, and how they compare with trtexec's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from reid.runtime import Runner
from reid.runtime.tensorrt_runner import TensorRtRunner
from reid.types import Image

TRTEXEC = (
    "by default trtexec 10 has host copies on, CUDA graph off, spin wait off (see network) and "
    "trtexec 11 copies off, graph on, spin wait on (see execution graph); here the driver chooses "
    "how to wait"
)
"""How the rows compare with trtexec's, on one line."""

NO_GRAPHS = "no CUDA graphs: they need a TensorRT engine, and cuda-python instead of pycuda"


def notes_on(runner: Runner, *, no_graphs: bool) -> tuple[str, ...]:
    """Lines for the report; ``no_graphs``: they were requested and are not available."""
    notes = [TRTEXEC] if isinstance(runner, TensorRtRunner) else []
    return (*notes, NO_GRAPHS) if no_graphs else tuple(notes)


def engine_rows(runner: Runner, graphs: bool) -> tuple[str, ...]:
    """The additional fields of BatchTiming for this runner."""
    if not isinstance(runner, TensorRtRunner):
        return ()
    return ("execution", "network_graph", "execution_graph") if graphs else ("execution",)


def engine_durations(
    runner: Runner,
    crops: list[Image],
    num_batches: int,
    rows: Sequence[str],
    tick: Callable[[float], None],
) -> dict[str, list[int]]:
    """Nanoseconds of ``num_batches`` batches for each row; ``tick`` gets the number of rows done.

    ``execution`` is timed by the CPU's clock, from the launch until the work is done.
    """
    if not isinstance(runner, TensorRtRunner):
        return {}
    arrays = {runner.manifest.input_name: runner.manifest.preprocess.batch(crops)}
    found: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        runner.use_cuda_graphs(row.endswith("graph"))
        alone = row.startswith("execution")
        step = partial(runner.compute, len(crops)) if alone else partial(runner.run, arrays)
        step()  # one-time work, such as recording a CUDA graph
        found[row] = []
        for done in range(num_batches):
            began = time.perf_counter_ns()
            step()
            found[row].append(time.perf_counter_ns() - began)
            tick(index + (done + 1) / num_batches)
    runner.use_cuda_graphs(False)
    return found
