"""``reid gallery``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.errors import ConfigError, ModelFileError
from reid.printing import json_text, show
from reid.progress import progress_bar

from . import gallery_options

_FILES = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def gallery() -> None:
    """Check a gallery's files for damage, erase from it, describe it again."""


@gallery.command()
@click.argument("folder", metavar="GALLERY", type=click.Path(path_type=Path))
@click.option(
    "--drop-damaged",
    is_flag=True,
    help="Remove the damaged images for good, so that the gallery can be written again. reid index "
    "then adds them again where their files are still there.",
)
@options.as_json
def check(folder: Path, drop_damaged: bool, as_json: bool) -> dict[str, Any]:
    """Read all files of GALLERY, a folder, and name what is damaged.

    Each array and each image has a checksum. If something is damaged, the exit code is 1; the other
    images stay usable: `reid search` and `reid serve` leave the damaged ones out and say so.
    """
    from ..gallery import checking
    from ..gallery.opening import MILVUS

    if str(folder).startswith(MILVUS):
        raise ConfigError("a Milvus collection is checked by Milvus; name a gallery's folder")
    checked = checking.check_gallery(folder)
    found = checked.to_json()
    if drop_damaged and checked.damaged and checked.has_list:
        left = checking.drop_damaged(folder)
        found |= {"dropped": checked.num_damaged, "images": left.images}
        as_text = f"{checked.text()}\nremoved {checked.num_damaged:,} images: {left.images:,} left"
    else:
        as_text = checked.text()
    show(json_text(found) if as_json else as_text)
    if not checked.has_list:
        raise ModelFileError(
            f"{folder} has lost its list of files; {checked.images - checked.num_damaged:,} images "
            "are intact in files that are there; restore gallery.json from a copy, or index the "
            "images again into a new gallery"
        )
    if checked.damaged and not drop_damaged:
        raise ModelFileError(
            f"{folder} is damaged in {', '.join(one.file for one in checked.damaged[:3])}; restore "
            "the files from a copy, or remove the damaged images with --drop-damaged and index "
            "them again"
        )
    return found


@gallery.command()
@click.argument("name", metavar="GALLERY")
@click.option("--older-than", required=True, metavar="30d", help="The age: 30d, 12h, 90m, 10s.")
@click.option("--frames", type=_FOLDER, help="The folder of whole frames (reid watch).")
@options.as_json
def prune(name: str, older_than: str, frames: Path | None, as_json: bool) -> dict[str, Any]:
    """Erase the images of GALLERY that are older than an age, for good.

    The verdicts on them go too, and their whole frames. Images without a time stay.
    """
    from reid.spans import seconds_from_span

    from ..api.erasing import prune_gallery

    found = prune_gallery(name, seconds_from_span(older_than), frames)
    words = f"{found['gallery']}: {found['total']:,} images, {found['deleted']:,} erased"
    show(json_text(found) if as_json else words)
    return found


@gallery.command()
@click.argument("name", metavar="GALLERY")
@gallery_options.people
@click.option("--track", "tracks", multiple=True, metavar="RUN:N", help="This track; repeatable.")
@gallery_options.cameras
@gallery_options.since
@gallery_options.until
@click.option("--id", "ids", type=int, multiple=True, help="This image; repeatable.")
@click.option("--receipt", required=True, type=_FILES, help="The receipt to write, JSON.")
@click.option("--events", type=_FILES, multiple=True, help="Events of reid watch; repeatable.")
@click.option("--recordings", type=_FOLDER, multiple=True, help="Recordings; repeatable.")
@click.option("--frames", type=_FOLDER, multiple=True, help="Whole frames; repeatable.")
@click.option("--pages", type=_FILES, multiple=True, help="Pages of reid search; repeatable.")
@click.option("--features", type=_FILES, multiple=True, help="Files of features; repeatable.")
@click.option("--access-log", "logs", type=_FILES, multiple=True, help="Of reid serve; repeatable.")
@click.option(
    "--identities",
    type=_FILES,
    multiple=True,
    help="Of reid watch, which must not run: the whole file is deleted; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Erase nothing; write what would be erased.")
@options.as_json
def erase(
    name: str,
    people: tuple[str, ...],
    tracks: tuple[str, ...],
    cameras: tuple[str, ...],
    since: str,
    until: str,
    ids: tuple[int, ...],
    receipt: Path,
    events: tuple[Path, ...],
    recordings: tuple[Path, ...],
    frames: tuple[Path, ...],
    pages: tuple[Path, ...],
    features: tuple[Path, ...],
    logs: tuple[Path, ...],
    identities: tuple[Path, ...],
    dry_run: bool,
    as_json: bool,
) -> dict[str, Any]:
    """Erase a person, a track, images or a span of time from GALLERY, and write a receipt.

    All conditions must hold. The receipt names every artefact: what was erased of it, what is left,
    and what was not searched because it was not named. A stopped erasure can be repeated. Stop
    `reid watch` before its events are erased.
    """
    import dataclasses

    from ..api.erasing import Places, track_from
    from ..api.erasing import erase as erase_everywhere
    from ..gallery.filters import where_from_values

    where = dataclasses.replace(
        where_from_values(people, cameras, since or None, until or None),
        tracks=tuple(map(track_from, tracks)),
        ids=ids,
    )
    places = Places(events, recordings, frames, pages, features, logs, identities)
    done = erase_everywhere(name, where, receipt, places, dry_run=dry_run)
    show(json_text(done.to_json()) if as_json else done.to_text())
    return done.to_json()


@gallery.command()
@click.argument("name", metavar="GALLERY")
@click.argument("model", type=options.MODEL)
@click.option("--out", default="", metavar="NEW_GALLERY", help="Default: GALLERY.new beside it.")
@options.device_and_precision
@options.threads
@options.as_json
def reindex(
    name: str, model: Path, out: str, device: str, threads: int, as_json: bool
) -> dict[str, Any]:
    """Describe the images of GALLERY again, with another MODEL, into a new gallery.

    From their pictures, or their files. Ids, labels, times and verdicts stay. The old gallery is
    not changed. A stopped run goes on when it is started again. Images without a picture that can
    be read are counted and named.
    """
    from ..api.model_to_open import ModelToOpen
    from ..api.reindexing import reindex_gallery

    with progress_bar() as bar:
        found = reindex_gallery(name, ModelToOpen(model, device, threads), out, bar)
    words = f"{found['gallery']}: {found['total']:,} images, {found['added']:,} described again"
    lost = "".join(f"\nwithout a picture: {one}" for one in found["left_out"][:20])
    if found["num_left_out"]:
        lost = f"\n{found['num_left_out']:,} images have no picture that can be read{lost}"
    show(json_text(found) if as_json else words + lost)
    return found
