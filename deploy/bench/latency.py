"""Latency percentiles and crops per second of a model file on this machine.

Each batch size has three timings, from one loop: crops to input array (``preprocess``), the
runner from host array to host array (``network``), and their sum (``together``). Copies to and
from the device are included.

A TensorRT engine has more rows: ``execution`` is the network alone, on data that is on the GPU
already, from its launch until the CPU sees it finish. If CUDA graphs are requested, ``network
graph`` and ``execution graph`` are the same two launched as CUDA graphs. One batch is in flight
at a time, so compare the rows with trtexec's latencies, not with its throughput.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from reid.errors import ConfigError
from reid.progress import SILENT, Reporter
from reid.runtime import Runner
from reid.types import Image

from .engine import engine_durations, engine_rows, notes_on
from .power import Meter, measured, open_meter
from .setting import Setting, setting_of

BATCH_SIZES = (1, 8, 32)
MIN_BATCHES = 5
"""At least this many batches are timed, even if they take longer than the time given."""

Tick = Callable[[float], None]
"""Called with the seconds that have passed."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles over batches in milliseconds, and the rate over all batches."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    crops_per_s: float

    @staticmethod
    def from_batches(durations_ns: Sequence[int], batch_size: int) -> Latency:
        """Summarise the nanoseconds of batches of ``batch_size`` crops."""
        p50, p90, p99 = (float(p) for p in np.percentile(durations_ns, (50, 90, 99)) / 1e6)
        num_crops = batch_size * len(durations_ns)
        return Latency(p50, p90, p99, num_crops / (sum(durations_ns) / 1e9))


ROWS = ("preprocess", "network", "together", "execution", "network graph", "execution graph")


@dataclass(frozen=True, slots=True)
class BatchTiming:
    """The figures of one batch size, over ``num_batches`` timed batches.

    ``execution`` and the two CUDA graph timings come after the others, with as many batches each;
    None if the runner does not support them. ``watts``, the clocks and ``crops_per_joule``
    (preprocessing and network together) are means over the timed batches; None if power cannot
    be read.
    """

    batch_size: int
    num_batches: int
    preprocess: Latency
    network: Latency
    together: Latency
    execution: Latency | None = None
    network_graph: Latency | None = None
    execution_graph: Latency | None = None
    meter: str = ""
    watts: float | None = None
    gpu_mhz: float | None = None
    memory_mhz: float | None = None
    crops_per_joule: float | None = None

    def rows(self) -> list[str]:
        """Lines of the table: the timing's name, its percentiles and rate."""
        timed = {what: getattr(self, what.replace(" ", "_")) for what in ROWS}
        return [
            f"{self.batch_size:>5} {self.num_batches:>6}  {what:<15} "
            f"{latency.p50_ms:>9.2f} {latency.p90_ms:>9.2f} {latency.p99_ms:>9.2f} "
            f"{latency.crops_per_s:>10.1f}"
            for what, latency in timed.items()
            if latency is not None
        ]

    def power_words(self) -> str:
        """``batch 8: 12.3 W (rails VDD_IN), 35.1 crops/J, GPU 1300 MHz, memory ...``."""
        clocks = {"GPU": self.gpu_mhz, "memory": self.memory_mhz}
        words = [f"batch {self.batch_size}: {self.watts:.1f} W ({self.meter})"]
        words.append(f"{self.crops_per_joule:.1f} crops/J")
        words += [f"{name} {mhz:.0f} MHz" for name, mhz in clocks.items() if mhz is not None]
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class BenchReport(Setting):
    """The result of ``bench``."""

    warmup_s: float
    seconds: float
    timings: tuple[BatchTiming, ...]
    notes: tuple[str, ...] = ()
    includes_host_copies: bool = True
    """Of the rows network and together; never of execution."""

    def to_text(self) -> str:
        """The table for the terminal."""
        alone = any(timing.execution for timing in self.timings)
        lines = [
            *self.heading(),
            *self.notes,
            f"host copies included{' except in execution' * alone}; milliseconds per batch",
            "",
            f"{'batch':>5} {'n':>6}  {'what':<15} {'p50':>9} {'p90':>9} {'p99':>9} {'crops/s':>10}",
            *(row for timing in self.timings for row in timing.rows()),
        ]
        known = [timing.power_words() for timing in self.timings if timing.watts is not None]
        return "\n".join([*lines, *known])


def bench(
    runner: Runner,
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    seconds: float = 2.0,
    warmup_s: float = 0.5,
    threads: int = 0,
    cuda_graphs: bool = False,
    reporter: Reporter = SILENT,
) -> BenchReport:
    """Time ``runner`` on synthetic crops for ``seconds`` at each batch size, after a warm-up.

    ``cuda_graphs`` adds the rows of CUDA graphs if the runner supports them. ``threads`` is what
    the runner was opened with, for the report. ``reporter`` is called after each batch with the
    percent done. Raises ConfigError for a batch size below
    1 or a time that is not positive, and what the runner raises.
    """
    if not batch_sizes or min(batch_sizes) < 1:
        raise ConfigError(f"batch sizes are 1 or more, found {list(batch_sizes)}")
    if seconds <= 0 or warmup_s < 0:
        raise ConfigError(
            f"seconds must be positive and the warm-up not negative, found {seconds} and {warmup_s}"
        )
    crops = draw_crops(max(batch_sizes))
    runner.decide(
        {runner.manifest.input_name: runner.manifest.preprocess.batch(crops[: batch_sizes[-1]])}
    )
    meter = open_meter(runner.on_gpu)
    graphs = cuda_graphs and runner.use_cuda_graphs()
    runner.use_cuda_graphs(False)
    rows = engine_rows(runner, graphs)
    percents = _Percents(reporter, batch_sizes, (seconds + warmup_s) * (1 + len(rows)))
    timings = tuple(
        _time_batches(
            runner,
            crops[:batch_size],
            seconds,
            warmup_s,
            meter,
            rows,
            partial(percents.report, index),
        )
        for index, batch_size in enumerate(batch_sizes)
    )
    return BenchReport(
        **setting_of(runner, threads),
        warmup_s=warmup_s,
        seconds=seconds,
        timings=timings,
        notes=notes_on(runner, no_graphs=cuda_graphs and not graphs),
    )


def draw_crops(count: int, seed: int = 0) -> list[Image]:
    """``count`` person-shaped crops as a detector cuts them: 96-320 pixels high, 0.4 as wide, BGR.

    Coarse patches of colour with noise. Only the sizes affect the timing; with these every crop
    is resized.
    """
    rng = np.random.default_rng(seed)
    crops = []
    for height in rng.integers(96, 321, count):
        width = int(height * 0.4)
        patches = rng.integers(30, 226, (8, 4, 3))
        rows = np.arange(height) * 8 // height
        columns = np.arange(width) * 4 // width
        noise = rng.integers(-12, 13, (height, width, 3))
        crops.append((patches[rows][:, columns] + noise).astype(np.uint8))
    return crops


def _time_batches(
    runner: Runner,
    crops: list[Image],
    seconds: float,
    warmup_s: float,
    meter: Meter | None,
    rows: tuple[str, ...],
    tick: Tick,
) -> BatchTiming:
    """Warm up, then time batches for ``seconds``, MIN_BATCHES at least."""
    _batch_times(runner, crops, warmup_s, 1, tick)
    with measured(meter) as power:
        times = _batch_times(
            runner, crops, seconds, MIN_BATCHES, lambda passed_s: tick(warmup_s + passed_s)
        )
    preprocess_ns, network_ns = zip(*times, strict=True)
    together_ns = [sum(pair) for pair in times]
    size = len(crops)
    together = Latency.from_batches(together_ns, size)
    part_s = seconds + warmup_s
    durations = engine_durations(
        runner, crops, len(times), rows, lambda done: tick(part_s * (1 + done))
    )
    of_engine = {row: Latency.from_batches(each, size) for row, each in durations.items()}
    return BatchTiming(
        batch_size=size,
        num_batches=len(times),
        preprocess=Latency.from_batches(preprocess_ns, size),
        network=Latency.from_batches(network_ns, size),
        together=together,
        **of_engine,
        meter=power.meter,
        watts=power.watts,
        gpu_mhz=power.gpu_mhz,
        memory_mhz=power.memory_mhz,
        crops_per_joule=together.crops_per_s / power.watts if power.watts else None,
    )


def _batch_times(
    runner: Runner, crops: list[Image], seconds: float, at_least: int, tick: Tick
) -> list[tuple[int, int]]:
    """(preprocess, network) nanoseconds of batches over ``seconds``."""
    prepare, name = runner.manifest.preprocess.batch, runner.manifest.input_name
    times: list[tuple[int, int]] = []
    start = now = time.perf_counter_ns()
    while len(times) < at_least or now - start < seconds * 1e9:
        began = time.perf_counter_ns()
        images = prepare(crops)
        prepared = time.perf_counter_ns()
        runner.run({name: images})
        now = time.perf_counter_ns()
        times.append((prepared - began, now - prepared))
        tick((now - start) / 1e9)
    return times


class _Percents:
    """Reports how much of all batch sizes is done, each of which takes ``each_s``."""

    def __init__(self, reporter: Reporter, batch_sizes: Sequence[int], each_s: float) -> None:
        self._advance, self._done = reporter.begin("timing", 100), 0
        self._batch_sizes, self._each_s = batch_sizes, each_s

    def report(self, index: int, passed_s: float) -> None:
        """``passed_s`` into the batch size of that index."""
        share = (index + min(1.0, passed_s / self._each_s)) / len(self._batch_sizes)
        done = int(100 * share)
        self._advance(done - self._done, f"batch {self._batch_sizes[index]}")
        self._done = done
