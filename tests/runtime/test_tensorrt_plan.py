"""Which optimisation profile a piece runs on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid.errors import ModelFileError
from reid.runtime import tensorrt_module
from reid.runtime.tensorrt_runner import TensorRtRunner
from tests.runtime.tensorrt_fakes import (
    FakeContext,
    FakeEngine,
    FakeTensorRt,
    described,
    engine_file,
    images,
)


@pytest.mark.parametrize(
    ("count", "profile", "batch"), [(1, 0, 1), (2, 1, 4), (4, 1, 4), (9, 1, 9), (13, 2, 13)]
)
def test_a_piece_runs_on_the_profile_that_fits_it_best(
    tmp_path: Path, trt: FakeTensorRt, count: int, profile: int, batch: int
) -> None:
    trt.profiles = [(1, 1, 1), (4, 8, 16), (4, 16, 32)]
    data = images(count)
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        for _ in range(2):
            answer = runner.run({"data": data})["embedding"]
            np.testing.assert_array_equal(answer, described(data))
    assert trt.used_profiles == [profile] * 2
    assert trt.batches == [batch] * 2
    # One for the largest profile, which sized the buffers, and one for another that was used.
    assert trt.num_contexts == (1 if profile == 2 else 2)


def test_a_request_above_the_largest_profile_ends_on_the_profile_of_the_rest(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    trt.profiles = [(2, 4, 8), (1, 1, 1)]
    data = images(17)
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        answer = runner.run({"data": data})["embedding"]
    np.testing.assert_array_equal(answer, described(data))
    assert sorted(zip(trt.batches, trt.used_profiles, strict=True)) == [(1, 1), (8, 0), (8, 0)]


def test_a_profile_that_tensorrt_refuses_is_an_error(
    tmp_path: Path, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bindings raise; they never return False."""
    trt.profiles = [(1, 1, 1), (2, 4, 8)]
    choose = FakeContext.set_optimization_profile_async
    monkeypatch.setattr(
        FakeContext,
        "set_optimization_profile_async",
        lambda self, _, stream: choose(self, 9, stream),
    )
    with pytest.raises(ModelFileError, match="no profile 1: Error in set optimization profile"):
        TensorRtRunner(engine_file(tmp_path))
    assert trt.device.leaks() == (0, 0, 0, 0)
    assert trt.device.events[0] == "del context"


def test_a_batch_that_tensorrt_refuses_never_runs_in_the_size_of_the_one_before(
    tmp_path: Path, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        runner.run({"data": images(2)})
        monkeypatch.setattr(FakeContext, "set_input_shape", lambda *_: False)
        for _ in range(2):
            with pytest.raises(ModelFileError, match="no batch of 3: TensorRT gave no reason"):
                runner.run({"data": images(3)})
    assert trt.batches == [2]


def test_an_address_that_tensorrt_refuses_is_an_error(
    tmp_path: Path, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeContext, "set_tensor_address", lambda *_: False)
    with pytest.raises(ModelFileError, match="no address for tensor 'data'"):
        TensorRtRunner(engine_file(tmp_path))
    assert trt.device.leaks() == (0, 0, 0, 0)


def test_no_memory_for_a_context_is_an_error(
    tmp_path: Path, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeEngine, "create_execution_context", lambda *_: None)
    with pytest.raises(ModelFileError, match="no execution context"):
        TensorRtRunner(engine_file(tmp_path))
    assert trt.device.leaks() == (0, 0, 0, 0)


def test_no_run_pays_for_the_details_that_prove_the_precision(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    trt.profiles = [(1, 1, 1), (2, 4, 8)]
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        for graphs in (False, True):
            runner.use_cuda_graphs(graphs)
            runner.run({"data": images(1)})
            runner.run({"data": images(4)})
    assert set(trt.verbosities) == {trt.ProfilingVerbosity.NONE}


def test_a_driver_too_old_for_tensorrt_is_one_line_that_names_it(
    tmp_path: Path, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt.starts = False
    monkeypatch.setattr(tensorrt_module, "driver_words", lambda: "the driver here is 550.54.14")
    with pytest.raises(ModelFileError) as refusal:
        TensorRtRunner(engine_file(tmp_path))
    words = str(refusal.value)
    assert "550.54.14" in words
    assert "error: 35" in words
    assert "\n" not in words
    assert trt.device.leaks() == (0, 0, 0, 0)
