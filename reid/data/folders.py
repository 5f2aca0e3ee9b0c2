"""Listing a dataset's image folder, the same way for every reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from reid.data.images import IMAGE_SUFFIXES
from reid.errors import DataError
from reid.types import ImageRecord

IdAndCamera = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder's images in the order of their names, and image files it could not place.

    Files that are no images (``Thumbs.db``, notes) are in neither.
    """

    records: tuple[ImageRecord, ...]
    skipped: tuple[str, ...] = ()


def list_folder(folder: Path, parse: Callable[[str], IdAndCamera | None]) -> Listing:
    """All images directly in ``folder``; ``parse`` turns a name into (person, camera).

    Raises DataError where the folder is missing, unreadable, or holds no such image.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{folder}: no such folder") from error
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror or error}") from error
    records, skipped = [], []
    for name in names:
        if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
            continue
        parsed = parse(name)
        if parsed is None:
            skipped.append(name)
        else:
            records.append(ImageRecord(folder / name, *parsed))
    if not records:
        found = f"{len(skipped)} images with other names" if skipped else "none"
        raise DataError(f"{folder}: expected images named as the dataset does, found {found}")
    return Listing(tuple(records), tuple(skipped))


def identities(records: Iterable[ImageRecord]) -> tuple[int, ...]:
    """The people seen, ascending: neither junk (-1) nor distractors (0)."""
    return tuple(sorted({record.person_id for record in records if record.person_id > 0}))


def require_two_identities(dataset: str, where: Path, train: Iterable[ImageRecord]) -> None:
    """Raise DataError unless there are two people to tell apart."""
    found = len(identities(train))
    if found < 2:
        raise DataError(
            f"{dataset}: training needs at least 2 identities, found {found} in {where}"
        )
