"""``reid index``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.progress import progress_bar

from . import gallery_options


@click.command()
@click.argument("model", type=options.MODEL)
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@gallery_options.gallery
@click.option(
    "--shard",
    default="",
    metavar="3/8",
    help="Take the third of eight parts of the images; the other parts may be added at the same "
    "time, on other machines too. Else as torchrun says (RANK, WORLD_SIZE).",
)
@click.option("--camera", default="", help="The camera of images that tell none.")
@click.option(
    "--time",
    default="",
    metavar="TIME",
    help="The time of images that tell none, e.g. 2026-05-01T12:30 (UTC); 'file' is each file's. "
    "Of a video: when it begins.",
)
@click.option(
    "--detector",
    type=options.FILE,
    help="Videos: the .onnx that finds people (see reid watch; else OpenCV's own).",
)
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Videos: seconds between the frames that are looked at.",
)
@click.option(
    "--delete",
    "deletions",
    multiple=True,
    metavar="KEY=VALUE",
    help="Erase images instead: person=NAME, camera=NAME, since=TIME, until=TIME; those that "
    "meet all of them.",
)
@gallery_options.engine
@click.option(
    "--batch",
    type=options.BATCH,
    help="Images per call of the network (else: 64, or 128 of one that compares pairs).",
)
@options.device
@options.threads
@options.as_json
def index(
    model: Path,
    images: tuple[Path, ...],
    gallery: str,
    shard: str,
    camera: str,
    time: str,
    detector: Path | None,
    every_s: float,
    deletions: tuple[str, ...],
    engine: str,
    batch: int | None,
    device: str,
    threads: int,
    as_json: bool,
) -> dict[str, Any]:
    """Describe IMAGES with MODEL and add those that are new to a gallery.

    IMAGES are folders (person/camera/image.jpg, person/image.jpg, names such as
    0002_c1_000451.jpg, or any), CSV files (path, person_id, camera_id, time, box), images, or
    videos, of which the people are taken. Run it again to add, or to go on after a stop: what is
    there is not described again.
    """
    from ..api.indexing import ModelToOpen, Sources, delete_from, index_sources
    from ..gallery.indexing import shard_from
    from ..gallery.listing import where_from

    if bool(images) == bool(deletions):
        raise click.UsageError("give IMAGES to add, or --delete to erase")
    opened_as = ModelToOpen(model, device, threads, batch)
    shard_of = shard_from(shard, os.environ)
    if deletions:
        found = delete_from(opened_as, gallery, where_from(deletions), engine)
    else:
        sources = Sources(images, shard_of, camera, time, detector, every_s)
        if sources.videos and time == "file":
            raise click.UsageError("a video's file tells when it ended; give --time its beginning")
        with progress_bar() as bar:
            found = index_sources(opened_as, gallery, sources, engine, bar)
    click.echo(json.dumps(found, indent=2) if as_json else _in_words(found))
    return found


def _in_words(found: dict[str, Any]) -> str:
    total = f"{found['gallery']}: {found['total']:,} images"
    if "deleted" in found:
        return f"{total}, {found['deleted']:,} deleted"
    known = found["images"] - found["added"]
    rate = found["added"] / max(found["seconds"], 1e-9)
    return f"{total}, {found['added']:,} added ({rate:,.0f} a second), {known:,} were there"
