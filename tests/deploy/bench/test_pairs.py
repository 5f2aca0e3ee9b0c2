"""1250 pairs, timed each way: on runners that answer at once, and on CSN itself."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from reid.deploy.bench import pairs as module
from reid.deploy.bench.pairs import PAIR_BATCH, QUERIES, bench_pairs
from reid.deploy.commands.bench import bench as command
from reid.errors import ConfigError, ModelFileError
from reid.matching.pairs import DESCRIBE_BATCH
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.models.csn.graphs import pair_graphs
from reid.models.csn.network import Csn
from reid.runtime import Runner
from reid.runtime.torch_runner import TorchRunner
from reid.types import ArraySpec, FloatArray
from tests.heard import Heard

PREPROCESS = Preprocess(16, 8, 16, 8)
IMAGE = ArraySpec("data", PREPROCESS.input_shape)
DESCRIBED = (ArraySpec("maps2", (4, 3)), ArraySpec("vector", (2,)))
SCORE = (ArraySpec("score", ()),)
VALUES = 14
"""Of a description."""


class FakeRunner(Runner):
    """Zeros of the shapes of its manifest; ``calls`` are the batches it was given."""

    backend = "fake 1.0 on cpu"

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.calls: list[int] = []
        self.closed = False

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        assert set(inputs) == {spec.name for spec in self.manifest.input_arrays}
        self.calls.append(max(len(array) for array in inputs.values()))
        return {
            spec.name: np.zeros((self.calls[-1], *spec.shape), np.float32)
            for spec in self.manifest.output_arrays
        }

    def close(self) -> None:
        self.closed = True


def fake_runners(*graphs: str) -> dict[str, FakeRunner]:
    sides = [ArraySpec(f"query_{s.name}", s.shape, batched=False) for s in DESCRIBED]
    sides += [ArraySpec(f"gallery_{s.name}", s.shape) for s in DESCRIBED]
    images = (ArraySpec("first", IMAGE.shape), ArraySpec("second", IMAGE.shape))
    arrays = {
        "describe": ((IMAGE,), DESCRIBED),
        "compare": (tuple(sides), SCORE),
        "pair": (images, SCORE),
        "embed": ((IMAGE,), (ArraySpec("embedding", (8,)),)),
    }
    manifest = Manifest("csn", "train", PREPROCESS, checkpoint_sha256="c0ffee")
    return {graph: FakeRunner(manifest.of_graph(graph, *arrays[graph])) for graph in graphs}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "csn.describe.fp32.onnx"
    path.touch()
    return path


@pytest.fixture
def runners(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeRunner]:
    """What a checkpoint opens."""
    found = fake_runners("describe", "compare", "pair")
    monkeypatch.setattr(module, "open_runners", lambda path, device, threads: found)
    return found


def one_second_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is a second later each time it is read."""
    ticks = itertools.count(0, 1_000_000_000)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter_ns=lambda: next(ticks)))


def test_each_way_takes_all_pairs_in_its_own_batches(
    model: Path, runners: dict[str, FakeRunner]
) -> None:
    report = bench_pairs(model, DESCRIBE_BATCH + 36, seconds=1e-9)
    # One crop to warm up, the pieces, the query's own description.
    assert runners["describe"].calls == [1, DESCRIBE_BATCH, 36, QUERIES]
    # A piece to warm up, then five whole queries.
    assert runners["compare"].calls == [DESCRIBE_BATCH, *[DESCRIBE_BATCH, 36] * 5]
    assert report.compare.num_runs == 5
    assert report.compare.timed == DESCRIBE_BATCH + 36
    assert report.compare.batch_size == DESCRIBE_BATCH
    assert all(runner.closed for runner in runners.values())


def test_the_two_image_graph_is_extrapolated_and_says_so(
    model: Path, runners: dict[str, FakeRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_second_clock(monkeypatch)
    report = bench_pairs(model, 100, seconds=0.25)
    assert report.naive is not None
    # A second a batch of 16, 2.5 s in all: three batches, after one to warm up.
    assert runners["pair"].calls == [PAIR_BATCH] * 4
    assert report.naive.timed == 48
    assert report.naive.seconds == pytest.approx(3 * 100 / 48)
    assert report.naive.per_s == pytest.approx(48 / 3)
    words = "100 pairs in 6.25 s (extrapolated from 48), 16.0 per second; 3 batches of 16:"
    assert words in report.to_text()


def test_the_last_batch_of_the_two_image_graph_is_what_is_left(
    model: Path, runners: dict[str, FakeRunner]
) -> None:
    report = bench_pairs(model, 20, seconds=0.1)
    assert report.naive is not None
    assert runners["pair"].calls == [16, 16, 4]
    assert report.naive.timed == 20
    assert "extrapolated" not in report.to_text()


def test_a_query_is_the_median_and_its_widening_is_known(
    model: Path, runners: dict[str, FakeRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_second_clock(monkeypatch)
    report = bench_pairs(model, DESCRIBE_BATCH + 36, seconds=0.25)
    # The clock is read twice a piece: 4 s, 1 s a piece of it widening.
    assert report.compare.seconds == 4.0
    assert report.widening_s == 2.0
    assert report.naive is not None
    assert report.naive_over_compare == report.naive.seconds / 4
    assert "2.00 s convert stored float16 to float32" in report.to_text()
    assert f"{DESCRIBE_BATCH + 36} pairs in 2.00 s" in report.to_text()


def test_of_a_network_that_reads_float16_itself_no_widening_is_reported(
    model: Path, runners: dict[str, FakeRunner]
) -> None:
    runners["compare"].takes_half = True
    report = bench_pairs(model, 5, seconds=1e-9)
    assert report.widening_s is None
    assert "stored float16 to float32" not in report.to_text()


@pytest.mark.usefixtures("runners")
def test_sizes_memory_and_surroundings_are_reported(model: Path) -> None:
    report = bench_pairs(model, 5, seconds=1e-9, threads=2)
    body = json.loads(json.dumps(report.to_json()))
    assert body["float16_kb_per_image"] == VALUES * 2 / 1000
    assert body["float32_kb_per_image"] == VALUES * 4 / 1000
    assert body["threads"] == 2
    assert body["backend"] == "fake 1.0 on cpu"
    assert body["compare"]["peak_mb"] > 20  # Python and NumPy alone are more
    text = report.to_text()
    assert "stored as float16: 0.0 kB per image, gallery 0.0 MB" in text
    assert f"numpy {np.__version__}" in text


def test_without_the_two_image_graph_the_rest_is_timed(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = fake_runners("describe", "compare")
    monkeypatch.setattr(module, "open_runners", lambda path, device, threads: found)
    report = bench_pairs(model, 5, seconds=1e-9)
    assert report.naive is None
    assert report.naive_over_compare is None
    assert "    not exported\n" in report.to_text()
    assert json.loads(json.dumps(report.to_json()))["naive"] is None


@pytest.fixture
def exported(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, FakeRunner], FakeRunner]:
    """Two halves, and the two-image graph in a file beside them."""
    found, pair = fake_runners("describe", "compare"), fake_runners("pair")["pair"]
    model.with_name("csn.pair.fp32.onnx").touch()
    monkeypatch.setattr(module, "open_runners", lambda path, device, threads: dict(found))
    monkeypatch.setattr(module, "open_runner", lambda path, device, threads: pair)
    return found, pair


def test_an_exported_two_image_graph_is_found_by_its_name(
    model: Path, exported: tuple[dict[str, FakeRunner], FakeRunner]
) -> None:
    report = bench_pairs(model, 5, seconds=1e-9)
    assert report.naive is not None
    assert exported[1].closed


def test_a_two_image_graph_of_another_checkpoint_is_refused(
    model: Path, exported: tuple[dict[str, FakeRunner], FakeRunner]
) -> None:
    found, pair = exported
    other = Manifest("csn", "train", PREPROCESS, checkpoint_sha256="decaf")
    pair.manifest = other.of_graph("pair", pair.manifest.inputs, SCORE)
    with pytest.raises(ModelFileError, match=r"csn\.pair\.fp32\.onnx is not the two-image graph"):
        bench_pairs(model, 5, seconds=1e-9)
    assert all(runner.closed for runner in (*found.values(), pair))


@pytest.mark.parametrize("graph", ["embed", "pair"])
def test_a_model_that_stores_nothing_to_compare_is_refused(
    graph: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = fake_runners(graph)
    monkeypatch.setattr(module, "open_runners", lambda path, device, threads: found)
    with pytest.raises(ModelFileError, match=f"the '{graph}' graph of csn; --pairs is for"):
        bench_pairs(model, 5)
    assert found[graph].closed


@pytest.mark.parametrize(("pairs", "seconds"), [(0, 1.0), (1, 0.0)])
def test_numbers_that_are_not_positive_are_refused(pairs: int, seconds: float, model: Path) -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        bench_pairs(model, pairs, seconds=seconds)


def test_progress_names_what_is_being_timed(model: Path, runners: dict[str, FakeRunner]) -> None:
    num = DESCRIBE_BATCH + 6
    heard = Heard()
    bench_pairs(model, num, seconds=1e-9, reporter=heard)
    assert heard.calls[:4] == [
        (DESCRIBE_BATCH, num, "describing"),
        (num, num, "describing"),
        (DESCRIBE_BATCH, 0, "query 1"),
        (num, 0, "query 1"),
    ]
    assert heard.calls[-1] == (PAIR_BATCH, num, "two-image graph")


@pytest.mark.usefixtures("runners")
def test_the_command_prints_the_papers_line(model: Path) -> None:
    options = ["--pairs", "3", "--seconds", "0.001"]
    shown = CliRunner().invoke(command, [str(model), *options], catch_exceptions=False)
    assert shown.exit_code == 0
    assert shown.stdout.startswith(str(model))
    assert shown.stdout.count("3 pairs in ") == 3
    assert "describing" in shown.stderr
    as_json = CliRunner().invoke(command, [str(model), *options, "--json"], catch_exceptions=False)
    assert json.loads(as_json.stdout)["pairs"] == 3
    wrong = CliRunner().invoke(command, [str(model), *options, "--batch", "8"])
    assert wrong.exit_code == 2
    assert "leave --batch out" in wrong.stderr


def test_csn_itself_is_timed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    preprocess = Preprocess(160, 60, 160, 60)
    manifest = Manifest("csn", "train", preprocess)
    graphs = pair_graphs(Csn().eval(), preprocess.input_shape, True)
    found = {
        graph.name: TorchRunner(
            graph.module, manifest.of_graph(graph.name, graph.inputs, graph.outputs), "cpu", 1
        )
        for graph in graphs
    }
    monkeypatch.setattr(module, "open_runners", lambda path, device, threads: found)
    report = bench_pairs(model, 4, seconds=1e-9, threads=1, device="cpu")
    # Maps and parts of both levels and the vector, as the paper's sizes make them.
    values = 96 * (40 * 15 + 20 * 8) + 3 * 96 * (10 * 10 + 5 * 5) + 256
    assert report.float16_kb_per_image == values * 2 / 1000
    assert report.naive is not None
    assert report.naive.seconds > report.compare.seconds


def test_gpu_memory_that_was_not_measured_each_time_is_left_out(
    model: Path, runners: dict[str, FakeRunner]
) -> None:
    report = bench_pairs(model, 20, seconds=1e-9)
    measured = dataclasses.replace(report.compare, gpu_mb=512.0)
    silent = dataclasses.replace(report.describe, gpu_mb=None)
    lines = dataclasses.replace(report, compare=measured, describe=silent, naive=None).to_text()
    assert lines.endswith("GPU memory in use, by all processes: comparing 512 MB")
    assert runners["compare"].closed
