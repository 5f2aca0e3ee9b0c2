"""Events in a file. A full disk stops no camera: it is reported once, retried, and counted.

A file may be rotated: at a size, and each day (UTC) where old ones are removed. ``events.jsonl``
becomes ``events.2026-05-01T12-30-00Z.jsonl``, the time of its last line.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from reid.closing import Closeable
from reid.errors import OutputError, output_errors
from reid.files import open_private
from reid.progress import Say

RETRY_S = 1.0
"""How often a file that cannot be written is tried."""

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC

MOST_WAITING = 4 << 20
"""Bytes of lines that wait for room; beyond them the oldest are lost."""


_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file of events is rotated, and how long the old ones are kept; None: never, always.

    With ``keep_days`` it is rotated each day, so that no line is kept for more than a day longer.
    """

    max_mb: float | None = None
    keep_days: float | None = None


NO_ROTATION = Rotation()
"""One file that grows."""


def rotated_files(path: Path) -> list[Path]:
    """The older files of ``path``, the oldest first."""
    name = re.compile(
        re.escape(path.stem) + r"\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ(-\d+)?" + re.escape(path.suffix)
    )
    try:
        names = [found for found in os.listdir(path.parent) if name.fullmatch(found)]
    except OSError:
        return []
    files = [path.with_name(found) for found in sorted(names)]
    return [file for file in files if file.is_file() and not file.is_symlink()]


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
        *,
        rotation: Rotation = NO_ROTATION,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.lost = 0
        """How many lines were dropped."""
        self._path, self._say, self._clock = path, say, clock
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._cut = False
        self._failed_s: float | None = None
        self._rotation, self._now = rotation, now
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_private(path, _FLAGS)
        self._end_incomplete_line()
        self._day = self._last_day()
        self._remove_old()

    def write(self, text: str) -> None:
        """Append whole lines; never raises for a file that cannot be written."""
        self._rotate_daily()
        for line in text.encode().splitlines(keepends=True):
            self._waiting.append(line)
            self._bytes += len(line)
        while self._bytes > MOST_WAITING and len(self._waiting) > 1 + self._cut:
            self._drop()
        if self._failed_s is None or self._clock() - self._failed_s >= RETRY_S:
            self._flush()

    def tend(self) -> None:
        """Begin a new day's file, and remove old ones, though no event comes."""
        self._rotate_daily()

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
                line = self._waiting[0]
                if not self._cut and self._too_large(len(line)):
                    self._rotate()
                written = os.write(self._file, line)
                self._bytes -= written
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

    def _too_large(self, more: int) -> bool:
        if self._rotation.max_mb is None:
            return False
        status = os.fstat(self._file)
        most = self._rotation.max_mb * (1 << 20)
        return stat.S_ISREG(status.st_mode) and status.st_size > 0 and status.st_size + more > most

    def _rotate_daily(self) -> None:
        """Begin a new file on a new day, where old ones are to be removed."""
        today = int(self._now() // _DAY_S)
        if self._rotation.keep_days is None or today == self._day or self._cut:
            return
        self._day = today
        with suppress(OSError):
            if stat.S_ISREG((status := os.fstat(self._file)).st_mode) and status.st_size:
                self._rotate()
        self._remove_old()

    def _rotate(self) -> None:
        """Rename the file and open a new one. Raises OSError, and the old one goes on."""
        ended = datetime.fromtimestamp(os.fstat(self._file).st_mtime, timezone.utc)
        name = f"{self._path.stem}.{ended:%Y-%m-%dT%H-%M-%SZ}"
        old, number = self._path.with_name(name + self._path.suffix), 1
        while old.exists():
            number += 1
            old = self._path.with_name(f"{name}-{number}{self._path.suffix}")
        os.rename(self._path, old)
        try:
            new = open_private(self._path, _FLAGS)
        except OSError:
            os.rename(old, self._path)
            raise
        os.fsync(self._file)
        os.close(self._file)
        self._file = new
        self._remove_old()

    def _remove_old(self) -> None:
        if self._rotation.keep_days is None:
            return
        for old in rotated_files(self._path):
            with suppress(OSError):
                if old.stat().st_mtime < self._now() - self._rotation.keep_days * _DAY_S:
                    old.unlink()

    def _last_day(self) -> int:
        """The day of the file's last line, so that a restart rotates a file of yesterday."""
        status = os.fstat(self._file)
        return int((status.st_mtime if status.st_size else self._now()) // _DAY_S)

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


def _reason(path: Path, error: OSError) -> str:
    try:
        with output_errors(path):
            raise error
    except OutputError as named:
        return str(named)
