"""Time of 1250 pairs, the figure that CSN's paper gives for speed.

Guo and Cheung (CVPR 2018): 1250 pairs in 1.6 s on a TitanX. Three timings: the graph of two
images, which computes the query's feature maps again for each gallery image; a stored query
against the stored gallery, as ``PairMatcher`` compares them; the gallery's feature maps.
"""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from reid.errors import ConfigError, ModelFileError
from reid.matching import PairDescriptions, PairMatcher
from reid.model_file.opening import ModelFile
from reid.progress import SILENT, Reporter
from reid.runtime import Runner, open_runner, open_runners

from .latency import MIN_BATCHES, Latency, draw_crops
from .setting import Setting, gpu_memory_mb, setting_of

PAIR_BATCH = 16
"""Pairs per batch of the two-image graph: an exported one needs about 35 MB per pair."""

PAIR_SHARE = 10
"""The two-image graph is timed for this many times the seconds of the repeated query."""

QUERIES = 5
"""Different queries, used in turn."""

DRAWN = 256
"""Different synthetic crops; a larger gallery repeats them."""

_KIB = 1 << 10


@dataclass(frozen=True, slots=True)
class WayTiming:
    """One way to compare 1250 pairs (or to compute 1250 images): ``seconds`` for all of them.

    ``timed`` is how many were timed; if fewer than requested, ``seconds`` is extrapolated.
    ``per_s`` is the rate. The percentiles are over ``num_runs`` batches of ``batch_size``, or over
    whole queries in pieces of it. ``peak_mb`` is the process's peak memory so far (resident,
    libraries included), ``gpu_mb`` the GPU memory of all processes afterwards, by nvidia-smi; None
    without a GPU.
    """

    seconds: float
    timed: int
    batch_size: int
    num_runs: int
    per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    peak_mb: float
    gpu_mb: float | None


@dataclass(frozen=True, slots=True)
class PairsReport(Setting):
    """The three ways. ``naive`` is None if the two-image graph was not exported.

    ``widening_s`` is the part of ``compare`` that converts stored float16 to float32; the rest is
    the time with a gallery stored in float32. None if the network reads float16 itself.
    """

    pairs: int
    naive: WayTiming | None
    compare: WayTiming
    widening_s: float | None
    describe: WayTiming
    naive_over_compare: float | None
    float16_kb_per_image: float
    float32_kb_per_image: float

    def to_text(self) -> str:
        """The lines for the terminal."""
        lines = [
            *self.heading(),
            ", ".join(f"{name} {version}" for name, version in self.versions.items()),
            "",
            "(a) two-image graph, both images computed for each pair; preprocessing not included",
            "    not exported"
            if self.naive is None
            else f"    {self.pairs} pairs in {_timing(self.naive, self.pairs, 'batches of')}",
            f"(b) one stored query against {self.pairs} stored images",
            f"    {self.pairs} pairs in {_timing(self.compare, self.pairs, 'queries by')}",
            *self._widening(),
            "(c) feature maps of the gallery; preprocessing and storing included",
            f"    {self.pairs} images in {_timing(self.describe, self.pairs, 'batches of')}",
            "",
        ]
        if self.naive_over_compare is not None:
            lines.append(f"(b) is {self.naive_over_compare:.1f} times as fast as (a)")
        for kind, each in (("16", self.float16_kb_per_image), ("32", self.float32_kb_per_image)):
            whole = each * self.pairs / 1000
            lines.append(f"stored as float{kind}: {each:.1f} kB per image, gallery {whole:.1f} MB")
        lines.append(f"peak memory of the process, libraries included: {self._peaks('peak_mb')}")
        if self.compare.gpu_mb is not None:
            lines.append(f"GPU memory in use, by all processes: {self._peaks('gpu_mb')}")
        return "\n".join(lines)

    def _widening(self) -> list[str]:
        if self.widening_s is None:
            return []
        held_s = self.compare.seconds - self.widening_s
        return [
            f"    of which {self.widening_s:.2f} s convert stored float16 to float32: stored in "
            f"float32, with twice the memory, {self.pairs} pairs in {held_s:.2f} s"
        ]

    def _peaks(self, field: str) -> str:
        """In the order of the timings."""
        ways = {"feature maps": self.describe, "comparing": self.compare, "two-image": self.naive}
        return ", ".join(
            f"{name} {getattr(way, field):.0f} MB"
            for name, way in ways.items()
            if way is not None and getattr(way, field) is not None
        )


def bench_pairs(
    model: Path,
    pairs: int = 1250,
    *,
    seconds: float = 2.0,
    threads: int = 0,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> PairsReport:
    """Open ``model`` and time ``pairs`` pairs each way, on synthetic crops.

    The whole gallery is described. A query is repeated for ``seconds``, MIN_BATCHES times at
    least; the two-image graph runs for PAIR_SHARE times as long at most. Raises ConfigError for
    numbers that are not positive, ModelFileError for a network of one vector per image, and
    what ``open_runners`` raises.
    """
    if pairs < 1 or seconds <= 0:
        raise ConfigError(f"pairs and seconds must be positive, found {pairs} and {seconds}")
    with ExitStack() as stack:
        runners = _opened(model, device, threads, stack)
        describes = runners["describe"]
        matcher = PairMatcher(describes, runners["compare"])
        gallery, describe = _describe(matcher, pairs, reporter)
        compare, widening_s = _compare(matcher, gallery, seconds, reporter)
        naive = None
        if "pair" in runners:
            naive = _naive(runners["pair"], pairs, PAIR_SHARE * seconds, reporter)
        values = sum(prod(spec.shape) for spec in describes.manifest.output_arrays)
        return PairsReport(
            **setting_of(runners["compare"], threads),
            pairs=pairs,
            naive=naive,
            compare=compare,
            widening_s=None if runners["compare"].takes_half else widening_s,
            describe=describe,
            naive_over_compare=None if naive is None else naive.seconds / compare.seconds,
            float16_kb_per_image=2 * values / 1000,
            float32_kb_per_image=4 * values / 1000,
        )


def _opened(model: Path, device: str, threads: int, stack: ExitStack) -> dict[str, Runner]:
    """``describe``, ``compare`` and, where there is one, ``pair``; ``stack`` closes them."""
    runners = open_runners(model, device, threads)
    for runner in runners.values():
        stack.enter_context(runner)
    if "describe" not in runners:
        (runner,) = runners.values()
        raise ModelFileError(
            f"{model} is the {runner.manifest.stage!r} graph of {runner.manifest.network}; --pairs "
            "is for networks that compare stored images: name their run, or the 'describe' "
            "or 'compare' file of an export"
        )
    file = ModelFile.at(model).path
    beside = [file.name.replace(f".{graph}.", ".pair.") for graph in ("describe", "compare")]
    for name in beside:
        if "pair" not in runners and name != file.name and file.with_name(name).is_file():
            runners["pair"] = stack.enter_context(
                open_runner(file.with_name(name), device, threads)
            )
            _check_pair(runners["pair"], runners["compare"], name)
    return runners


def _check_pair(pair: Runner, compare: Runner, name: str) -> None:
    """The two-image graph is of the same network. Raises ModelFileError."""
    facts = [(r.manifest.checkpoint_sha256, r.manifest.precision) for r in (pair, compare)]
    if pair.manifest.stage != "pair" or facts[0] != facts[1]:
        raise ModelFileError(
            f"{name} is not the two-image graph of the checkpoint and precision of the files "
            "beside it; export them again from one run, or remove it"
        )


def _describe(
    matcher: PairMatcher, count: int, reporter: Reporter
) -> tuple[PairDescriptions, WayTiming]:
    """The gallery's features, and the time of each batch that computed them."""
    crops = draw_crops(min(count, DRAWN))
    matcher.describe(crops[:1])
    ends, sizes = [time.perf_counter_ns()], [0]

    advance = reporter.begin("describing", count)

    def batch_done(size: int, /, words: str = "") -> None:
        ends.append(time.perf_counter_ns())
        sizes.append(size)
        advance(size)

    gallery = matcher.describe(itertools.islice(itertools.cycle(crops), count), batch_done)
    durations = np.diff(ends).tolist()
    return gallery, _way(durations, sum(durations) / 1e9, count, max(sizes))


def _compare(
    matcher: PairMatcher, gallery: PairDescriptions, seconds: float, reporter: Reporter
) -> tuple[WayTiming, float]:
    """Whole queries, piece by piece as in a ranking; and the time of the conversion to float32."""
    # Different queries in turn: a graph may keep the layout of the last query.
    described = matcher.describe(draw_crops(QUERIES, seed=1))
    drawn = [described.row(number) for number in range(QUERIES)]
    first, arrays = next(matcher.gallery_batches(gallery))
    matcher.scores(drawn[-1], arrays)
    queries: list[int] = []
    advance = reporter.begin("comparing", 0)
    widening: list[int] = []
    start = now = time.perf_counter_ns()
    while len(queries) < MIN_BATCHES or now - start < seconds * 1e9:
        began, widened = now, 0
        before = now
        for rows, arrays in matcher.gallery_batches(gallery):
            widened += time.perf_counter_ns() - before
            matcher.scores(drawn[len(queries) % QUERIES], arrays)
            advance(rows.stop - rows.start, f"query {len(queries) + 1}")
            before = time.perf_counter_ns()
        now = before
        queries.append(now - began)
        widening.append(widened)
    way = _way(queries, float(np.median(queries)) / 1e9, len(gallery), first.stop)
    return way, float(np.median(widening)) / 1e9


def _naive(runner: Runner, pairs: int, limit_s: float, reporter: Reporter) -> WayTiming:
    """The two-image graph on a query with each gallery image, until the time is up."""
    prepare = runner.manifest.preprocess.batch
    batch = min(pairs, PAIR_BATCH)
    second = prepare(draw_crops(batch))
    first = np.repeat(prepare(draw_crops(1, seed=1)), batch, axis=0)

    def run(count: int) -> None:
        names = (spec.name for spec in runner.manifest.input_arrays)
        runner.run(dict(zip(names, (first[:count], second[:count]), strict=True)))

    run(batch)
    advance = reporter.begin("two-image graph", pairs)
    durations: list[int] = []
    timed = 0
    start = now = time.perf_counter_ns()
    while timed < pairs and (now - start < limit_s * 1e9 or not durations):
        began, count = now, min(batch, pairs - timed)
        run(count)
        now = time.perf_counter_ns()
        durations.append(now - began)
        timed += count
        advance(count)
    return _way(durations, sum(durations) / 1e9, timed, batch, pairs / timed)


def _way(
    durations_ns: Sequence[int], seconds: float, timed: int, batch_size: int, share: float = 1.0
) -> WayTiming:
    """``share`` times as many were requested as were timed in ``seconds``."""
    latency = Latency.from_batches(durations_ns, batch_size)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB / 1e6
    return WayTiming(
        seconds=seconds * share,
        timed=timed,
        batch_size=batch_size,
        num_runs=len(durations_ns),
        per_s=timed / seconds,
        p50_ms=latency.p50_ms,
        p90_ms=latency.p90_ms,
        p99_ms=latency.p99_ms,
        peak_mb=peak_mb,
        gpu_mb=gpu_memory_mb(),
    )


def _timing(way: WayTiming, asked: int, runs: str) -> str:
    """``1.55 s, 806.5 per second; 5 queries by 128: p50 1550.0 ms, p90 ... ms, p99 1600.0 ms``."""
    extrapolated = "" if way.timed == asked else f" (extrapolated from {way.timed})"
    return (
        f"{way.seconds:.2f} s{extrapolated}, {way.per_s:.1f} per second; {way.num_runs} {runs} "
        f"{way.batch_size}: p50 {way.p50_ms:.1f} ms, p90 {way.p90_ms:.1f} ms, "
        f"p99 {way.p99_ms:.1f} ms"
    )
