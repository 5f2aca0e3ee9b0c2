"""A gallery's folder: segment files that never change, and one small file that lists them.

``gallery.json`` names the model and the segments. Replacing it, in one step, is the commit. Files
that a killed writer or a full disk leaves are not in the list: they are never read, and the next
writer removes them. Readers take no lock: they open the listed files, and read the list again if
a writer replaced it meanwhile.

Inferred: files of our own, without SQLite. Its write-ahead log cannot be shared between machines,
and reading it needs write access, which a full or read-only disk does not give; and two stores
would have to be kept consistent. Filters compare whole columns either way.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.errors import DataError, ModelFileError, OutputError, output_errors
from reid.files import write_text
from reid.locks import locked

from .segments import Segment, read_segment, write_segment

FORMAT = "reid gallery 1"
HEAD_NAME, LOCK_NAME = "gallery.json", "writer.lock"

SEGMENT_BYTES = 1 << 27
"""Merging never makes a larger file; larger additions are divided into files of this size."""

_FILE = re.compile(r"segment-\d{8,18}\.safetensors")
_MAX_COUNT = 10**17
"""Far above any real gallery; a larger number means a damaged file."""
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Head:
    """The content of ``gallery.json``: ``segments`` are (file name, rows), in the rows' order."""

    id: str
    model: Mapping[str, str]
    next_id: int = 0
    next_file: int = 0
    segments: tuple[tuple[str, int], ...] = ()

    def to_json(self) -> str:
        """The text of the file."""
        body = {"format": FORMAT, **dataclasses.asdict(self)}
        return json.dumps(body, indent=1) + "\n"


class Store:
    """The listed segments, as of the last ``refresh`` or commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.segments: list[Segment] = []
        self.head = _read_head(folder)
        self._seen: tuple[int, ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """Read the list again if it changed, and open new ``segments``. Raises ModelFileError."""
        for _ in range(_ATTEMPTS):
            seen = self._stamp()
            if seen == self._seen:
                return
            head = _read_head(self.folder)
            try:
                segments = self._opened(head)
            except ModelFileError:
                if self._stamp() == seen:
                    raise
                continue  # a writer replaced the listed files
            self.head, self.segments, self._seen = head, segments, seen
            return
        raise ModelFileError(f"{self.folder} changes faster than it can be read; try again")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Be the only writer, with a refreshed list. Raises OutputError, ModelFileError."""
        with locked(self.folder / LOCK_NAME):
            self.refresh()
            self._remove_leftovers()
            yield

    def append(self, parts: Sequence[Segment]) -> None:
        """Add rows, numbered from ``head.next_id``, in a transaction; one file per part.

        The last files are merged with the first part as long as each is at most twice as large
        as what follows: this keeps the files few, and a row is written about log2(N) times.
        """
        kept, size = len(self.segments), parts[0].num_bytes
        while kept and self.segments[kept - 1].num_bytes <= min(2 * size, SEGMENT_BYTES - size):
            kept -= 1
            size += self.segments[kept].num_bytes
        first = [*self.segments[kept:], parts[0]]
        files: list[Segment | list[Segment]] = [*self.segments[:kept], first]
        files += [[part] for part in parts[1:]]
        self._commit(files, self.head.next_id + sum(map(len, parts)))

    def replace(self, segments: Sequence[Segment]) -> None:
        """Make these the only segments, in a transaction; those in memory are written."""
        files = [one if one.path is not None else [one] for one in segments]
        self._commit(files, self.head.next_id)

    def _commit(self, files: Sequence[Segment | list[Segment]], next_id: int) -> None:
        """Write each list of segments as one file, then the head. Raises OutputError."""
        number, listed = self.head.next_file, []
        try:
            for file in files:
                if isinstance(file, Segment) and file.path is not None:
                    listed.append((file.path.name, len(file)))
                elif isinstance(file, list):
                    name = f"segment-{number:08d}.safetensors"
                    write_segment(self.folder / name, file)
                    listed.append((name, sum(map(len, file))))
                    number += 1
            head = dataclasses.replace(
                self.head, next_id=next_id, next_file=number, segments=tuple(listed)
            )
            _sync(self.folder)
            write_text(self.folder / HEAD_NAME, head.to_json())
            _sync(self.folder)
        finally:
            self.refresh()  # after an error: find out which of the two heads is there
            self._remove_leftovers()

    def _opened(self, head: Head) -> list[Segment]:
        """The segments of a head; those that are open already are reused."""
        known = {one.path.name: one for one in self.segments if one.path is not None}
        if head.id != self.head.id:  # the folder now holds another gallery
            known = {}
        segments = []
        for name, num_rows in head.segments:
            segments.append(known.get(name) or read_segment(self.folder / name, num_rows))
        _require_one_kind(self.folder, segments, head)
        return segments

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
        counted = {name for name, _ in self.head.segments}
        with output_errors(self.folder):
            for name in os.listdir(self.folder):
                if (_FILE.fullmatch(name) and name not in counted) or name.endswith(".part"):
                    (self.folder / name).unlink(missing_ok=True)


def create_store(folder: Path, model: Mapping[str, str]) -> None:
    """Create an empty gallery if there is none. Raises OutputError if other files are there."""
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
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
            write_text(folder / HEAD_NAME, Head(uuid.uuid4().hex, dict(model)).to_json())


def _read_head(folder: Path) -> Head:
    """Raises DataError if there is no gallery, ModelFileError for a damaged one."""
    path = folder / HEAD_NAME
    try:
        body: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{folder}: no gallery there; make one: reid index MODEL IMAGES --gallery {folder}"
        ) from None
    except (OSError, RecursionError, ValueError) as error:
        raise _damaged(path, error) from None
    try:
        if body.pop("format") != FORMAT:
            raise ValueError(f"expected the format {FORMAT!r}")
        segments = tuple((str(name), int(rows)) for name, rows in body.pop("segments"))
        head = Head(segments=segments, **body)
        names = [name for name, _ in segments]
        numbers = (head.next_id, head.next_file, *(rows for _, rows in segments))
        if not all(map(_FILE.fullmatch, names)) or len(set(names)) < len(names):
            raise ValueError("invalid segment name")
        whole = all(type(number) is int and 0 <= number < _MAX_COUNT for number in numbers)
        if not whole or 0 in numbers[2:]:
            raise ValueError("invalid count")
        if not isinstance(head.id, str) or not isinstance(head.model, dict):
            raise ValueError("invalid id or model")
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise _damaged(path, error) from None
    return head


def _damaged(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(
        f"{path} is damaged ({error}); restore it from a copy, or index the images again into a "
        "new gallery"
    )


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


def _sync(folder: Path) -> None:
    """Flush the folder: the names of files written before are then on the disk."""
    with output_errors(folder):
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
