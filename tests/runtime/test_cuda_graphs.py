"""Recording and launching, over a CUDA runtime that writes its calls down."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest

from reid.errors import ModelFileError
from reid.runtime.cuda_graphs import CudaGraphs

STREAM, GRAPH, EXECUTABLE = 5, 6, 7


class FakeRuntimeApi:
    """The functions of cuda-python's runtime that graphs need; ``fails`` names one that fails."""

    class cudaStreamCaptureMode(IntEnum):
        cudaStreamCaptureModeThreadLocal = 1

    def __init__(self, fails: str = "") -> None:
        self.calls: list[str] = []
        self.fails = fails

    def _called(self, name: str, *values: int) -> tuple[Any, ...]:
        self.calls.append(name)
        return (901, *(None for _ in values)) if name == self.fails else (0, *values)

    def cudaStreamBeginCapture(self, stream: int, mode: IntEnum) -> tuple[Any, ...]:
        assert (stream, int(mode)) == (STREAM, 1)
        return self._called("cudaStreamBeginCapture")

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        assert stream == STREAM
        return self._called("cudaStreamEndCapture", GRAPH)

    def cudaGraphInstantiateWithFlags(self, graph: int, flags: int) -> tuple[Any, ...]:
        assert (graph, flags) == (GRAPH, 0)
        return self._called("cudaGraphInstantiateWithFlags", EXECUTABLE)

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        assert graph == GRAPH
        return self._called("cudaGraphDestroy")

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Any, ...]:
        assert (graph, stream) == (EXECUTABLE, STREAM)
        return self._called("cudaGraphLaunch")

    def cudaGraphExecDestroy(self, graph: int) -> tuple[Any, ...]:
        assert graph == EXECUTABLE
        return self._called("cudaGraphExecDestroy")


def checked(function: str, code: int, *values: Any) -> Any:
    if code:
        raise ModelFileError(f"the GPU failed in {function}")
    return values[0] if values else None


def test_work_is_recorded_between_begin_and_end_and_then_launched() -> None:
    api = FakeRuntimeApi()
    graphs = CudaGraphs(api, checked)
    graph = graphs.record(STREAM, lambda: api.calls.append("work"))
    graphs.launch(graph, STREAM)
    graphs.free(graph)
    assert api.calls == [
        "cudaStreamBeginCapture",
        "work",
        "cudaStreamEndCapture",
        "cudaGraphInstantiateWithFlags",
        "cudaGraphDestroy",
        "cudaGraphLaunch",
        "cudaGraphExecDestroy",
    ]


def test_work_that_fails_ends_the_recording_and_tells_its_own_reason() -> None:
    # CUDA refuses to end such a recording well; that must not hide why it failed.
    api = FakeRuntimeApi(fails="cudaStreamEndCapture")

    def work() -> None:
        raise ModelFileError("the engine did not run")

    with pytest.raises(ModelFileError, match="did not run"):
        CudaGraphs(api, checked).record(STREAM, work)
    assert api.calls == ["cudaStreamBeginCapture", "cudaStreamEndCapture"]


def test_what_was_recorded_before_work_failed_is_freed() -> None:
    api = FakeRuntimeApi()

    def work() -> None:
        raise ModelFileError("the engine did not run")

    with pytest.raises(ModelFileError, match="did not run"):
        CudaGraphs(api, checked).record(STREAM, work)
    assert api.calls == ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphDestroy"]


@pytest.mark.parametrize(
    ("fails", "last"),
    [
        ("cudaStreamBeginCapture", "cudaStreamBeginCapture"),
        ("cudaStreamEndCapture", "cudaStreamEndCapture"),
        ("cudaGraphInstantiateWithFlags", "cudaGraphDestroy"),
    ],
)
def test_a_recording_that_cuda_refuses_is_an_error(fails: str, last: str) -> None:
    api = FakeRuntimeApi(fails)
    with pytest.raises(ModelFileError, match=fails):
        CudaGraphs(api, checked).record(STREAM, lambda: None)
    assert api.calls[-1] == last


def test_a_launch_or_end_that_cuda_refuses_is_an_error() -> None:
    with pytest.raises(ModelFileError, match="cudaGraphLaunch"):
        CudaGraphs(FakeRuntimeApi("cudaGraphLaunch"), checked).launch(EXECUTABLE, STREAM)
    with pytest.raises(ModelFileError, match="cudaGraphExecDestroy"):
        CudaGraphs(FakeRuntimeApi("cudaGraphExecDestroy"), checked).free(EXECUTABLE)
