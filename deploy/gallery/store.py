"""A gallery's folder: segment files that never change, and one small file that lists them.

``gallery.json`` names the model and the segments. Replacing it, in one step, is the commit. Files
that a killed writer or a full disk leaves are not in the list: they are never read, and the next
writer removes them. Readers take no lock: they open the listed files, and read the list again if
a writer replaced it meanwhile.

Inferred: files of our own, without SQLite. Its write-ahead log cannot be shared between machines,
and reading it needs write access, which a full or read-only disk does not give; and two stores
would have to be kept consistent. Filters compare whole columns either way.

A gallery shows people, so its files are for their owner, or for the group that it was made for.
"""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reid.errors import DataError, ModelFileError, OutputError, output_errors
from reid.files import make_private_folder, same_group_as, sync_folder, write_text
from reid.locks import locked

from .head import HEAD_NAME, SEGMENT_FILE, Head, ListedSegment, read_head
from .segment_files import read_segment, salvaged, write_segment
from .segments import Damage, Segment

LOCK_NAME = "writer.lock"

SEGMENT_BYTES = 1 << 27
"""Merging never makes a larger file; larger additions are divided into files of this size."""

_ATTEMPTS = 20


class Store:
    """The listed segments, as of the last ``refresh`` or commit.

    If ``partial``, damaged rows are left out of ``segments`` and ``damage`` says so; otherwise
    they are an error.
    """

    def __init__(self, folder: Path, *, partial: bool = False) -> None:
        self.folder = folder
        self.partial = partial
        self.segments: list[Segment] = []
        self.damage: list[Damage] = []
        self.head = read_head(folder)
        self._seen: tuple[int, ...] = ()
        self._damaged_files: dict[Path, tuple[int, ...]] = {}
        self.refresh()

    @property
    def num_left_out(self) -> int:
        """Rows that are listed, but damaged."""
        return sum(one.rows for one in self.head.segments) - sum(map(len, self.segments))

    def refresh(self) -> None:
        """Read the list again if it changed, and open new ``segments``. Raises ModelFileError.

        Also checks that no file was cut short, which a search would not survive.
        """
        for _ in range(_ATTEMPTS):
            seen = self._stamp()
            if seen == self._seen and not self._was_mended():
                self._require_sizes()
                return
            head = read_head(self.folder)
            try:
                segments, damage = self._opened(head)
            except ModelFileError:
                if self._stamp() == seen:
                    raise
                continue  # a writer replaced the listed files
            if damage and self._stamp() != seen:
                continue
            self.head, self._seen = head, seen
            self._take(segments, damage)
            return
        raise ModelFileError(f"{self.folder} changes faster than it can be read; try again")

    def salvage(self) -> None:
        """Check all files completely, and take the intact rows of each as ``segments``."""
        segments, damage = [], []
        for one in self.head.segments:
            segment, found = salvaged(self.folder / one.name, one.rows, one.seal)
            segments += [segment] if segment is not None else []
            damage += [found] if found is not None else []
        self._take(segments, damage)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Be the only writer, with a refreshed list. Raises OutputError, ModelFileError."""
        with same_group_as(self.folder / HEAD_NAME), locked(self.folder / LOCK_NAME):
            self.refresh()
            self._remove_leftovers()
            yield

    def append(self, parts: Sequence[Segment], next_id: int | None = None) -> None:
        """Add rows, numbered from ``head.next_id``, in a transaction; one file per part.

        Rows of other numbers, all larger than those that are there, come with the ``next_id``.

        The last files are merged with the first part as long as each is at most twice as large
        as what follows: this keeps the files few, and a row is written about log2(N) times.
        Raises DamagedRowsError rather than merge damaged rows.
        """
        self._require_whole()
        kept, size = len(self.segments), parts[0].num_bytes
        while kept and self.segments[kept - 1].num_bytes <= min(2 * size, SEGMENT_BYTES - size):
            kept -= 1
            size += self.segments[kept].num_bytes
        for segment in self.segments[kept:]:
            segment.require_intact()
        first = [*self.segments[kept:], parts[0]]
        files: list[Segment | list[Segment]] = [*self.segments[:kept], first]
        files += [[part] for part in parts[1:]]
        following = self.head.next_id + sum(map(len, parts)) if next_id is None else next_id
        self._commit(files, following)

    def renumber(self, next_id: int) -> None:
        """Number the rows that are added next from ``next_id`` on, in a transaction."""
        if next_id > self.head.next_id:
            self._commit(self.segments, next_id)

    def replace(self, segments: Sequence[Segment]) -> None:
        """Make these the only segments, in a transaction; those in memory are written."""
        self._require_whole()
        files = [one if one.file is not None else [one] for one in segments]
        self._commit(files, self.head.next_id)

    def drop_damaged(self) -> None:
        """Write the intact rows of damaged files, and remove those files, in a transaction."""
        self.salvage()
        files = [one if one.file is not None else [one] for one in self.segments]
        self.damage, self._damaged_files = [], {}
        self._commit(files, self.head.next_id)

    def _commit(self, files: Sequence[Segment | list[Segment]], next_id: int) -> None:
        """Write each list of segments as one file, then the head. Raises OutputError."""
        number, listed = self.head.next_file, []
        try:
            for file in files:
                if isinstance(file, Segment) and file.path is not None:
                    listed.append(ListedSegment(file.path.name, len(file), file.seal))
                elif isinstance(file, list):
                    name = f"segment-{number:08d}.safetensors"
                    seal = write_segment(self.folder / name, file)
                    listed.append(ListedSegment(name, sum(map(len, file)), seal))
                    number += 1
            head = dataclasses.replace(
                self.head, next_id=next_id, next_file=number, segments=tuple(listed)
            )
            with output_errors(self.folder):
                sync_folder(self.folder)
            write_text(self.folder / HEAD_NAME, head.to_json(), private=True)
        finally:
            self.refresh()  # after an error: find out which of the two heads is there
            self._remove_leftovers()

    def _take(self, segments: list[Segment], damage: list[Damage]) -> None:
        self.segments, self.damage = segments, damage
        self._damaged_files = {one.path: _stamp(one.path) for one in damage}

    def _opened(self, head: Head) -> tuple[list[Segment], list[Damage]]:
        """The segments of a head; those that are open already are reused."""
        known = {one.path.name: one for one in self.segments if one.file is not None and one.path}
        if head.id != self.head.id:  # the folder now holds another gallery
            known = {}
        segments, damage = [], []
        for listed in head.segments:
            segment, found = known.get(listed.name), None
            if segment is None:
                segment, found = self._open(listed)
            segments += [segment] if segment is not None else []
            damage += [found] if found is not None else []
        _require_one_kind(self.folder, segments, head)
        return segments, damage

    def _open(self, listed: ListedSegment) -> tuple[Segment | None, Damage | None]:
        path = self.folder / listed.name
        try:
            return read_segment(path, listed.rows, listed.seal), None
        except ModelFileError:
            if not self.partial:
                raise
            return salvaged(path, listed.rows, listed.seal)

    def _require_sizes(self) -> None:
        """Raise ModelFileError for a file that was cut short; if ``partial``, leave it out."""
        try:
            for segment in self.segments:
                segment.require_size()
        except ModelFileError:
            if not self.partial:
                raise
            self.salvage()

    def _require_whole(self) -> None:
        """Raise ModelFileError if rows were left out, which writing would lose."""
        if self.damage:
            raise ModelFileError(
                f"{self.folder} is damaged in {self.damage[0].path.name}, so that nothing is "
                f"written; see reid gallery check {self.folder}"
            )

    def _was_mended(self) -> bool:
        """Whether a damaged file was replaced or restored."""
        return any(_stamp(path) != seen for path, seen in self._damaged_files.items())

    def _stamp(self) -> tuple[int, ...]:
        try:
            status = os.stat(self.folder / HEAD_NAME)
        except OSError as error:
            raise DataError(
                f"{self.folder}: the gallery is gone ({error.strerror}); index the images again"
            ) from None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _remove_leftovers(self) -> None:
        """Remove unlisted files: of a killed writer, of a full disk, or merged into others."""
        counted = {one.name for one in self.head.segments}
        with output_errors(self.folder):
            for name in os.listdir(self.folder):
                if (SEGMENT_FILE.fullmatch(name) and name not in counted) or name.endswith(".part"):
                    (self.folder / name).unlink(missing_ok=True)


def create_store(folder: Path, model: Mapping[str, str]) -> None:
    """Create an empty gallery if there is none. Raises OutputError if other files are there."""
    with output_errors(folder):
        make_private_folder(folder)
        others = {name for name in os.listdir(folder) if not name.endswith(".part")}
    if HEAD_NAME in others:
        return
    if others - {LOCK_NAME}:
        raise OutputError(
            f"{folder} holds other files ({min(others - {LOCK_NAME})}) and no gallery; name a new "
            "folder"
        )
    with locked(folder / LOCK_NAME):
        if not (folder / HEAD_NAME).exists():
            head = Head(uuid.uuid4().hex, dict(model))
            write_text(folder / HEAD_NAME, head.to_json(), private=True)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _require_one_kind(folder: Path, segments: Sequence[Segment], head: Head) -> None:
    """Check that all segments have the same feature arrays and that ids ascend over all of them."""
    kinds = {
        tuple(sorted((k, str(v.dtype), v.shape[1:]) for k, v in one.described.items()))
        for one in segments
    }
    edges = [int(one.columns["id"][at]) for one in segments if len(one) for at in (0, len(one) - 1)]
    rising = edges == sorted(edges) and all(0 <= edge < head.next_id for edge in edges)
    if len(kinds) > 1 or not rising:
        raise ModelFileError(
            f"{folder}: its files do not belong together; restore the folder from a copy, or "
            "index the images again into a new gallery"
        )
