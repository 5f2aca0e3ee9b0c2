"""Read a file that came from outside: never a pipe or a device, and never more than was meant."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from reid.errors import DataError

_START_BYTES = 64

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_file(
    path: str | Path, most: int, what: str, check_start: Callable[[bytes], object] = len
) -> bytes:
    """The bytes of the file ``path``, which should be ``what`` (``image file``).

    ``check_start`` gets the first bytes before the rest is read, and may refuse the
    file. Raises DataError, naming the file, where it is missing, a folder, a pipe, a device
    or a socket (a read might never end), cannot be read, or has more than ``most`` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # pipes block
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such {what}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {_reason(error)}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no file")
            raise DataError(f"{path}: cannot be read: it is {kind}; expected an ordinary {what}")
        start = os.read(descriptor, _START_BYTES)
        if start:
            check_start(start)
        if found.st_size > most:
            raise DataError(
                f"{path}: {found.st_size:,} bytes; expected at most {most:,} for this {what}"
            )
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return start + file.read(most)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {_reason(error)}") from error
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
