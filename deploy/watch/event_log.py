"""Events in a file. A full disk stops no camera: it is reported once, retried, and counted.

A file that has grown large, or old, becomes ``events.jsonl.2026-05-01T12-30-00Z`` (when it was put
aside) and a new one is begun; old ones are removed.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from reid.closing import Closeable
from reid.errors import OutputError, output_errors
from reid.files import is_regular, open_private
from reid.progress import Say

RETRY_S = 1.0
"""How often a file that cannot be written is tried."""

MOST_WAITING = 4 << 20
"""Bytes of lines that wait for room; beyond them the oldest are lost."""


_DAY_S = 86_400.0
_OLD = re.compile(r"\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ(-\d+)?")
_CHECK_S = 3600.0
"""How often old files are looked for."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file of events is put aside, and removed; None is never.

    ``max_bytes`` is its size, ``keep_days`` the age at which what was put aside is removed. With
    ``keep_days`` a file is put aside after a tenth of them at the latest (a choice), so that no
    line is kept much longer.
    """

    max_bytes: int | None = None
    keep_days: float | None = None

    @property
    def longest_s(self) -> float:
        """The age at which a file is put aside."""
        return float("inf") if self.keep_days is None else self.keep_days * _DAY_S / 10


NEVER = Rotation()


def old_files(path: Path) -> Iterator[Path]:
    """The files that were put aside from ``path``, oldest first."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return
    for name in sorted(names):
        if name.startswith(path.name) and _OLD.fullmatch(name.removeprefix(path.name)):
            yield path.parent / name


class EventLog(Closeable):
    """Appends lines to ``path``. A context manager; a new file is for its owner alone.

    While the file cannot be written, lines wait, and ``say`` gets one line about it; another
    when it can be written again. Raises OutputError if it cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        say: Say,
        clock: Callable[[], float] = time.monotonic,
        rotation: Rotation = NEVER,
    ) -> None:
        self.lost = 0
        """How many lines were dropped."""
        self._path, self._say, self._clock = path, say, clock
        self._rotation = rotation
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._cut = False
        self._failed_s: float | None = None
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._open()
        self._remove_old()

    def write(self, text: str) -> None:
        """Append whole lines; never raises for a file that cannot be written."""
        for line in text.encode().splitlines(keepends=True):
            self._waiting.append(line)
            self._bytes += len(line)
        while self._bytes > MOST_WAITING and len(self._waiting) > 1 + self._cut:
            self._drop()
        if self._failed_s is None or self._clock() - self._failed_s >= RETRY_S:
            self._flush()

    @property
    def waiting(self) -> int:
        """Lines that wait for room."""
        return len(self._waiting)

    def _open(self) -> None:
        with output_errors(self._path):
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._file = open_private(self._path, flags)
        self._end_incomplete_line()
        # How old an earlier run's first line is, is not known: its last one counts.
        status = os.fstat(self._file)
        age_s = max(0.0, time.time() - status.st_mtime) if status.st_size else 0.0
        self._begun_s = self._clock() - age_s
        self._size = status.st_size

    def close(self) -> None:
        """Write what waits, if that is possible; the rest is counted as lost."""
        if self._file < 0:
            return
        self._flush()
        self.lost += len(self._waiting)
        self._waiting.clear()
        with suppress(OSError):  # a pipe, or a disk whose failure was reported
            os.fsync(self._file)
        os.close(self._file)
        self._file = -1

    def _flush(self) -> None:
        try:
            while self._waiting:
                if not self._cut:
                    self._put_aside_if_due()
                line = self._waiting[0]
                written = os.write(self._file, line)
                self._bytes -= written
                self._size += written
                self._cut = written < len(line)
                if self._cut:
                    self._waiting[0] = line[written:]
                else:
                    self._waiting.popleft()
        except OSError as error:
            if self._failed_s is None:
                self._say(f"reid: {_reason(self._path, error)}; the cameras go on, events wait")
            self._failed_s = self._clock()
            return
        if self._failed_s is not None:
            self._failed_s = None
            lost = f"; {self.lost} were lost" if self.lost else ""
            self._say(f"reid: {self._path}: events are written again{lost}")

    def tend(self) -> None:
        """Put the file aside if it is due, though no event comes; for each round of frames."""
        if not self._cut and self._failed_s is None and self._rotation != NEVER:
            with suppress(OSError):
                self._put_aside_if_due()

    def _put_aside_if_due(self) -> None:
        """Begin a new file where this one is large or old; a line is never in two."""
        now_s, most = self._clock(), self._rotation.max_bytes
        large = most is not None and self._size >= most
        old = now_s - self._begun_s > self._rotation.longest_s
        if self._size and (large or old) and is_regular(self._path):
            before, name = self._file, _free_name(self._path)
            os.rename(self._path, name)
            try:
                self._open()
            except OutputError:
                os.rename(name, self._path)  # there is no room for another file: go on with this
                self._begun_s, self._size = now_s, 0
                return
            os.close(before)
            self._remove_old()
        elif now_s - self._removed_s > _CHECK_S:
            self._remove_old()

    def _remove_old(self) -> None:
        self._removed_s = self._clock()
        if self._rotation.keep_days is None:
            return
        oldest_s = time.time() - self._rotation.keep_days * _DAY_S
        for path in old_files(self._path):
            with suppress(OSError):
                if path.stat().st_mtime < oldest_s:
                    path.unlink()

    def _drop(self) -> None:
        """Lose the oldest line that is not partly written."""
        begun = self._waiting.popleft() if self._cut else None
        self._bytes -= len(self._waiting.popleft())
        self.lost += 1
        if begun is not None:
            self._waiting.appendleft(begun)

    def _end_incomplete_line(self) -> None:
        """An earlier process may have been killed in the middle of one."""
        try:
            end = os.lseek(self._file, 0, os.SEEK_END)
            incomplete = end > 0 and os.pread(self._file, 1, end - 1) != b"\n"
        except OSError:  # a pipe or device
            return
        if incomplete:
            self._waiting.append(b"\n")
            self._bytes += 1


def _free_name(path: Path) -> Path:
    """A name for a file that is put aside now."""
    stem = f"{path.name}.{datetime.now(timezone.utc):%Y-%m-%dT%H-%M-%SZ}"
    name, number = path.with_name(stem), 1
    while name.exists():
        number += 1
        name = path.with_name(f"{stem}-{number}")
    return name


def _reason(path: Path, error: OSError) -> str:
    try:
        with output_errors(path):
            raise error
    except OutputError as named:
        return str(named)
