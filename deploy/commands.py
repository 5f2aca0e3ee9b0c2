"""Commands of the upper floor that runs exported files: ``reid bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from reid import options
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
@options.device
@options.threads
@options.as_json
def bench(
    model: Path,
    batch_sizes: tuple[int, ...],
    seconds: float,
    threads: int,
    device: str,
    as_json: bool,
) -> dict[str, Any]:
    """Measure MODEL here: milliseconds a batch (p50, p90, p99) and crops per second.

    MODEL is a run folder, a checkpoint, an .onnx or an .engine. Preprocessing and network
    are timed apart and together, on drawn crops; copies to and from the device are included.
    """
    from reid.runtime import open_runner

    from .bench import bench as measure

    with open_runner(model, device, threads) as runner, progress_bar("bench") as bar:
        report = measure(
            runner,
            batch_sizes=batch_sizes,
            seconds=seconds,
            warmup_s=seconds / 4,
            threads=threads,
            progress=bar.show,
        )
    found = {"model": str(model), **report.to_json()}
    click.echo(json.dumps(found, indent=2) if as_json else f"{model}\n{report.to_text()}")
    return found
