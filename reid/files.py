"""Writing files so that a reader never sees half of one, and reading regular files only."""

from __future__ import annotations

import errno
import fcntl
import grp
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from reid.errors import ConfigError, nearest, output_errors

PRIVATE = 0o600
"""The mode of a file that shows people: for its owner alone."""

SHARED = 0o640
"""The mode of such a file that a group may read (``shared_with``)."""

_CHUNK_BYTES = 1 << 20
_FOLDER_SUFFIX = ".files"
_PART = re.compile(r"\d+(-[0-9a-f]{8})?\.part")
"""How temporary names end, also those of earlier versions, which had no random part."""

_process_group: int | None = None
_group: ContextVar[int | None] = ContextVar("group", default=None)


@contextmanager
def shared_with(group: str) -> Iterator[None]:
    """Private files that this process writes meanwhile may be read by a group, in all threads.

    An empty name changes nothing. Raises ConfigError for a group that does not exist, or that
    this user is not in.
    """
    global _process_group
    before, _process_group = _process_group, _group_id(group) if group else _process_group
    try:
        yield
    finally:
        _process_group = before


@contextmanager
def same_group_as(path: Path) -> Iterator[None]:
    """Private files are meanwhile shared, in this thread, as the file ``path`` is."""
    try:
        status = os.stat(path)
        group = status.st_gid if stat.S_IMODE(status.st_mode) == SHARED else None
    except OSError:
        group = None
    token = _group.set(group)
    try:
        yield
    finally:
        _group.reset(token)


def open_private(path: Path, flags: int, *, written_by_group: bool = False) -> int:
    """A descriptor of a file that, where it is new, is private, or shared as ``shared_with`` says.

    ``written_by_group`` lets the group write to it too. Raises OSError.
    """
    flags |= os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_EXCL, PRIVATE)
    except FileExistsError:
        if flags & os.O_EXCL:
            raise
        return os.open(path, flags & ~os.O_CREAT)
    _share(descriptor, SHARED | 0o020 if written_by_group else SHARED)
    return descriptor


def make_private_folder(folder: Path) -> None:
    """Create a folder, unless it is there, whose files others cannot list. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _share(descriptor, 0o2770)
    finally:
        os.close(descriptor)


def _share(descriptor: int, mode: int) -> None:
    """Give a new file or folder to the group that private files are shared with, if any."""
    group = _process_group if _process_group is not None else _group.get()
    if group is not None:
        os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, mode)


def _group_id(name: str) -> int:
    try:
        group = grp.getgrnam(name).gr_gid
    except KeyError:
        known = [entry.gr_name for entry in grp.getgrall()]
        raise ConfigError(f"there is no group {name!r}{nearest(name, known)}") from None
    if os.geteuid() and group not in (os.getegid(), *os.getgroups()):
        raise ConfigError(
            f"this user is not in the group {name!r}, so that it cannot give files to it"
        )
    return group


@contextmanager
def atomic_path(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary file beside ``path``; on success flush it and rename it to ``path``.

    On any failure the temporary file is removed and ``path`` is as it was. What killed
    processes left of ``path`` before is removed too. The new file follows the umask, or is for
    its owner alone where ``private`` (and for a group: ``shared_with``). Raises OutputError where
    the folder cannot be written.
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        temporary, held = _temporary_file(path, PRIVATE if private else 0o666)
        try:
            if private:
                _share(held, SHARED)
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(held)


@contextmanager
def staging_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``, from which its user moves what is whole.

    It is removed at the end, and so is what killed processes left before. Raises OutputError
    where it cannot be written.
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        mark, held = _temporary_file(path, PRIVATE)
        folder = mark.with_name(mark.name + _FOLDER_SUFFIX)
        try:
            folder.mkdir()
            yield folder
            sync_folder(path.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            mark.unlink(missing_ok=True)
            os.close(held)


def check_writable(path: Path) -> None:
    """Raise OutputError where ``path`` could not be written, before the work that goes into it."""
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, held = _temporary_file(path, PRIVATE)
        temporary.unlink()
        os.close(held)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` outlive a power cut. A file system may not support it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of ``path`` whose writers have died; they hold no lock any more."""
    head = f".{path.name}."
    for found in _names(path.parent):
        if found.startswith(head) and _PART.fullmatch(found, len(head)):
            _remove_if_abandoned(path.with_name(found))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # a folder that may be written but not listed
        return []


def _remove_if_abandoned(temporary: Path) -> None:
    """Remove a temporary file, and the folder of its name, unless a process holds its lock."""
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except IsADirectoryError:
        shutil.rmtree(temporary, ignore_errors=True)  # of a version that held no lock
        return
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(temporary.with_name(temporary.name + _FOLDER_SUFFIX), ignore_errors=True)
        temporary.unlink(missing_ok=True)
    except OSError:  # in use, or not ours to remove
        pass
    finally:
        os.close(descriptor)


def _temporary_file(path: Path, mode: int) -> tuple[Path, int]:
    """A new file beside ``path``, which no one can have prepared, and its descriptor with a lock.

    The lock says that its writer lives; the operating system lets go of it when the writer dies.
    """
    while True:
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a process that looks for leftovers was quicker; it removes it
            os.close(descriptor)
            continue
        except OSError:  # a file system without locks: its leftovers stay
            pass
        if os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], *, private: bool = False
) -> None:
    """Call ``write`` with an open binary file that becomes ``path`` when it returns."""
    with atomic_path(path, private=private) as temporary, open(temporary, "wb") as file:
        write(file)


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Replace ``path`` by ``text`` in one step: UTF-8, names of files that are not with escapes."""
    content = text.encode("utf-8", "backslashreplace")
    write_atomically(path, lambda file: file.write(content), private=private)


def is_regular(path: Path) -> bool:
    """Whether ``path`` is a file with an end: no pipe, device or socket, which reads might hang on.

    Raises OSError where there is nothing of that name.
    """
    return stat.S_ISREG(os.stat(path).st_mode)


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
