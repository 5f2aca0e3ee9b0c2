"""``reid search``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.printing import json_text, show

from . import gallery_options


@click.command()
@click.argument("model", type=options.MODEL)
@click.argument("images", nargs=-1, required=True, type=options.FILE)
@gallery_options.gallery
@click.option(
    "-k", "k", type=click.IntRange(min=1), default=10, show_default=True, help="Matches per image."
)
@gallery_options.people
@gallery_options.cameras
@gallery_options.since
@gallery_options.until
@gallery_options.index
@gallery_options.shortlist
@gallery_options.max_distance
@click.option(
    "--html", "page", type=options.FILE, help="Write a page with the pictures to this file."
)
@options.group
@options.device_and_precision
@options.threads
@options.as_json
def search(
    model: Path,
    images: tuple[Path, ...],
    gallery: str,
    k: int,
    people: tuple[str, ...],
    cameras: tuple[str, ...],
    since: str,
    until: str,
    index_kind: str,
    shortlist: int,
    max_distance: float | None,
    page: Path | None,
    group: str,
    device: str,
    threads: int,
    as_json: bool,
) -> dict[str, Any]:
    """Search a gallery for the person in each of IMAGES; nearest first.

    The gallery was made by `reid index` with the same MODEL. Distances are Euclidean, or minus
    the score of a network that compares pairs: smaller is more alike. Matches beyond the limit are
    marked: they need not be the same person. If a file of the gallery is damaged, the images that
    are intact are searched, and the exit code is 1.
    """
    from reid.files import shared_with
    from reid.outputs import refuse_inputs

    from ..api.model_to_open import ModelToOpen
    from ..api.opening import GalleryToOpen
    from ..api.searching import search_gallery
    from ..gallery.filters import where_from_values

    refuse_inputs({"--html": page}, [*images, model, Path(gallery)])
    where = where_from_values(people, cameras, since or None, until or None)
    searched = GalleryToOpen(gallery, index_kind, shortlist)
    with shared_with(group):
        report = search_gallery(
            ModelToOpen(model, device, threads), searched, images, k, where, page, max_distance
        )
    found = report.to_json()
    show(json_text(found) if as_json else report.to_text())
    report.check_complete()
    return found
