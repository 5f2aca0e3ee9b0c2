"""``reid describe``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.progress import progress_bar


@click.command()
@click.argument("model", type=options.MODEL)
@click.option("--data", "name", required=True, help="The dataset, e.g. market1501 or cuhk01.")
@options.data_root
@click.option(
    "--side",
    type=click.Choice(["gallery", "query"]),
    default="gallery",
    show_default=True,
    help="Which of the dataset's test images.",
)
@options.test_identities
@options.split_seed
@click.option(
    "--stage", default="", help="SiSNet's run: cascade (both scales), embed (the first) or second."
)
@click.option(
    "--stored",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="How a network that compares pairs keeps its maps and parts: float32 takes twice the "
    "room, and all values. Vectors are always float32.",
)
@click.option("--out", type=options.FILE, required=True, help="The .safetensors file to write.")
@options.group
@options.device
@options.threads
@options.as_json
def describe(
    model: Path,
    name: str,
    data_root: Path,
    side: str,
    test_identities: int | None,
    split_seed: int | None,
    stage: str,
    stored: str,
    out: Path,
    group: str,
    device: str,
    threads: int,
    as_json: bool,
) -> dict[str, Any]:
    """Describe test images with MODEL once and keep what later queries are compared with.

    A vector an image, or, of a network that compares pairs, its maps and parts. The file goes
    to `reid eval --gallery FILE` (or --query) of the same model, split and stage, at the same
    precision; what it describes beside the file is kept as the file's is (--stored).
    """
    from reid.evaluation.evaluating import split_as_trained
    from reid.files import shared_with
    from reid.matching.describing import describe_to_file

    split = split_as_trained(model, name, data_root, test_identities, split_seed)
    records = split.gallery if side == "gallery" else split.query
    with shared_with(group), progress_bar("opening") as bar:
        size = describe_to_file(
            model,
            records,
            side,
            out,
            device=device,
            threads=threads,
            stage=stage,
            stored=stored,
            phase=bar.phase,
        )
    found = {"file": str(out), "images": len(records), "bytes": size}
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(
            f"{out}: {len(records):,} images, {size / 1e6:.1f} MB, "
            f"{size / len(records) / 1e3:.1f} kB each"
        )
    return found
