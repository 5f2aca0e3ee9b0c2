"""Timing a model file, as one call."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from reid.matching.lower_precision import prove_lower_precision
from reid.model_file.quantisation import INT8
from reid.progress import SILENT, Reporter
from reid.runtime import open_runner

from ..bench.gains import gains, notes_on_int8
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

    An INT8 file is also compared with the FP32 and FP16 files beside it. With ``pairs`` that many
    pairs are timed instead of batches. Raises what ``open_runner``, ``bench`` and ``bench_pairs``
    raise.
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
        found, lines = {"model": str(model), **report.to_json()}, [str(model), report.to_text()]
        if runner.manifest.precision == INT8:
            settings: dict[str, Any] = {"device": device, "threads": threads, "reporter": reporter}
            compared = gains(runner, model, batch_sizes, **settings)
            notes = notes_on_int8(model, runner.on_gpu)
            found |= {"gains": [asdict(gain) for gain in compared], "int8_notes": notes}
            lines += [*(gain.words() for gain in compared), *notes]
    return found, "\n".join(lines)
