"""Events in a file. A full disk stops no camera: it is reported once, retried, and counted."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from reid.closing import Closeable
from reid.errors import OutputError, output_errors
from reid.files import open_private
from reid.progress import Say

RETRY_S = 1.0
"""How often a file that cannot be written is tried."""

MOST_WAITING = 4 << 20
"""Bytes of lines that wait for room; beyond them the oldest are lost."""


class EventLog(Closeable):
    """Appends lines to ``path``. A context manager; a new file is for its owner alone.

    While the file cannot be written, lines wait, and ``say`` gets one line about it; another
    when it can be written again. Raises OutputError if it cannot be opened.
    """

    def __init__(self, path: Path, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self.lost = 0
        """How many lines were dropped."""
        self._path, self._say, self._clock = path, say, clock
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._cut = False
        self._failed_s: float | None = None
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._file = open_private(path, flags)
        self._end_incomplete_line()

    def write(self, text: str) -> None:
        """Append whole lines; never raises for a file that cannot be written."""
        for line in text.encode().splitlines(keepends=True):
            self._waiting.append(line)
            self._bytes += len(line)
        while self._bytes > MOST_WAITING and len(self._waiting) > 1 + self._cut:
            self._drop()
        if self._failed_s is None or self._clock() - self._failed_s >= RETRY_S:
            self._flush()

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
