"""The access log: who searched for what, and when. JSON lines, removed by retention alone.

A line has the time, the user, the client's address, what was asked for and the status, and where
they count the query's hash, the ids looked at, confirmed or taken away. No token and no image is
in it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

from reid.errors import DataError, OutputError, output_errors
from reid.files import open_private, write_atomically

from ..gallery.times import seconds_from_text, text_from_seconds
from .refusals import Refusal

KEPT_DAYS = 90.0
"""How long lines are kept by default (a choice)."""

_DAY_S = 86_400.0
_PATIENCE_S = 10.0
"""How long to wait for another server, which holds the file for milliseconds."""

_PAUSE_S = 0.005
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW


class AccessLog:
    """Appends to ``file``, which other servers may share, and removes lines after ``days``.

    Raises OutputError if it cannot be written.
    """

    def __init__(
        self, file: Path, days: float = KEPT_DAYS, clock: Callable[[], float] = time.time
    ) -> None:
        self.file, self.days, self._clock = file, days, clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reid-access-log")
        self._lock = threading.Lock()
        self._next_prune_s = 0.0
        self.prune()

    async def write(
        self, user: str, client: str, what: str, status: int, details: Mapping[str, Any]
    ) -> None:
        """Append a line. Raises Refusal if it cannot be kept: no answer goes out unrecorded."""
        line = {
            "time": text_from_seconds(self._clock()),
            "user": user,
            "client": client,
            "what": what,
            "status": status,
            **details,
        }
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self.append, line)
        except OutputError as error:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "the access log cannot be written", retry_after_s=60
            ) from error

    def append(self, line: Mapping[str, Any]) -> None:
        """Append one line as a whole. Raises OutputError."""
        self.prune_daily()
        content = (json.dumps(line) + "\n").encode()
        with self._lock, output_errors(self.file):
            file = self._opened()
            try:
                size = os.fstat(file).st_size
                if os.write(file, content) < len(content):
                    os.ftruncate(file, size)
                    raise OutputError(f"cannot write {self.file}: the disk is full")
            finally:
                os.close(file)

    def prune_daily(self) -> None:
        """Remove lines that are too old, if that was not done for a day. Raises OutputError."""
        if self._clock() >= self._next_prune_s:
            self.prune()

    def prune(self) -> None:
        """Remove lines that are too old. Raises OutputError."""
        before = self._clock() - self.days * _DAY_S
        with self._lock, output_errors(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            file = self._opened()
            try:
                with os.fdopen(os.dup(file), "rb") as lines:
                    young = _first_younger(lines, before)
                    if young:
                        lines.seek(young)
                        write_atomically(
                            self.file, lambda new: shutil.copyfileobj(lines, new), private=True
                        )
            finally:
                os.close(file)
        self._next_prune_s = self._clock() + _DAY_S

    async def tidy(self) -> None:
        """See ``prune_daily``; an error waits for the next line."""
        loop = asyncio.get_running_loop()
        with suppress(OutputError):
            await loop.run_in_executor(self._thread, self.prune_daily)

    def close(self) -> None:
        """Wait for lines that are being written."""
        self._thread.shutdown()

    def _opened(self) -> int:
        """The file, locked until it is closed."""
        while True:
            file = open_private(self.file, _FLAGS)
            _lock(file, self.file)
            if os.path.samestat(os.fstat(file), os.stat(self.file)):
                return file
            os.close(file)  # another server replaced it, to remove old lines


def _lock(file: int, path: Path) -> None:
    """Lock a file until it is closed. Raises OutputError, with the file closed."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(file)
                raise OutputError(f"{path} is held by another process; stop it") from None
        time.sleep(_PAUSE_S)


def _first_younger(lines: BinaryIO, before_s: float) -> int:
    """Where the lines begin that are not older; they are in the order of their times.

    A damaged line goes with the older one after it.
    """
    lines.seek(0)
    found = at = 0
    for line in lines:
        at += len(line)
        time_s = _time_of(line)
        if time_s is not None and time_s >= before_s:
            break
        found = at if time_s is not None else found
    return found


def _time_of(line: bytes) -> float | None:
    """A line's time; None for a damaged one."""
    try:
        return seconds_from_text(str(json.loads(line)["time"]))
    except (DataError, ValueError, KeyError, TypeError, RecursionError):
        return None
