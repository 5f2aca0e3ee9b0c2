"""Device auto on a CPU: OpenVINO once it is measured to be faster, with the same answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from reid.errors import ModelFileError
from reid.export.parity.tolerances import TOLERANCES
from reid.model_file.manifest import Manifest
from reid.model_file.opening import ModelFile
from reid.runtime import Runner, fastest_runner, open_runner, openvino_runner
from reid.runtime.fastest_runner import SAME, WORTH_S, FastestRunner
from reid.runtime.onnx_runner import OnnxRunner
from reid.types import FloatArray
from tests.runtime.test_onnx_runner import DATA, MANIFEST, write_model

INPUTS = {"data": DATA}


class Clock:
    """Seconds that only runners let pass."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s


class Timed(Runner):
    """Gives each image's mean colour, times ``factor``, and takes ``image_s`` for each image."""

    def __init__(
        self, name: str, clock: Clock, image_s: float, factor: float = 1.0, precision: str = "fp32"
    ) -> None:
        self.manifest: Manifest = dataclasses.replace(MANIFEST, precision=precision)
        self.backend = name
        self._clock, self._image_s, self._factor = clock, image_s, factor
        self.calls = 0

    def run(self, inputs: dict[str, FloatArray]) -> dict[str, FloatArray]:
        self.calls += 1
        self._clock.now_s += self._image_s * len(inputs["data"])
        rows = inputs["data"].mean(axis=(2, 3)) * np.float32(self._factor)
        return {"embedding": rows}

    def close(self) -> None:
        self.backend = "closed"


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(fastest_runner, "time", clock)
    monkeypatch.setattr(fastest_runner, "_decisions", {})
    return clock


@pytest.fixture
def file(tmp_path) -> ModelFile:
    return ModelFile.at(write_model(tmp_path / "model.onnx"))


def with_openvino(monkeypatch: pytest.MonkeyPatch, runner: Timed | None) -> list[str]:
    """OpenVINO opens as this runner, or not at all; returns the devices that were asked for."""
    asked: list[str] = []

    def opened(file: ModelFile, device: str, threads: int) -> Timed:
        asked.append(device)
        if runner is None:
            raise ModelFileError("cannot open")
        return runner

    monkeypatch.setattr(openvino_runner, "OpenVinoRunner", opened)
    return asked


def test_a_few_images_never_open_openvino(clock, file, monkeypatch):
    asked = with_openvino(monkeypatch, Timed("openvino", clock, 0.01))
    runner = FastestRunner(Timed("onnxruntime", clock, WORTH_S / 10), file)
    for _ in range(9):
        runner.run({"data": DATA[:1]})
    assert not asked
    assert runner.backend == "onnxruntime"


def test_many_images_go_over_to_openvino_where_it_is_faster(clock, file, monkeypatch):
    faster, slower = Timed("openvino", clock, 0.1), Timed("onnxruntime", clock, 0.2)
    asked = with_openvino(monkeypatch, faster)
    runner = FastestRunner(slower, file)
    for _ in range(3):
        found = runner.run(INPUTS)
        assert np.allclose(found["embedding"], DATA.mean(axis=(2, 3)), atol=1e-6)
    calls = slower.calls
    runner.run(INPUTS)
    assert asked == ["openvino"]
    assert slower.calls == calls
    assert runner.backend.startswith("openvino, 2.0 times as fast as ONNX Runtime")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"image_s": 0.4}, "0.50 times"),
        ({"image_s": 0.195}, "1.03 times"),
        ({"image_s": 0.01, "factor": 1.001}, "outputs differ"),
        ({"image_s": 0.01, "factor": float("nan")}, "outputs differ"),
        (None, "cannot open"),
    ],
)
def test_onnx_runtime_stays_where_openvino_is_slower_or_answers_otherwise(
    clock, file, monkeypatch, other, why
):
    with_openvino(monkeypatch, None if other is None else Timed("openvino", clock, **other))
    runner = FastestRunner(Timed("onnxruntime", clock, 0.2), file)
    runner.decide(INPUTS)
    assert runner.backend.startswith("onnxruntime, chosen")
    assert why in runner.backend
    assert np.allclose(runner.run(INPUTS)["embedding"], DATA.mean(axis=(2, 3)), atol=1e-6)


@pytest.mark.parametrize("gain", [2.0, 0.5])
def test_a_decision_holds_for_the_file_in_this_process(clock, file, monkeypatch, gain):
    other = Timed("openvino", clock, 0.2 / gain)
    asked = with_openvino(monkeypatch, other)
    FastestRunner(Timed("onnxruntime", clock, 0.2), file).decide(INPUTS)
    calls = other.calls
    again = FastestRunner(Timed("onnxruntime", clock, 0.2), file)
    assert again.backend.startswith("openvino" if gain > 1 else "onnxruntime")
    assert other.calls == calls  # nothing is timed again
    assert len(asked) == (2 if gain > 1 else 1)
    another = FastestRunner(Timed("onnxruntime", clock, 0.2), file, threads=1)
    assert another.backend == "onnxruntime"


def test_a_precision_without_a_limit_stays_with_onnx_runtime(clock, file, monkeypatch):
    asked = with_openvino(monkeypatch, Timed("openvino", clock, 0.01, precision="fp8"))
    runner = FastestRunner(Timed("onnxruntime", clock, 1.0, precision="fp8"), file)
    runner.run(INPUTS)
    runner.decide(INPUTS)
    assert not asked


def test_the_limits_are_those_of_parity():
    assert all(SAME[name] == TOLERANCES[name].max_error for name in ("fp32", "fp16"))


def test_closing_closes_the_one_that_computes(clock, file, monkeypatch):
    faster = Timed("openvino", clock, 0.1)
    with_openvino(monkeypatch, faster)
    with FastestRunner(Timed("onnxruntime", clock, 0.2), file) as runner:
        runner.decide(INPUTS)
    assert faster.backend == "closed"


def test_auto_wraps_onnx_runtime_only_where_openvino_is_installed(file, monkeypatch):
    with open_runner(file) as runner:
        assert isinstance(runner, FastestRunner)
    with open_runner(file, "cpu") as runner:
        assert isinstance(runner, OnnxRunner)
    monkeypatch.setattr("reid.runtime._has_openvino", lambda: False)
    with open_runner(file) as runner:
        assert isinstance(runner, OnnxRunner)


def test_the_real_openvino_agrees_and_is_timed(clock, tmp_path: Path, monkeypatch):
    monkeypatch.undo()  # the real clock
    monkeypatch.setattr(fastest_runner, "_decisions", {})
    with open_runner(write_model(tmp_path / "model.onnx")) as runner:
        runner.decide(INPUTS)
        assert "fast" in runner.backend
        assert np.allclose(runner.run(INPUTS)["embedding"], DATA.mean(axis=(2, 3)), atol=1e-6)
