"""Erasing what is older than a number of days: images, their verdicts and their whole frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reid.errors import output_errors

from .gallery import GalleryEntry, GalleryStore, Where


def prune(
    gallery: GalleryStore,
    older_than_s: float,
    now_s: float,
    frames: Path | None = None,
    *,
    named: bool | None = None,
) -> int:
    """Erase the images from more than ``older_than_s`` before ``now_s``; returns how many.

    ``named``: only those with a person's name, or without one. Their frames in the folder
    ``frames`` are erased first, so that a stopped call can be repeated. Images without a time
    stay. Raises OutputError, UnavailableError.
    """
    where = Where(until_s=now_s - older_than_s, named=named)
    if frames is not None:
        for path in frames_of((entry for _, entry in gallery.listed(where)), frames):
            with output_errors(path):
                path.unlink(missing_ok=True)
    return gallery.delete(where)


def frames_of(entries: Iterable[GalleryEntry], frames: Path) -> list[Path]:
    """The kept frames of these entries that are there, and the pictures of their people beside
    them; only files inside ``frames``."""
    root = frames.resolve()
    named = {(root / name).resolve() for entry in entries for name in _files_of(entry)}
    return sorted(path for path in named if path.is_relative_to(root) and path.is_file())


def crop_name(frame: str, track: int) -> str:
    """The path of a person's picture beside their frame's."""
    return f"{frame.removesuffix('.jpg')}-t{track}.jpg"


def _files_of(entry: GalleryEntry) -> list[str]:
    if not entry.picture_ref:
        return []
    own = [] if entry.track is None else [crop_name(entry.picture_ref, entry.track)]
    return [entry.picture_ref, *own]
