"""One writer at a time: a lock file that the system releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from reid.errors import OutputError, output_errors
from reid.files import open_private

PATIENCE_S = 30.0
"""How long a writer waits for another one."""

_PAUSE_S = 0.02
_MAX_BYTES = 200


@contextmanager
def locked(path: Path, patience_s: float | None = None) -> Iterator[None]:
    """Hold the lock file ``path``, waiting ``patience_s`` (by default PATIENCE_S) for its holder.

    Raises OutputError, which names the holder or a full disk.

    Works between processes and threads, and over NFS 4 between machines.
    """
    with output_errors(path):
        file = open_private(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, written_by_group=True)
    try:
        with output_errors(path):
            _acquire(file, path, PATIENCE_S if patience_s is None else patience_s)
            _sign(file)
        yield
    finally:
        os.close(file)  # and with it the lock


def _acquire(file: int, path: Path, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                holder = os.pread(file, _MAX_BYTES, 0).decode("utf-8", "replace").strip()
                raise OutputError(
                    f"{path.parent} is being written by {holder or 'another process'}; "
                    "wait for it, or stop it"
                ) from None
        time.sleep(_PAUSE_S)


def _sign(file: int) -> None:
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    words = f"process {os.getpid()} on {socket.gethostname()} since {since}"
    os.pwrite(file, words.encode()[:_MAX_BYTES].ljust(_MAX_BYTES), 0)
