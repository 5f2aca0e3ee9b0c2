"""List a dataset's image folders, the same way for every reader."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reid.data.images import IMAGE_SUFFIXES
from reid.errors import DataError
from reid.types import ImageRecord

IdAndCamera = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Listing:
    """Images in the order of their names, and image files without a recognisable identity.

    Other files (``Thumbs.db``, notes) are in neither list.
    """

    records: tuple[ImageRecord, ...]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything found of a dataset: its subsets, and notes on how it was interpreted.

    Without cameras the records' ``camera_id`` has no meaning. ``hint`` is one of the notes that
    training and evaluation should say too. ``names`` are those of a user's own people.
    """

    subsets: Mapping[str, Listing]
    notes: tuple[str, ...] = ()
    has_cameras: bool = True
    hint: str = ""
    names: Mapping[int, str] = field(default_factory=dict)


def scan(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the files and of the folders in ``folder``, each sorted.

    Raises DataError if it is missing or cannot be read.
    """
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                (folders if entry.is_dir() else files).append(entry.name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{folder}: no such folder") from error
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror or error}") from error
    return sorted(files), sorted(folders)


def files_below(folder: Path) -> Iterator[Path]:
    """The files in a folder and its subfolders. Raises DataError for one that cannot be listed."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror or error}") from error

    for parent, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(parent, name) for name in names)


def is_image(name: str) -> bool:
    """Whether a file with this name is an image; macOS's ``._`` files are not."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def list_folder(folder: Path, parse: Callable[[str], IdAndCamera | None]) -> Listing:
    """All images directly in ``folder``; ``parse`` turns a name into (person, camera).

    Raises DataError if the folder is missing, unreadable, or has no such image.
    """
    records, skipped = [], []
    for name in filter(is_image, scan(folder)[0]):
        parsed = parse(name)
        if parsed is None:
            skipped.append(name)
        else:
            records.append(ImageRecord(folder / name, *parsed))
    if not records:
        found = f"{len(skipped)} images with other names" if skipped else "none"
        raise DataError(f"{folder}: expected images with the dataset's file names, found {found}")
    return Listing(tuple(records), tuple(skipped))


def search_home(root: Path, names: Sequence[str], marker: str) -> Path | None:
    """The folder that contains ``marker``, or None.

    It is ``root``, or a folder in it with one of the ``names`` (in any case), or one more such
    level: an archive unpacked into its own folder. Raises DataError if ``root`` cannot be
    listed.
    """
    level = [root]
    known = {name.lower() for name in names}
    for _ in range(3):
        for folder in level:
            if (folder / marker).exists():
                return folder
        level = [
            folder / name for folder in level for name in scan(folder)[1] if name.lower() in known
        ]
    return None


def find_home(root: Path, names: Sequence[str], marker: str, expected: str) -> Path:
    """Like ``search_home``, but raises DataError if nothing is found."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected {expected}")
    home = search_home(root, names, marker)
    if home is None:
        raise DataError(f"{root}: {marker} not found; expected {expected} there or in {names[0]}")
    return home


def require_files(records: Iterable[ImageRecord], source: Path) -> None:
    """Raise DataError if images named by the list file ``source`` are missing."""
    paths = [record.path for record in records]
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise DataError(
            f"{source}: {len(missing):,} of {len(paths):,} listed images are missing, the first "
            f"is {missing[0]}; unpack the images again, or correct the list"
        )


def identities(records: Iterable[ImageRecord]) -> tuple[int, ...]:
    """The identities, ascending, without junk (-1) and distractors (0)."""
    return tuple(sorted({record.person_id for record in records if record.person_id > 0}))


def require_two_identities(dataset: str, where: Path, train: Iterable[ImageRecord]) -> None:
    """Raise DataError if there are fewer than two training identities."""
    found = len(identities(train))
    if found < 2:
        raise DataError(
            f"{dataset}: training needs at least 2 identities, found {found} in {where}"
        )
