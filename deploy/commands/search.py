"""``reid search``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.printing import json_text, show
from reid.progress import say

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
@click.option(
    "--html", "page", type=options.FILE, help="Write a page with the pictures to this file."
)
@options.group
@options.device
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
    page: Path | None,
    group: str,
    device: str,
    threads: int,
    as_json: bool,
) -> dict[str, Any]:
    """Search a gallery for the person in each of IMAGES; nearest first.

    The gallery was made by `reid index` with the same MODEL. Distances are Euclidean, or minus
    the score of a network that compares pairs: smaller is more alike. If a file of the gallery is
    damaged, the images that are intact are searched, and the exit code is 1.
    """
    from reid.data.images import read_image
    from reid.errors import ModelFileError
    from reid.files import shared_with, write_text
    from reid.matching import open_matcher
    from reid.outputs import refuse_inputs

    from ..gallery import GalleryEntry, Where
    from ..gallery.listing import names_from
    from ..gallery.opening import open_gallery
    from ..gallery.results import Answer, page_of, text_of, to_json
    from ..gallery.times import seconds_from_text

    refuse_inputs({"--html": page}, [*images, model, Path(gallery)])
    span = [seconds_from_text(text) if text else None for text in (since, until)]
    where = Where(names_from(people), names_from(cameras), *span)
    queries = [read_image(path) for path in images]
    with (
        closing(open_matcher(model, device, threads)) as matcher,
        closing(
            open_gallery(
                gallery,
                matcher,
                index=index_kind,
                shortlist=shortlist,
                threads=threads,
                partial=True,
                say=say,
            )
        ) as opened,
        shared_with(group),
    ):
        found = opened.search(matcher.describe(queries), k, where)
        answers = [
            Answer(GalleryEntry(str(path)), matches)
            for path, matches in zip(images, found, strict=True)
        ]
        if page is not None:
            note = f"{opened.name}, {len(opened):,} images"
            write_text(page, page_of(answers, "Search", note, opened.entry), private=True)
        left_out = opened.left_out
    body = {
        "gallery": opened.name,
        "left_out": left_out or None,
        "queries": [
            {"image": one.query.source, "matches": [to_json(match) for match in one.matches]}
            for one in answers
        ],
    }
    show(json_text(body) if as_json else text_of(answers))
    if left_out:
        raise ModelFileError(
            f"this answer is incomplete, because {opened.name} is damaged; see reid gallery check"
        )
    return body
