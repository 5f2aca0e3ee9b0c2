"""The benchmark's arithmetic and report, on a runner that answers at once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper

from reid.cli import main
from reid.deploy.bench import latency as bench_module
from reid.deploy.bench.latency import Latency, bench, draw_crops
from reid.deploy.bench.setting import cpu_name, gpu_names
from reid.deploy.commands.bench import bench as command
from reid.errors import ConfigError
from reid.model_file.manifest import Manifest, write_manifest
from reid.model_file.preprocess import Preprocess
from reid.runtime import Runner
from reid.types import FloatArray
from tests.heard import Heard


class CountingRunner(Runner):
    """A runner that remembers the shapes it was given."""

    def __init__(self) -> None:
        self.manifest = Manifest("msp_cnn", "embed", Preprocess(), precision="fp16")
        self.backend = "counting 1.0 on cpu"
        self.shapes: list[tuple[int, ...]] = []
        self.closed = False

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        images = inputs[self.manifest.input_name]
        self.shapes.append(images.shape)
        return {self.manifest.output_name: np.ones((len(images), 256), np.float32)}

    def close(self) -> None:
        self.closed = True


def test_percentiles_and_rate_are_those_of_a_hand_counted_list() -> None:
    # 101 batches of 1..101 ms: the k-th percentile is 1 + k; 101 * 8 crops in 5.151 s.
    latency = Latency.from_batches([n * 1_000_000 for n in range(1, 102)], batch_size=8)
    assert (latency.p50_ms, latency.p90_ms, latency.p99_ms) == pytest.approx((51, 91, 100))
    assert latency.crops_per_s == pytest.approx(101 * 8 / 5.151)


def test_the_runner_is_fed_preprocessed_batches_of_each_size() -> None:
    runner = CountingRunner()
    report = bench(runner, batch_sizes=(1, 3), seconds=0.001, warmup_s=0.0)
    assert set(runner.shapes) == {(1, 3, 144, 56), (3, 3, 144, 56)}
    assert [timing.batch_size for timing in report.timings] == [1, 3]


def test_a_warm_up_runs_before_anything_is_timed() -> None:
    runner = CountingRunner()
    report = bench(runner, batch_sizes=(2,), seconds=1e-9, warmup_s=0.0)
    timed = report.timings[0].num_batches
    assert timed == bench_module.MIN_BATCHES
    assert len(runner.shapes) == timed + 1


@pytest.fixture
def millisecond_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is one millisecond later each time it is read."""
    ticks = itertools.count(0, 1_000_000)
    clock = SimpleNamespace(perf_counter_ns=lambda: next(ticks))
    monkeypatch.setattr(bench_module, "time", clock)


@pytest.mark.usefixtures("millisecond_clock")
def test_batches_are_timed_until_the_time_is_up() -> None:
    timing = bench(CountingRunner(), batch_sizes=(1,), seconds=0.05, warmup_s=0.0).timings[0]
    # The clock is read three times a batch: 16 batches end at 48 ms, the 17th at 51.
    assert timing.num_batches == 17


@pytest.mark.usefixtures("millisecond_clock")
def test_together_takes_the_sum_of_preprocessing_and_network() -> None:
    timing = bench(CountingRunner(), batch_sizes=(4,), seconds=0.01, warmup_s=0.0).timings[0]
    assert timing.preprocess == Latency(1.0, 1.0, 1.0, 4000.0)
    assert timing.network == Latency(1.0, 1.0, 1.0, 4000.0)
    assert timing.together == Latency(2.0, 2.0, 2.0, 2000.0)


def test_the_report_says_what_was_measured_on_what() -> None:
    report = bench(CountingRunner(), batch_sizes=(1,), seconds=0.001, warmup_s=0.0, threads=2)
    body = json.loads(json.dumps(report.to_json()))
    assert body["precision"] == "fp16"
    assert body["backend"] == "counting 1.0 on cpu"
    assert body["threads"] == 2
    assert body["includes_host_copies"] is True
    assert body["versions"]["numpy"] == np.__version__
    assert body["cpu"]
    assert body["num_cpus"] >= 1
    assert set(body["timings"][0]["network"]) == {"p50_ms", "p90_ms", "p99_ms", "crops_per_s"}


def test_the_table_has_a_row_for_each_part_of_each_batch_size() -> None:
    report = bench(CountingRunner(), batch_sizes=(1, 2), seconds=0.001, warmup_s=0.0)
    rows = report.to_text().splitlines()[-6:]
    assert [row.split()[0] for row in rows] == ["1", "1", "1", "2", "2", "2"]
    assert [row.split()[2] for row in rows] == ["preprocess", "network", "together"] * 2
    assert "host copies included" in report.to_text()


@pytest.mark.parametrize(
    ("batch_sizes", "seconds", "warmup_s"),
    [((), 1.0, 0.0), ((0,), 1.0, 0.0), ((1,), 0.0, 0.0), ((1,), 1.0, -1.0)],
)
def test_impossible_settings_are_refused(
    batch_sizes: tuple[int, ...], seconds: float, warmup_s: float
) -> None:
    with pytest.raises(ConfigError, match="found"):
        bench(CountingRunner(), batch_sizes=batch_sizes, seconds=seconds, warmup_s=warmup_s)


def test_drawn_crops_differ_in_size_and_come_back_by_seed() -> None:
    crops = draw_crops(16, seed=3)
    assert len({crop.shape for crop in crops}) > 8
    assert all(crop.dtype == np.uint8 and crop.shape[2] == 3 for crop in crops)
    assert all(np.array_equal(a, b) for a, b in zip(crops, draw_crops(16, seed=3), strict=True))


@pytest.mark.usefixtures("millisecond_clock")
def test_progress_rises_to_the_end_and_names_the_batch_size() -> None:
    heard = Heard()
    bench(
        CountingRunner(),
        batch_sizes=(1, 4),
        seconds=0.02,
        warmup_s=0.005,
        reporter=heard,
    )
    calls = heard.calls
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert done[-1] == 100
    assert {call[1] for call in calls} == {100}
    assert [call[2] for call in calls if call[0] == 50] == ["batch 1"]
    assert calls[-1][2] == "batch 4"


def test_processor_and_gpu_names_are_read_from_the_kernel(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\n", encoding="utf-8")
    assert cpu_name(cpuinfo) == "Some CPU @ 2.0GHz"
    gpu = tmp_path / "gpus" / "0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t\t NVIDIA H200\nIRQ: 5\n", encoding="utf-8")
    assert gpu_names(tmp_path / "gpus") == ("NVIDIA H200",)


def test_a_jetsons_gpu_is_named_by_its_board(tmp_path: Path) -> None:
    board = tmp_path / "model"
    board.write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    name = "NVIDIA Jetson AGX Orin Developer Kit"
    assert gpu_names(tmp_path / "absent", board) == (name,)
    board.write_bytes(b"Raspberry Pi 5 Model B\0")
    assert gpu_names(tmp_path / "absent", board) == ()


def test_a_machine_that_names_neither_still_has_an_architecture(tmp_path: Path) -> None:
    assert cpu_name(tmp_path / "absent")
    assert gpu_names(tmp_path / "absent", tmp_path / "absent") == ()


def test_the_command_opens_the_model_as_asked_and_prints_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[tuple[object, str, int]] = []
    runner = CountingRunner()

    def open_counting(path: Path, device: str, threads: int) -> CountingRunner:
        opened.append((path, device, threads))
        return runner

    monkeypatch.setattr("reid.deploy.api.timing.open_runner", open_counting)
    options = ["--batch", "2", "--seconds", "0.01", "--threads", "1", "--device", "cpu", "--json"]
    result = CliRunner().invoke(command, ["model.onnx", *options], catch_exceptions=False)
    assert result.exit_code == 0
    assert "timing" in result.stderr
    assert json.loads(result.stdout)["model"] == "model.onnx"
    assert opened == [(Path("model.onnx"), "cpu", 1)]
    assert [t["batch_size"] for t in json.loads(result.stdout)["timings"]] == [2]
    assert runner.closed


@pytest.fixture
def mean_colour_onnx(tmp_path: Path) -> Path:
    """An exported file of the smallest kind: each image's mean of each channel."""
    manifest = Manifest("msp_cnn", "embed", Preprocess(), output_dim=3, normalised=False)
    images = helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, ["N", 3, 144, 56])
    means = helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["N", 3])
    mean = helper.make_node("ReduceMean", ["data"], ["embedding"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph([mean], "mean_colour", [images], [means])
    opset = helper.make_opsetid("", 17)
    path = tmp_path / "mean.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    write_manifest(path, manifest)
    return path


def test_an_onnx_file_is_measured_through_the_door(
    mean_colour_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--batch", "1", "--batch", "3", "--seconds", "0.02", "--device", "cpu"]
    assert main(["bench", str(mean_colour_onnx), *options]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == str(mean_colour_onnx)
    assert shown[1].startswith("msp_cnn fp32 3x144x56, onnxruntime ")
    assert [row.split()[0] for row in shown[-6:]] == ["1", "1", "1", "3", "3", "3"]


def test_a_model_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(tmp_path / "absent.onnx"), "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("reid: error: ")
    assert shown.err.count("\n") == 1
