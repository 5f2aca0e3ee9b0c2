"""How long 1250 pairs take, the figure by which CSN's paper speaks of speed.

Guo and Cheung (CVPR 2018): 1250 pairs in 1.6 s on a TitanX. Three times are taken:
the graph of two images, in which a query is described anew for each gallery image; a stored
query against the stored gallery, as ``PairMatcher`` compares them; the gallery's description.
"""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path

import numpy as np

from reid.errors import ConfigError, ModelFileError
from reid.matching import PairDescriptions, PairMatcher
from reid.model_file.opening import ModelFile
from reid.progress import SILENT, Reporter
from reid.runtime import Runner, open_runner, open_runners

from .latency import MIN_BATCHES, Latency, draw_crops
from .pairs_report import PairsReport, WayTiming
from .setting import gpu_memory_mb, setting_of

PAIR_BATCH = 16
"""Pairs of a batch of the two-image graph: an exported one needs some 35 MB for each."""

PAIR_SHARE = 10
"""The two-image graph is timed for as many times the seconds that a query is repeated for."""

QUERIES = 5
"""Different queries, which take turns."""

DRAWN = 256
"""Different crops that are drawn; a larger gallery holds them again."""

_KIB = 1 << 10


def bench_pairs(
    model: Path,
    pairs: int = 1250,
    *,
    seconds: float = 2.0,
    threads: int = 0,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> PairsReport:
    """Open ``model`` and time ``pairs`` pairs each way, on drawn crops.

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
            "is for networks that compare stored images (csn): name their run, or the 'describe' "
            "or 'compare' file of an export"
        )
    file = ModelFile.at(model).path
    beside = [file.name.replace(f".{stage}.", ".pair.") for stage in ("describe", "compare")]
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
            "beside it; export them again from one run, or take it away"
        )


def _describe(
    matcher: PairMatcher, count: int, reporter: Reporter
) -> tuple[PairDescriptions, WayTiming]:
    """The gallery, and the time from batch to batch of describing it."""
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
    """Whole queries, piece by piece as a ranking goes; and the time spent on their float32."""
    # Others each time: a stage may keep what it laid out of the last query.
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
    """The two-image graph on a query beside each gallery image, until the time is up."""
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
    """Of what was timed in ``seconds``, ``share`` times as many were asked for."""
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
