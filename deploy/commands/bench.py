"""``reid bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from reid.cli import options
from reid.printing import json_text, show
from reid.progress import progress_bar


@click.command()
@click.argument("model", type=options.MODEL)
@click.option(
    "--batch",
    "batch_sizes",
    type=options.BATCH,
    multiple=True,
    default=(1, 8, 32),
    show_default=True,
    help="A batch size to time; repeatable.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="How long to time each batch size, after a warm-up of a quarter of that.",
)
@click.option(
    "--pairs",
    type=click.IntRange(min=1),
    help="Time this many pairs instead, for a network that compares two images: with the graph of "
    "two images, and with a stored query against a stored gallery. --seconds is then how long "
    "the query is repeated; the graph of two images is timed for ten times as long at most.",
)
@click.option(
    "--cuda-graph",
    is_flag=True,
    help="Also time an engine launched as a CUDA graph (trtexec's --useCudaGraph).",
)
@options.device_and_precision
@options.threads
@options.as_json
def bench(
    model: Path,
    batch_sizes: tuple[int, ...],
    seconds: float,
    pairs: int | None,
    cuda_graph: bool,
    threads: int,
    device: str,
    as_json: bool,
) -> dict[str, Any]:
    """Measure MODEL on this machine: milliseconds per batch (p50, p90, p99), crops per second, and
    crops/J if power can be read.

    MODEL is a run folder, a checkpoint, an .onnx or an .engine. Preprocessing and network
    are timed separately and together, on synthetic crops, including copies to and from the
    device. For an engine the network is also timed without the copies. An INT8 file is compared, by
    turns, with the FP32 and FP16 files that lie beside it.
    """
    from ..api.timing import bench_model

    if pairs is not None:
        if cuda_graph:
            raise click.UsageError(
                "--cuda-graph cannot be combined with --pairs: leave out --pairs"
            )
        if (
            click.get_current_context().get_parameter_source("batch_sizes")
            is not ParameterSource.DEFAULT
        ):
            raise click.UsageError(
                "--batch cannot be combined with --pairs, which has its own batch sizes: "
                "leave --batch out"
            )
    with progress_bar("bench") as bar:
        found, text = bench_model(
            model,
            batch_sizes=batch_sizes,
            seconds=seconds,
            pairs=pairs,
            cuda_graph=cuda_graph,
            device=device,
            threads=threads,
            reporter=bar,
        )
    show(json_text(found) if as_json else text)
    return found
