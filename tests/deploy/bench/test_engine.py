"""The rows that an engine has beyond any other file, on an engine whose times are known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from reid.deploy.bench import engine as bench_engine
from reid.deploy.bench import latency as bench_module
from reid.deploy.bench.latency import bench
from reid.deploy.commands.bench import bench as command
from reid.runtime.tensorrt_runner import TensorRtRunner
from reid.types import FloatArray
from tests.deploy.bench.test_latency import CountingRunner
from tests.heard import Heard


class CountingEngine(CountingRunner, TensorRtRunner):
    """An engine of which a batch takes 1 ms, half of that without copies, a fifth as a graph."""

    def __init__(self, clock: list[int], has_graphs: bool = True) -> None:
        CountingRunner.__init__(self)
        self.clock = clock
        self.has_graphs = has_graphs
        self.graphs = False
        self.calls: list[str] = []

    def use_cuda_graphs(self, wanted: bool = True) -> bool:
        self.graphs = wanted and self.has_graphs
        return self.graphs

    def _took(self, what: str, microseconds: int) -> None:
        self.calls.append(what + " graph" * self.graphs)
        self.clock[0] += 1000 * (microseconds // 5 if self.graphs else microseconds)

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        self._took("network", 1000)
        return CountingRunner.run(self, inputs)

    def compute(self, count: int) -> None:
        self._took("execution", 500)

    def close(self) -> None: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Nanoseconds, which pass where a runner says so, and one at each look."""
    now = [0]

    def look() -> int:
        now[0] += 1
        return now[0]

    for module in (bench_module, bench_engine):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter_ns=look))
    return now


def test_an_engine_has_rows_without_copies_and_with_graphs(clock: list[int]) -> None:
    engine = CountingEngine(clock)
    report = bench(engine, batch_sizes=(4,), seconds=0.02, warmup_s=0.0, cuda_graphs=True)
    timing = report.timings[0]
    assert timing.num_batches == 20
    for row, milliseconds in (
        (timing.network, 1.0),
        (timing.execution, 0.5),
        (timing.network_graph, 0.2),
        (timing.execution_graph, 0.1),
    ):
        assert row is not None
        assert row.p50_ms == pytest.approx(milliseconds, abs=1e-5)
        assert row.crops_per_s == pytest.approx(4000 / milliseconds, rel=1e-3)
    assert engine.calls == [
        *["network"] * 21,
        *["execution"] * 21,
        *["network graph"] * 21,
        *["execution graph"] * 21,
    ]
    assert not engine.graphs
    rows = [row[14:29].strip() for row in report.to_text().splitlines()[-6:]]
    assert rows == list(bench_module.ROWS)


def test_an_engines_report_says_what_trtexec_does_by_default(clock: list[int]) -> None:
    report = bench(CountingEngine(clock), batch_sizes=(1,), seconds=0.001, warmup_s=0.0)
    timing = report.timings[0]
    assert timing.execution is not None
    assert (timing.network_graph, timing.execution_graph) == (None, None)
    assert report.notes == (bench_engine.TRTEXEC,)
    text = report.to_text()
    for words in ("trtexec 10", "trtexec 11", "included except in execution"):
        assert words in text
    assert len(text.splitlines()[-1].split()) == 7
    assert json.loads(json.dumps(report.to_json()))["timings"][0]["network_graph"] is None


def test_where_an_engine_has_no_cuda_graphs_the_report_says_so(clock: list[int]) -> None:
    engine = CountingEngine(clock, has_graphs=False)
    report = bench(engine, batch_sizes=(1,), seconds=0.001, warmup_s=0.0, cuda_graphs=True)
    assert report.notes == (bench_engine.TRTEXEC, bench_engine.NO_GRAPHS)
    assert report.timings[0].execution is not None
    assert report.timings[0].execution_graph is None


def test_another_file_has_no_rows_of_an_engine() -> None:
    report = bench(
        CountingRunner(), batch_sizes=(1,), seconds=0.001, warmup_s=0.0, cuda_graphs=True
    )
    assert report.notes == (bench_engine.NO_GRAPHS,)
    assert report.timings[0].execution is None
    assert len([row for row in report.to_text().splitlines() if row.startswith("    1 ")]) == 3


def test_progress_of_an_engine_rises_to_the_end(clock: list[int]) -> None:
    heard = Heard()
    bench(
        CountingEngine(clock),
        batch_sizes=(1, 2),
        seconds=0.01,
        warmup_s=0.002,
        cuda_graphs=True,
        reporter=heard,
    )
    done = [call[0] for call in heard.calls]
    assert done == sorted(done)
    assert done[-1] == 100
    # The first of two sizes: its last row of four is a quarter of a half.
    assert 45 in done


def test_cuda_graphs_of_pairs_are_a_usage_error() -> None:
    result = CliRunner().invoke(command, ["csn.engine", "--pairs", "10", "--cuda-graph"])
    assert result.exit_code == 2
    assert "leave out --pairs" in result.stderr
