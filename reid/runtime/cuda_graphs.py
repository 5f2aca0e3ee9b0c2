"""CUDA graphs through cuda-python: work recorded once and launched as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class CudaGraphs:
    """``cuda`` is cuda-python's runtime module; ``checked`` raises for its error codes.

    A graph keeps the addresses, sizes and kernels from its recording, so buffers must not be
    moved or freed as long as it is launched.
    """

    def __init__(self, cuda: Any, checked: Callable[..., Any]) -> None:
        self._cuda = cuda
        self._checked = checked

    def record(self, stream: int, work: Callable[[], None]) -> int:
        """The graph of all that ``work`` queues on ``stream``; none of it runs yet.

        Raises what ``work`` raises, and ModelFileError for what cannot be recorded.
        """
        # This thread only: others may allocate memory meanwhile.
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        name = "cudaStreamBeginCapture"
        self._checked(name, *self._cuda.cudaStreamBeginCapture(stream, mode))
        whole = False
        try:
            work()
            whole = True
        finally:
            # Also after a failure: a stream that is still recording can do nothing else.
            ended = self._cuda.cudaStreamEndCapture(stream)
            if not whole and int(ended[0]) == 0:
                self._cuda.cudaGraphDestroy(ended[1])
        graph = self._checked("cudaStreamEndCapture", *ended)
        try:
            made = self._cuda.cudaGraphInstantiateWithFlags(graph, 0)
            return int(self._checked("cudaGraphInstantiateWithFlags", *made))
        finally:
            self._cuda.cudaGraphDestroy(graph)

    def launch(self, graph: int, stream: int) -> None:
        """Queue everything in the graph."""
        self._checked("cudaGraphLaunch", *self._cuda.cudaGraphLaunch(graph, stream))

    def free(self, graph: int) -> None:
        """Release a graph that is not running."""
        self._checked("cudaGraphExecDestroy", *self._cuda.cudaGraphExecDestroy(graph))
