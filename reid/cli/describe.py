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
@options.own_images
@options.all_test
@click.option(
    "--graph",
    "--stage",
    "graph",
    cls=options.Renamed,
    default="",
    help="SiSNet's run: cascade (both scales), embed (the first) or second.",
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
    junk: tuple[str, ...],
    distractors: tuple[str, ...],
    layout: str,
    all_test: bool,
    graph: str,
    stored: str,
    out: Path,
    device: str,
    threads: int,
    as_json: bool,
) -> dict[str, Any]:
    """Describe test images with MODEL once and keep what later queries are compared with.

    A vector an image, or, of a network that compares pairs, its maps and parts. Give the
    file to `reid eval --gallery-features FILE` (or --query-features) of the same model, split and
    graph, at the same precision; images described beside the file are kept in its form
    (--stored).
    """
    from reid.evaluation.evaluating import split_as_trained
    from reid.matching.describing import describe_to_file
    from reid.outputs import refuse_inputs

    split = split_as_trained(
        model,
        name,
        data_root,
        test_identities,
        split_seed,
        junk=junk,
        distractors=distractors,
        layout=layout,
        all_test=all_test,
    )
    records = split.gallery if side == "gallery" else split.query
    refuse_inputs({"--out": out}, [model, *(record.path for record in records)])
    with progress_bar("opening") as bar:
        size = describe_to_file(
            model,
            records,
            side,
            out,
            device=device,
            threads=threads,
            graph=graph,
            stored=stored,
            reporter=bar,
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
