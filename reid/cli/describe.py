"""``reid describe``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.printing import json_text, show
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
    help="Which test images of the dataset to describe.",
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
    junk: tuple[str, ...],
    distractors: tuple[str, ...],
    layout: str,
    all_test: bool,
    graph: str,
    stored: str,
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
    from reid.evaluation.evaluating import split_as_trained
    from reid.files import shared_with
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
    with shared_with(group), progress_bar("opening") as bar:
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
        show(json_text(found))
    else:
        show(
            f"{out}: {len(records):,} images, {size / 1e6:.1f} MB, "
            f"{size / len(records) / 1e3:.1f} kB each"
        )
    return found
