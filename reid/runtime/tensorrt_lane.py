"""A lane: one CUDA stream with its own buffers, which runs a plan one piece at a time.

Two lanes work in parallel: one copies its piece while the other computes. A lane's contexts run one
after the other, so they share the memory of their activations. A GPU that uses the CPU's memory
reads and writes the pinned arrays in place, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod

from reid.runtime.cuda_graphs import CudaGraphs
from reid.runtime.device_memory import Device
from reid.runtime.tensorrt_plan import Execution, Plan
from reid.types import FloatArray

_FLOAT_BYTES = 4

MAX_GRAPHS = 8
"""Graphs kept by a lane, the most recently used. Each has an execution context with memory."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """One named tensor at its largest size: its address on the device and its pinned copy.

    On an integrated GPU both are the same memory.
    """

    is_input: bool
    shape: tuple[int, ...]
    address: int
    host: FloatArray


@dataclass(frozen=True, slots=True)
class _Graph:
    """A recorded piece with a context of its own, whose shapes never change."""

    execution: Execution
    handle: int


class Lane:
    """Every call needs the device to be current."""

    def __init__(self, device: Device, plan: Plan) -> None:
        self._device = device
        self._plan = plan
        self._opened = ExitStack()
        self._stream = 0
        self._blocks: list[tuple[int, int]] = []
        self._plain: dict[int, Execution] = {}
        self._graphs: dict[tuple[int, int, bool], _Graph] = {}
        self._piece: slice | None = None
        self.buffers: dict[str, Buffer] = {}

    def open(self) -> None:
        """The stream, and buffers for the largest batch. Raises ModelFileError."""
        self._stream = self._device.open_stream()
        self._opened.callback(self._device.close_stream, self._stream)
        self._opened.callback(self._close_executions)
        # Without buffers yet: it gives their sizes.
        execution = self._plain[self._plan.largest] = self._new_execution(self._plan.largest)
        execution.set_rows(self._plan.profiles[self._plan.largest].max_batch)
        for name in (*self._plan.inputs, *self._plan.outputs):
            self.buffers[name] = self._buffer(name, execution.shape(name))
            execution.bind(name, self.buffers[name].address)

    def _buffer(self, name: str, shape: tuple[int, ...]) -> Buffer:
        integrated = self._device.integrated
        address = 0 if integrated else self._allocated(prod(shape) * _FLOAT_BYTES)
        host = self._device.pinned(shape)
        self._opened.callback(self._device.free_pinned, host)
        if integrated:
            address = self._device.mapped_address(host)
        return Buffer(name in self._plan.inputs, shape, address, host)

    def _allocated(self, num_bytes: int) -> int:
        address = self._device.allocate(num_bytes)
        self._opened.callback(self._device.free, address)
        return address

    def start(self, arrays: Mapping[str, FloatArray], piece: slice, graphs: bool) -> None:
        """Queue the rows ``piece`` of the inputs, copies included; ``finish`` waits for them.

        Fewer rows than a profile's minimum are padded with copies of the last row.
        """
        count = piece.stop - piece.start
        profile = self._plan.best_profile(count)
        rows = max(count, self._plan.profiles[profile].min_batch)
        for name in self._plan.inputs:
            host, array = self.buffers[name].host, arrays[name]
            if name in self._plan.batched:
                host[:count] = array[piece]
                host[count:rows] = host[count - 1]
            else:
                host[:] = array
        self._piece = piece
        self._queue(profile, rows, True, graphs)

    def finish(self, outputs: Mapping[str, FloatArray]) -> None:
        """Wait for the started piece, if any, and copy its rows into ``outputs``."""
        piece = self._piece
        if piece is None:
            return
        self.wait()
        for name, output in outputs.items():
            output[piece] = self.buffers[name].host[: piece.stop - piece.start]

    def wait(self) -> None:
        """Wait for all that is queued."""
        self._piece = None
        self._device.synchronise(self._stream)

    def drain(self) -> None:
        """Wait for an abandoned piece, which still reads and writes our buffers."""
        if self._piece is not None:
            self.wait()

    def compute(self, count: int, graphs: bool) -> None:
        """Queue only the network, on the contents of the device's buffers."""
        profile = self._plan.best_profile(count)
        self._queue(profile, max(count, self._plan.profiles[profile].min_batch), False, graphs)

    def _queue(self, profile: int, rows: int, copies: bool, graphs: bool) -> None:
        recorder = self._device.graphs if graphs else None
        if recorder is not None:
            recorder.launch(self._graph(recorder, profile, rows, copies).handle, self._stream)
            return
        if profile not in self._plain:
            self._plain[profile] = self._new_execution(profile)
        self._queue_plainly(self._plain[profile], rows, copies)

    def _queue_plainly(self, execution: Execution, rows: int, copies: bool) -> None:
        """Copies in, execution, copies out."""
        if not execution.has_memory:
            execution.use_memory(*self._block(self._plan.activation_bytes(execution.profile)))
        execution.set_rows(rows)
        copies = copies and not self._device.integrated
        if copies:
            for name in self._plan.inputs:
                buffer = self.buffers[name]
                host = buffer.host[:rows]
                self._device.copy_to_device(buffer.address, host, self._stream)
        execution.queue()
        if copies:
            for name in self._plan.outputs:
                buffer = self.buffers[name]
                self._device.copy_to_host(buffer.host[:rows], buffer.address, self._stream)

    def _block(self, num_bytes: int) -> tuple[int, int]:
        """Address and size of memory for activations: a block that is there, or a new one.

        Only what is run takes memory, so the largest profile costs nothing until then. A block is
        never moved, because recorded graphs keep its address.
        """
        for block in self._blocks:
            if block[1] >= num_bytes:
                return block
        size = max(num_bytes, 1)  # a null address is no block
        self._blocks.append((self._allocated(size), size))
        return self._blocks[-1]

    def _new_execution(self, profile: int) -> Execution:
        execution = Execution(self._plan, profile, self._stream)
        for name, buffer in self.buffers.items():
            execution.bind(name, buffer.address)
        return execution

    def _graph(self, recorder: CudaGraphs, profile: int, rows: int, copies: bool) -> _Graph:
        """The graph for such a piece, recorded if it is not in the cache."""
        key = (profile, rows, copies)
        graph = self._graphs.pop(key, None)
        if graph is None:
            # A dropped graph must not be running, and nothing may run during a recording.
            self._device.synchronise(self._stream)
            if len(self._graphs) >= MAX_GRAPHS:
                self._drop_graph(next(iter(self._graphs)))
            graph = self._recorded(recorder, profile, rows, copies)
        self._graphs[key] = graph  # most recently used last
        return graph

    def _recorded(self, recorder: CudaGraphs, profile: int, rows: int, copies: bool) -> _Graph:
        with ExitStack() as failed:
            execution = self._new_execution(profile)
            failed.callback(execution.close)
            # TensorRT prepares a context for new shapes in the first run, which cannot be recorded.
            self._queue_plainly(execution, rows, copies)
            self._device.synchronise(self._stream)
            handle = recorder.record(
                self._stream, lambda: self._queue_plainly(execution, rows, copies)
            )
            failed.pop_all()
        return _Graph(execution, handle)

    def _drop_graph(self, key: tuple[int, int, bool]) -> None:
        graph = self._graphs.pop(key)
        if self._device.graphs is not None:
            self._device.graphs.free(graph.handle)
        graph.execution.close()

    def _close_executions(self) -> None:
        for key in list(self._graphs):
            self._drop_graph(key)
        for execution in self._plain.values():
            execution.close()

    def close(self) -> None:
        """Free buffers, graphs, contexts and stream."""
        self._opened.close()
        self.buffers.clear()
