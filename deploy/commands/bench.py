"""``reid bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from reid.cli import options
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
    help="A batch size to time; give it several times for several.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="How long to time each batch size, after a warm-up of a quarter of it.",
)
@click.option(
    "--pairs",
    type=click.IntRange(min=1),
    help="Time this many pairs instead, with a network that compares two images: a graph of two "
    "images, a stored query against a stored gallery, and the gallery's description. --seconds "
    "is then how long the query is repeated, and a tenth of what the first may take.",
)
@click.option(
    "--cuda-graph",
    is_flag=True,
    help="Time an engine launched as a CUDA graph too (--useCudaGraph of trtexec).",
)
@options.device
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
    """Measure MODEL here: milliseconds a batch (p50, p90, p99) and crops per second.

    MODEL is a run folder, a checkpoint, an .onnx or an .engine. Preprocessing and network
    are timed apart and together, on drawn crops; copies to and from the device are included. Of
    an engine the network is also timed alone, without them.
    """
    from ..api.timing import bench_model

    if pairs is not None:
        if cuda_graph:
            raise click.UsageError("--cuda-graph is for images one by one: leave out --pairs")
        if (
            click.get_current_context().get_parameter_source("batch_sizes")
            is not ParameterSource.DEFAULT
        ):
            raise click.UsageError(
                "--batch is for images one by one; of --pairs the pieces have their own sizes: "
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
    click.echo(json.dumps(found, indent=2) if as_json else text)
    return found
