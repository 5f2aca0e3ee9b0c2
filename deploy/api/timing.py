"""Timing a model file, as one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reid.matching.lower_precision import prove_lower_precision
from reid.progress import SILENT, Reporter
from reid.runtime import open_runner

from ..bench.latency import BATCH_SIZES
from ..bench.latency import bench as measure
from ..bench.pairs import bench_pairs


def bench_model(
    model: Path,
    *,
    batch_sizes: tuple[int, ...] = BATCH_SIZES,
    seconds: float = 2.0,
    pairs: int | None = None,
    cuda_graph: bool = False,
    device: str = "auto",
    threads: int = 0,
    reporter: Reporter = SILENT,
) -> tuple[dict[str, Any], str]:
    """Time a model; returns what ``reid bench`` prints, as JSON and as text.

    With ``pairs`` that many pairs are timed instead of batches. Raises what ``open_runner``,
    ``bench`` and ``bench_pairs`` raise.
    """
    if pairs is not None:
        timed = bench_pairs(
            model, pairs, seconds=seconds, threads=threads, device=device, reporter=reporter
        )
        return {"model": str(model), **timed.to_json()}, f"{model}\n{timed.to_text()}"
    with open_runner(model, device, threads) as runner:
        prove_lower_precision(runner, model, device, threads)
        report = measure(
            runner,
            batch_sizes=batch_sizes,
            seconds=seconds,
            warmup_s=seconds / 4,
            threads=threads,
            cuda_graphs=cuda_graph,
            reporter=reporter,
        )
    return {"model": str(model), **report.to_json()}, f"{model}\n{report.to_text()}"
