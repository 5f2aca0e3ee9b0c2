"""Checking a gallery's folder for damage, and removing the damaged images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.errors import ModelFileError
from reid.matching.columns import open_columns

from .head import HEAD_NAME, read_head, segment_files
from .index import FORMAT as INDEX_FORMAT
from .search import FILE as INDEX_FILE
from .segment_files import rows_and_seal, salvaged
from .segments import Damage
from .store import Store
from .verdict_file import EARLIER_NAME, VERDICTS_NAME, VerdictFile, read_earlier, read_lines

MOST_NAMED = 100
"""Damaged images of a file whose ids are named."""


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A damaged file: what is wrong, how many of its images are damaged, and ids of some.

    ``ids`` is empty if no image of the file can be read.
    """

    file: str
    words: str
    images: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found. ``unchecked`` images are in files of format 1, which hold no checksums."""

    gallery: str
    images: int
    files: int
    unchecked: int
    damaged: Sequence[DamagedFile]

    @property
    def has_list(self) -> bool:
        """Whether the list of files, without which no image is found, is intact."""
        return all(one.file != HEAD_NAME for one in self.damaged)

    @property
    def num_damaged(self) -> int:
        """Images that are damaged."""
        return sum(one.images for one in self.damaged)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "gallery": self.gallery,
            "images": self.images,
            "files": self.files,
            "unchecked": self.unchecked,
            "damaged_images": self.num_damaged,
            "damaged": [
                {
                    "file": one.file,
                    "what": one.words,
                    "images": one.images,
                    "ids": [*map(str, one.ids)],
                }
                for one in self.damaged
            ],
        }

    def text(self) -> str:
        """For the terminal: a line for the gallery, and one for each damaged file."""
        lines = [f"{self.gallery}: {self.images:,} images in {self.files} files"]
        if self.unchecked:
            lines.append(
                f"{self.unchecked:,} images are in files of an earlier version without checksums: "
                "only whether their features are finite was checked"
            )
        for one in self.damaged:
            ids = ", ".join(map(str, one.ids[:10])) + (", ..." if one.images > 10 else "")
            which = f": {one.images:,} images" + (f" (ids {ids})" if one.ids else "")
            lines.append(f"{one.file}: {one.words}{which if one.images else ''}")
        return "\n".join(lines if self.damaged else [*lines, "no damage found"])


def check_gallery(folder: Path) -> Checked:
    """Check all files of a gallery's folder completely, those that are there if the list is lost.

    Raises DataError if there is no gallery.
    """
    try:
        read_head(folder)
    except ModelFileError as error:
        return _without_head(folder, error)
    store = Store(folder, partial=True)
    store.salvage()
    rows = {one.name: one.rows for one in store.head.segments}
    damaged = [_damaged_file(one, rows[one.path.name]) for one in store.damage]
    damaged += _damaged_caches(folder)
    unchecked = sum(one.rows for one in store.head.segments if not one.seal)
    return Checked(str(folder), sum(rows.values()), len(rows), unchecked, damaged)


def _without_head(folder: Path, error: ModelFileError) -> Checked:
    """What is there of a gallery whose list of files is damaged."""
    images = unchecked = 0
    lost = DamagedFile(HEAD_NAME, f"{error}".partition("; reid gallery check")[0], 0, ())
    damaged = [lost]
    files = segment_files(folder)
    for path in files:
        try:
            rows, seal = rows_and_seal(path)
        except ModelFileError as problem:
            damaged.append(DamagedFile(path.name, str(problem), 0, ()))
            continue
        _, damage = salvaged(path, rows, seal)
        damaged += [_damaged_file(damage, rows)] if damage else []
        images += rows
        unchecked += 0 if seal else rows
    return Checked(str(folder), images, len(files), unchecked, [*damaged, *_damaged_caches(folder)])


def drop_damaged(folder: Path) -> Checked:
    """Remove damaged images, the index if it is damaged, and damaged verdicts.

    Returns what is left. Raises OutputError, and what ``check_gallery`` raises.
    """
    store = Store(folder, partial=True)
    with store.transaction():
        store.salvage()
        if store.damage:
            store.drop_damaged()
        for one in _damaged_caches(folder):
            if one.file in (VERDICTS_NAME, EARLIER_NAME):
                VerdictFile(folder).keep_intact()
            else:
                (folder / one.file).unlink(missing_ok=True)
    return check_gallery(folder)


def _damaged_file(damage: Damage, num_rows: int) -> DamagedFile:
    if damage.rows is None or damage.ids is None:
        return DamagedFile(damage.path.name, damage.words, num_rows, ())
    ids = damage.ids[damage.rows]
    return DamagedFile(damage.path.name, damage.words, len(ids), tuple(ids[:MOST_NAMED].tolist()))


def _damaged_caches(folder: Path) -> list[DamagedFile]:
    """The index and the verdicts, if they are damaged."""
    found = []
    index = folder.joinpath(*INDEX_FILE)
    try:
        if index.exists():
            open_columns(index, INDEX_FORMAT, "index of a gallery", "").require_undamaged()
    except ModelFileError as error:
        found.append(_cache(Path(*INDEX_FILE), f"{error}it is built again when needed"))
    for name, read in ((EARLIER_NAME, _read_earlier), (VERDICTS_NAME, _read_lines)):
        try:
            read(folder)
        except ModelFileError as error:
            found.append(_cache(Path(name), str(error)))
    return found


def _read_earlier(folder: Path) -> None:
    read_earlier(folder)


def _read_lines(folder: Path) -> None:
    read_lines(folder / VERDICTS_NAME)


def _cache(file: Path, words: str) -> DamagedFile:
    return DamagedFile(str(file), words, 0, ())
