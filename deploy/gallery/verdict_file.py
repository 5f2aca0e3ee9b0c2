"""The verdicts of a gallery in a folder: a file that only grows, a line for each.

``verdicts.jsonl`` begins with a line that names its format. Each line after it is the CRC-32 of a
JSON object, in hexadecimal, and the object. A line counts once its newline is there: what a killed
process or a full disk left of one is never read, and the next writer removes it. Writers lock the
file itself, never the gallery, so that a verdict does not wait while images are added.

Inferred: a file of our own, without SQLite, for the reasons in ``reid.deploy.gallery.store``. All
verdicts are held in memory by query, some 300 bytes each; only new lines are read again.

Erasing writes the file again without the lines, so that no page of it keeps them.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import stat
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reid.errors import ModelFileError, OutputError, output_errors
from reid.files import SHARED, atomic_path, open_private, same_group_as

from .gallery import Confirmation
from .head import HEAD_NAME
from .sealed import unsealed

VERDICTS_NAME = "verdicts.jsonl"
EARLIER_NAME = "confirmed.json"
"""The file of earlier versions, one JSON document; it is read, and never written."""

FORMAT = "reid gallery verdicts 1"

PATIENCE_S = 10.0
"""How long a writer waits for another one; each holds the file for milliseconds."""

_PAUSE_S = 0.005
_HEAD = (json.dumps({"format": FORMAT}) + "\n").encode()
_QUERY = b'{"query": "'
_KINDS: dict[str, Any] = {
    "query": str,
    "id": int,
    "same": (bool, type(None)),
    "time_s": (int, float),
    "user": str,
}


class VerdictFile:
    """The verdicts of one gallery's folder, as they are in the file at each call."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / VERDICTS_NAME
        self._seen: tuple[int, ...] = ()
        self._earlier_seen: tuple[int, ...] = ()
        self._read_to = 0
        self._earlier: list[Confirmation] = []
        self._bodies: list[bytes] = []
        self._by_query: dict[str, list[bytes]] = {}

    def all(self) -> list[Confirmation]:
        """All verdicts, in order. Raises ModelFileError for a damaged file."""
        self._refresh()
        later = _parsed(self._bodies, self._path)
        known = set(later) if self._earlier else set()  # a killed eraser leaves both files
        return [*(one for one in self._earlier if one not in known), *later]

    def of_query(self, query: str) -> dict[int, Confirmation]:
        """See ``GalleryStore.verdicts``. Raises ModelFileError for a damaged file."""
        self._refresh()
        earlier = [one for one in self._earlier if one.query == query]
        return newest([*earlier, *_parsed(self._by_query.get(query, ()), self._path)])

    def append(self, verdict: Confirmation) -> None:
        """Store a verdict; when this returns, it outlives a power cut. Raises OutputError."""
        with self._locked() as file, output_errors(self._path):
            size = _whole_size(file, os.fstat(file).st_size)
            content = b"" if size else _HEAD
            content += _line_of(verdict)
            try:
                os.ftruncate(file, size)
                written = os.pwrite(file, content, size)
                if written < len(content):
                    os.pwrite(file, content[written:], size + written)  # raises what stopped it
                os.fsync(file)
            except OSError:
                self._undo(file, size)
                raise

    def erase(self, is_erased: Callable[[Confirmation], bool]) -> int:
        """Write the file again without these verdicts; returns how many there were.

        Raises OutputError, and ModelFileError for a damaged file.
        """
        if not any(map(is_erased, self.all())):
            return 0
        with self._locked() as file:
            before = self.all()
            kept = [one for one in before if not is_erased(one)]
            self._write(kept, file)
            return len(before) - len(kept)

    def replace(self, verdicts: Sequence[Confirmation]) -> None:
        """Make these the only verdicts. Raises OutputError."""
        with self._locked() as file:
            self._write(verdicts, file)

    def keep_intact(self) -> int:
        """Write the file again without its damaged lines; returns how many there were.

        Raises OutputError.
        """
        with self._locked() as file:
            content = _content(file)
            found = [_verdict_of(line) for line in content.splitlines()[1:]]
            kept = [one for one in found if one is not None]
            try:
                earlier, lost = read_earlier(self._folder), 0
            except ModelFileError:
                earlier, lost = [], 1
            self._write([*earlier, *kept], file)
            return len(found) - len(kept) + lost

    def _write(self, kept: Sequence[Confirmation], locked: int) -> None:
        """Replace the file, and the one of earlier versions, whose verdicts are in ``kept``."""
        with same_group_as(self._folder / HEAD_NAME):
            with atomic_path(self._path, private=True) as temporary:
                temporary.write_bytes(_HEAD + b"".join(map(_line_of, kept)))
                if stat.S_IMODE(temporary.stat().st_mode) == SHARED:
                    temporary.chmod(SHARED | stat.S_IWGRP)  # others of the group append to it
            with output_errors(self._path):
                (self._folder / EARLIER_NAME).unlink(missing_ok=True)
        with output_errors(self._path):
            os.ftruncate(locked, 0)  # a reader that still has it open sees nothing erased

    def _undo(self, file: int, size: int) -> None:
        """After an error: the file as it was, or none if it was new."""
        os.ftruncate(file, size)
        if not size:
            self._path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, open and locked; it is created if there is none. Raises OutputError."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with output_errors(self._path), same_group_as(self._folder / HEAD_NAME):
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
                file = open_private(self._path, flags, written_by_group=True)
            try:
                with output_errors(self._path):
                    _acquire(file, deadline, self._path)
                if _is_same(file, self._path):  # else another writer replaced it meanwhile
                    yield file
                    return
            finally:
                os.close(file)

    def _refresh(self) -> None:
        """Read what was added, or all if the file was replaced. Raises ModelFileError."""
        earlier_seen = _stamp(self._folder / EARLIER_NAME)
        seen = _stamp(self._path)
        if (seen, earlier_seen) == (self._seen, self._earlier_seen):
            return
        was_replaced = seen[:1] != self._seen[:1] or (seen[2:] or (0,)) < (self._read_to,)
        if was_replaced or earlier_seen != self._earlier_seen:
            self._read_to, self._bodies, self._by_query = 0, [], {}
            self._earlier = read_earlier(self._folder)
        new, read_to = _bodies_from(self._path, self._read_to)
        self._bodies += new
        for body in new:
            self._by_query.setdefault(_query_of(body), []).append(body)
        self._seen, self._earlier_seen, self._read_to = seen, earlier_seen, read_to


def newest(verdicts: Sequence[Confirmation]) -> dict[int, Confirmation]:
    """The newest verdict on each image; those that were taken back are left out.

    Of each user the newest counts, and of all users the newest: one user's undoing leaves what
    another said.
    """
    of_user: dict[tuple[int, str], Confirmation] = {}
    for one in verdicts:
        before = of_user.get((one.id, one.user))
        if before is None or one.time_s >= before.time_s:
            of_user[one.id, one.user] = one
    found: dict[int, Confirmation] = {}
    for one in sorted(of_user.values(), key=lambda one: one.time_s):
        if one.same is not None:
            found[one.id] = one
    return found


def read_earlier(folder: Path) -> list[Confirmation]:
    """The verdicts in the file of earlier versions. Raises ModelFileError for a damaged one."""
    path = folder / EARLIER_NAME
    try:
        body = json.loads(path.read_bytes())
        if isinstance(body, dict):  # a list in files of the earliest, without a checksum
            body = unsealed(body, needed=True)["confirmed"]
        return [_verdict_from(row) for row in body]
    except FileNotFoundError:
        return []
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); remove it") from None


def read_lines(path: Path) -> list[Confirmation]:
    """The verdicts of a file. Raises ModelFileError for a damaged one."""
    return _parsed(_bodies_from(path, 0)[0], path)


def _bodies_from(path: Path, start: int) -> tuple[list[bytes], int]:
    """The JSON of each line from byte ``start`` on, and the byte after the last whole line.

    Only their checksums are compared. Raises ModelFileError for a damaged file.
    """
    try:
        with open(path, "rb") as file:
            file.seek(start)
            content = file.read()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror})") from None
    content = content[: content.rfind(b"\n") + 1]
    lines = content.split(b"\n")[:-1]
    if not start and lines:
        head = lines.pop(0) + b"\n"
        if head != _HEAD:
            raise ModelFileError(f"{path} is damaged (it does not begin with {FORMAT!r})")
    bodies = [_body_of(line) for line in lines]
    if None in bodies:
        raise _damaged(path, bodies.index(None) + 1)
    return [body for body in bodies if body is not None], start + len(content)


def _damaged(path: Path, number: int) -> ModelFileError:
    return ModelFileError(
        f"{path} is damaged (in verdict {number}); reid gallery check --drop-damaged keeps the "
        "others"
    )


def _parsed(bodies: Sequence[bytes], path: Path) -> list[Confirmation]:
    """Raises ModelFileError for anything but verdicts."""
    found = []
    for number, body in enumerate(bodies, 1):
        try:
            found.append(_verdict_from(json.loads(body)))
        except (AttributeError, RecursionError, TypeError, ValueError):
            raise _damaged(path, number) from None
    return found


def _query_of(body: bytes) -> str:
    """The query of a verdict: read without the rest, where it is written as this version does."""
    if body.startswith(_QUERY):
        query, _, _ = body[len(_QUERY) :].partition(b'"')
        if b"\\" not in query:
            return query.decode("utf-8", "replace")
    try:
        return str(json.loads(body)["query"])
    except (KeyError, RecursionError, TypeError, ValueError):
        return ""


def _body_of(line: bytes) -> bytes | None:
    """A line's JSON; None where it differs from its checksum."""
    check, _, body = line.partition(b" ")
    return body if check == b"%08x" % zlib.crc32(body) else None


def _line_of(verdict: Confirmation) -> bytes:
    body = json.dumps(dataclasses.asdict(verdict)).encode()
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _verdict_of(line: bytes) -> Confirmation | None:
    """A line's verdict; None for a damaged line."""
    body = _body_of(line)
    try:
        return None if body is None else _verdict_from(json.loads(body))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None


def _verdict_from(row: dict[str, Any]) -> Confirmation:
    """Raises TypeError or ValueError for anything else."""
    found = Confirmation(**row)
    for name, kind in _KINDS.items():
        if not isinstance(getattr(found, name), kind):
            raise ValueError("malformed confirmation")
    if isinstance(found.id, bool):
        raise ValueError("malformed confirmation")
    return found


def _whole_size(file: int, size: int) -> int:
    """The size without an unfinished last line."""
    block = 1 << 16
    for end in range(size, 0, -block):
        start = max(0, end - block)
        at = os.pread(file, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
    return 0


def _content(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


def _acquire(file: int, deadline: float, path: Path) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise OutputError(
                    f"{path} has been locked by another process for {PATIENCE_S:g} s; stop it, or "
                    "try again"
                ) from None
        time.sleep(_PAUSE_S)


def _is_same(file: int, path: Path) -> bool:
    return _stamp(path)[:1] == (os.fstat(file).st_ino,)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def forgotten(queries: Collection[str], ids: Collection[int]) -> Callable[[Confirmation], bool]:
    """Whether a verdict is of one of these queries, or on one of these images."""
    names, numbers = frozenset(queries), frozenset(ids)
    return lambda one: one.query in names or one.id in numbers
