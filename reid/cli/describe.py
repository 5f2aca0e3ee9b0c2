"""``reid describe``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reid.cli import options
from reid.printing import json_text, show
from reid.progress import progress_bar

if TYPE_CHECKING:
    from reid.data.readers.division import AskedSplit


@click.command()
@click.argument("model", type=options.MODEL)
@click.option("--data", "name", required=True, help="The dataset, e.g. market1501 or cuhk01.")
@options.data_root
@click.option(
    "--side",
    type=click.Choice(["gallery", "query"]),
    default="gallery",
    show_default=True,
    help="Which test images of the dataset to describe.",
)
@options.asked_split
@click.option(
    "--graph",
    "--stage",
    "graph",
    cls=options.Renamed,
    default="",
    help="Graph of a SiSNet run: cascade (both scales), embed (the first) or second.",
)
@click.option(
    "--stored",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="How feature maps and parts of a network that compares pairs are stored: float32 takes "
    "twice the space and loses nothing. Embeddings are always float32.",
)
@click.option(
    "--mirror",
    is_flag=True,
    help="Average each image's embedding with its mirror image's: for `reid eval --mirror`.",
)
@click.option("--out", type=options.FILE, required=True, help="The .safetensors file to write.")
@options.group
@options.device_and_precision
@options.threads
@options.as_json
def describe(
    model: Path,
    name: str,
    data_root: Path,
    side: str,
    asked: AskedSplit,
    graph: str,
    stored: str,
    mirror: bool,
    out: Path,
    group: str,
    device: str,
    threads: int,
    as_json: bool,
) -> dict[str, Any]:
    """Compute the features of test images with MODEL once and save them for later comparisons.

    The file has one embedding per image or, for a network that compares pairs, feature maps and
    parts. Pass it to `reid eval --gallery-features FILE` (or --query-features) with the same
    model, split, graph and precision; images described in that run are stored the same way
    (--stored).
    """
    from reid.api.describing import describe_dataset
    from reid.files import shared_with

    with shared_with(group), progress_bar("opening") as bar:
        written = describe_dataset(
            model,
            name,
            data_root,
            out,
            side=side,
            asked=asked,
            graph=graph,
            stored=stored,
            mirror=mirror,
            device=device,
            threads=threads,
            reporter=bar,
        )
    found = written.to_json()
    show(json_text(found) if as_json else written.to_text())
    return found
