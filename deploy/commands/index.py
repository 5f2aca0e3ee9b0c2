"""``reid index``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reid.cli import options
from reid.printing import json_text, show
from reid.progress import progress_bar

from . import gallery_options

if TYPE_CHECKING:
    from reid.data.readers.division import OwnImages


@click.command()
@click.argument("model", type=options.MODEL)
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@gallery_options.gallery
@click.option(
    "--shard",
    default="",
    metavar="3/8",
    help="Add only the third of eight parts of the images; other processes or machines can add the "
    "others at the same time. Default: torchrun's RANK and WORLD_SIZE, or all images.",
)
@click.option("--camera", default="", help="The camera of images without one.")
@click.option(
    "--time",
    default="",
    metavar="TIME",
    help="The time of images without one, e.g. 2026-05-01T12:30 (UTC); 'file' takes each file's "
    "time. For a video: its start.",
)
@click.option(
    "--detector",
    type=options.FILE,
    help="For videos: the people detector, an .onnx file (see reid watch; default: OpenCV's HOG).",
)
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="For videos: seconds between two frames that are used.",
)
@click.option(
    "--delete",
    "deletions",
    multiple=True,
    metavar="KEY=VALUE",
    help="Erase images instead: person=NAME, camera=NAME, since=TIME, until=TIME. Repeat to erase "
    "only images that meet all conditions.",
)
@options.own_images
@gallery_options.index
@options.group
@click.option(
    "--batch",
    type=options.BATCH,
    help="Images per call of the network (default: 64, or 128 for one that compares pairs; with an "
    "engine for larger batches its largest, up to 256).",
)
@options.device_and_precision
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
    own: OwnImages,
    index_kind: str,
    group: str,
    batch: int | None,
    device: str,
    threads: int,
    as_json: bool,
) -> dict[str, Any]:
    """Compute features of IMAGES with MODEL and add the new ones to a gallery.

    IMAGES are folders (person/camera/image.jpg, person/image.jpg, names such as
    0002_c1_000451.jpg, or any), CSV files (path, person_id, camera_id, time, box), images, or
    videos, in which people are detected. Run it again to add more, or to continue after a stop:
    images that are there are skipped, wherever their files are now; names and times that they lack
    are added to them. Files that cannot be read are counted and named, and the exit code is 1.
    """
    from reid.files import shared_with

    from ..api.indexing import Sources, delete_from, index_sources
    from ..api.model_to_open import ModelToOpen
    from ..api.opening import GalleryToOpen
    from ..gallery.indexing import require_all_read, shard_from
    from ..gallery.listing import HowRead, where_from

    if bool(images) == bool(deletions):
        raise click.UsageError("give IMAGES to add, or --delete to erase")
    opened_as = ModelToOpen(model, device, threads, batch)
    into = GalleryToOpen(gallery, index_kind)
    shard_of = shard_from(shard, os.environ)
    if deletions:
        with shared_with(group):
            found = delete_from(opened_as, into, where_from(deletions))
    else:
        how = HowRead(own.junk, own.distractors, own.layout)
        sources = Sources(images, shard_of, camera, time, detector, every_s, how)
        if sources.videos and time == "file":
            raise click.UsageError(
                "for a video, --time file is not possible: give --time its start"
            )
        with shared_with(group), progress_bar() as bar:
            found = index_sources(opened_as, into, sources, bar)
    show(json_text(found) if as_json else _in_words(found))
    require_all_read(found.get("unreadable", ()))
    return found


def _in_words(found: dict[str, Any]) -> str:
    total = f"{found['gallery']}: {found['total']:,} images"
    if "deleted" in found:
        return f"{total}, {found['deleted']:,} deleted"
    known = max(0, found["images"] - found["added"] - len(found["unreadable"]))
    rate = found["added"] / max(found["seconds"], 1e-9)
    lines = [f"{total}, {found['added']:,} added ({rate:,.0f} per second), {known:,} were there"]
    if found["labelled"]:
        lines.append(f"{found['labelled']:,} that were there got a person, camera or time")
    if found["moved"]:
        lines.append(f"{found['moved']:,} that were there got their new path")
    if found["differing"]:
        lines.append(
            f"{found['differing']:,} that were there were given another person or camera than "
            "they have, which stays; to change it, erase them with --delete and index them again"
        )
    return "\n".join(lines)
