"""Erasing what is older than a number of days: images, their verdicts and their whole frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reid.errors import output_errors

from .gallery import GalleryEntry, GalleryStore, Where

UNITS_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}


def prune(
    gallery: GalleryStore, older_than_s: float, now_s: float, frames: Path | None = None
) -> int:
    """Erase the images from more than ``older_than_s`` before ``now_s``; returns how many.

    Their frames in the folder ``frames`` are erased first, so that a stopped call can be repeated.
    Images without a time stay. Raises OutputError, UnavailableError.
    """
    where = Where(until_s=now_s - older_than_s)
    if frames is not None:
        for path in frames_of((entry for _, entry in gallery.listed(where)), frames):
            with output_errors(path):
                path.unlink(missing_ok=True)
    return gallery.delete(where)


def frames_of(entries: Iterable[GalleryEntry], frames: Path) -> list[Path]:
    """The kept frames of these entries that are there; only files inside ``frames``."""
    root = frames.resolve()
    named = {(root / entry.picture_ref).resolve() for entry in entries if entry.picture_ref}
    return sorted(path for path in named if path.is_relative_to(root) and path.is_file())
