"""Two streams, CUDA graphs and the network alone: the same answers by every path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid.errors import ModelFileError
from reid.runtime import open_runner
from reid.runtime.tensorrt_lane import MAX_GRAPHS
from reid.runtime.tensorrt_runner import TensorRtRunner
from tests.runtime.tensorrt_fakes import (
    ACTIVATION_BYTES,
    FIRST_STREAM,
    FakeContext,
    FakeDevice,
    FakeTensorRt,
    described,
    engine_file,
    images,
)


def test_a_large_request_runs_on_two_streams_beside_each_other(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        runner.run({"data": images(8)})
        assert trt.device.order == ["run 7", "wait 7"]
        assert trt.device.num_allocations == 3  # two buffers, and a block for activations
        trt.device.order.clear()
        data = images(28)
        answer = runner.run({"data": data})["embedding"]
    np.testing.assert_array_equal(answer, described(data))
    assert trt.device.order == [
        *["run 7", "run 8", "wait 7", "run 7", "wait 8", "run 8", "wait 7", "wait 8"]
    ]
    assert trt.device.leaks() == (0, 0, 0, 0)


def test_a_piece_that_fails_leaves_nothing_running_and_the_next_request_is_right(
    tmp_path: Path, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        run = FakeContext.execute_async_v3
        monkeypatch.setattr(
            FakeContext,
            "execute_async_v3",
            lambda self, stream: stream == FIRST_STREAM and run(self, stream),
        )
        with pytest.raises(ModelFileError, match="did not run"):
            runner.run({"data": images(20)})
        assert not any(trt.device.queues.values())
        data = images(5)
        np.testing.assert_array_equal(runner.run({"data": data})["embedding"], described(data))
    assert trt.device.leaks() == (0, 0, 0, 0)


def test_a_second_stream_without_memory_leaves_the_first_usable(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        runner.run({"data": images(1)})
        trt.device.allocations_left = 1
        with pytest.raises(ModelFileError, match="out of memory"):
            runner.run({"data": images(9)})
        assert len(trt.device.queues) == 1
        data = images(8)
        np.testing.assert_array_equal(runner.run({"data": data})["embedding"], described(data))
    assert trt.device.leaks() == (0, 0, 0, 0)


def test_contexts_go_before_the_device_while_a_failure_is_on_its_way(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    def open_and_fail() -> None:
        with TensorRtRunner(engine_file(tmp_path)) as runner:
            trt.fails_to_run = True
            runner.use_cuda_graphs()
            runner.run({"data": images(2)})

    with pytest.raises(ModelFileError, match="did not run"):
        open_and_fail()
    assert trt.device.events.count("del context") == trt.num_contexts == 2
    assert trt.device.events[-1] == "del runtime"


def test_the_contexts_of_a_stream_share_one_block_of_memory_and_no_other_stream_has_it(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    trt.profiles = [(2, 8, 16), (1, 1, 1)]
    with open_runner(engine_file(tmp_path), cuda_graphs=True) as runner:
        for count in (30, 1, 2, 31):
            runner.run({"data": images(count)})
        blocks = set(trt.blocks)
    assert trt.num_contexts > 4
    assert {stream for stream, _ in blocks} == {FIRST_STREAM, FIRST_STREAM + 1}
    assert len(blocks) == len({address for _, address in blocks}) == 2
    assert trt.device.leaks() == (0, 0, 0, 0)


def test_a_profile_takes_memory_for_activations_when_it_first_runs(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    trt.profiles = [(1, 8, 32), (33, 128, 256)]
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        sizes = []
        for count in (1, 20, 40, 200, 3):
            runner.run({"data": images(count)})
            sizes.append(sum(4 * len(trt.device.memory[at]) for at in {b for _, b in trt.blocks}))
    small, large = (ACTIVATION_BYTES * batch for batch in (32, 256))
    assert sizes == [small, small, *[small + large] * 3]


@pytest.mark.parametrize("graphs", [False, True])
def test_a_gpu_that_uses_the_cpus_memory_reads_and_writes_it_without_a_copy(
    tmp_path: Path, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch, graphs: bool
) -> None:
    trt.device.integrated = True
    monkeypatch.setattr(FakeDevice, "copy_to_device", None)
    monkeypatch.setattr(FakeDevice, "copy_to_host", None)
    with open_runner(engine_file(tmp_path), cuda_graphs=graphs) as runner:
        for count in (3, 20, 3):
            data = images(count)
            np.testing.assert_array_equal(runner.run({"data": data})["embedding"], described(data))
        assert trt.device.num_allocations == 2  # the activations of two streams
    assert trt.device.leaks() == (0, 0, 0, 0)


@pytest.mark.parametrize("profiles", [[(1, 4, 8)], [(4, 4, 8)], [(1, 1, 1), (2, 8, 8)]])
def test_cuda_graphs_answer_as_the_plain_path_does(
    tmp_path: Path, trt: FakeTensorRt, profiles: list[tuple[int, int, int]]
) -> None:
    trt.profiles = profiles
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        for count in (1, 3, 8, 3, 9, 30, 1, 0):
            data = images(count)
            runner.use_cuda_graphs(False)
            plain = runner.run({"data": data})["embedding"]
            assert runner.use_cuda_graphs()
            recorded = runner.run({"data": data})["embedding"]
            np.testing.assert_array_equal(recorded, plain)
            assert not np.isnan(recorded).any()
    assert trt.device.graphs is not None
    assert len(trt.device.graphs.launches) > trt.device.graphs.num_recorded
    assert trt.device.leaks() == (0, 0, 0, 0)


def test_cuda_graphs_carry_several_inputs_of_which_one_is_unbatched(
    comparison: Any, comparison_engine: Path, trt: FakeTensorRt
) -> None:
    with open_runner(comparison_engine, cuda_graphs=True) as runner:
        for count in (5, 5, 20):
            inputs = comparison.inputs(count)
            answer = runner.run(inputs)
            for name, expected in comparison.expected(inputs).items():
                np.testing.assert_array_equal(answer[name], expected)
    assert trt.device.graphs is not None
    assert trt.device.graphs.num_recorded == 4  # 5 and 8 and 4 rows, and 8 on the other stream
    assert trt.device.leaks() == (0, 0, 0, 0)


def test_a_size_is_recorded_once_and_the_size_used_longest_ago_is_dropped(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    trt.profiles = [(1, 4, 32)]
    graphs = trt.device.graphs
    assert graphs is not None
    with open_runner(engine_file(tmp_path), cuda_graphs=True) as runner:
        for count in range(1, MAX_GRAPHS + 1):
            runner.run({"data": images(count)})
        runner.run({"data": images(1)})
        assert graphs.num_recorded == len(graphs.recorded) == MAX_GRAPHS
        runner.run({"data": images(MAX_GRAPHS + 1)})
        runner.run({"data": images(1)})
        assert graphs.num_recorded == MAX_GRAPHS + 1
        runner.run({"data": images(2)})
        assert graphs.num_recorded == MAX_GRAPHS + 2
        assert len(graphs.recorded) == MAX_GRAPHS
        # One more for the plain path.
        assert trt.num_contexts - trt.device.events.count("del context") == MAX_GRAPHS + 1
        trt.device.events.clear()
    freed = trt.device.events
    assert freed.index("free_graph") < freed.index("del context") < freed.index("close_stream")


def test_a_graph_is_not_dropped_while_another_piece_of_the_request_runs(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    with open_runner(engine_file(tmp_path), cuda_graphs=True) as runner:
        for count in range(MAX_GRAPHS, 0, -1):
            runner.run({"data": images(count)})
        assert isinstance(runner, TensorRtRunner)
        runner.compute(11)
    assert trt.batches[-3:] == [8, 3, 3]
    assert trt.device.leaks() == (0, 0, 0, 0)


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt_rtx"])
def test_without_cuda_graphs_the_plain_path_is_taken(
    tmp_path: Path, trt: FakeTensorRt, flavour: str
) -> None:
    architecture = "rtx" if flavour == "tensorrt_rtx" else "sm87"
    if flavour == "tensorrt":
        trt.device.graphs = None
    data = images(3)
    file = engine_file(tmp_path, flavour=flavour, gpu_architecture=architecture)
    with open_runner(file, cuda_graphs=True) as runner:
        assert not runner.use_cuda_graphs()
        np.testing.assert_array_equal(runner.run({"data": data})["embedding"], described(data))
    assert trt.batches == [3]


def test_cuda_graphs_are_off_unless_asked_for(tmp_path: Path, trt: FakeTensorRt) -> None:
    with open_runner(engine_file(tmp_path)) as runner:
        runner.run({"data": images(3)})
    assert trt.device.graphs is not None
    assert trt.device.graphs.launches == []


def test_an_engine_that_cannot_be_recorded_is_an_error_and_still_runs_plainly(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    trt.can_be_recorded = False
    data = images(3)
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        runner.use_cuda_graphs()
        with pytest.raises(ModelFileError, match="did not run"):
            runner.run({"data": data})
        assert trt.num_contexts - trt.device.events.count("del context") == 1
        runner.use_cuda_graphs(False)
        np.testing.assert_array_equal(runner.run({"data": data})["embedding"], described(data))
    assert trt.device.leaks() == (0, 0, 0, 0)


@pytest.mark.parametrize("graphs", [False, True])
def test_the_network_alone_runs_on_what_lies_on_the_gpu_and_copies_nothing(
    tmp_path: Path, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch, graphs: bool
) -> None:
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        runner.use_cuda_graphs(graphs)
        runner.run({"data": images(11)})
        trt.batches.clear()
        monkeypatch.setattr(FakeDevice, "copy_to_device", None)
        monkeypatch.setattr(FakeDevice, "copy_to_host", None)
        runner.compute(11)
        runner.compute(11)
        assert not any(trt.device.queues.values())
    # A graph is run once plainly before it is recorded.
    assert trt.batches == ([8, 8, 3, 3, 8, 3] if graphs else [8, 3, 8, 3])
    with pytest.raises(ModelFileError, match="closed"):
        runner.compute(1)
