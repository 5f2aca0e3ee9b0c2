"""``reid gallery``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.errors import ConfigError, ModelFileError
from reid.printing import json_text, show


@click.group()
def gallery() -> None:
    """Check a gallery's files for damage."""


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
