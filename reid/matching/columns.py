"""Named arrays in a safetensors file: written part by part, read through a memory map.

So a file may be larger than the memory. Texts in its head say what it is and who made it. The head
holds a CRC-32 of each array (``checks``) and one of itself (``seal``); files of earlier versions
have neither.
"""

from __future__ import annotations

import json
import mmap
import operator
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from reid.errors import ModelFileError
from reid.files import write_atomically
from reid.packages import missing

try:
    from safetensors import SafetensorError, safe_open
except ImportError as error:
    raise missing("safetensors", "a file of described images", "edge") from error

Column = npt.NDArray[Any]

_KINDS: dict[str, np.dtype[Any]] = {
    "U8": np.dtype(np.uint8),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "U64": np.dtype(np.uint64),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
}
_CODES = {kind: code for code, kind in _KINDS.items()}
_LENGTH_BYTES = 8
_MAX_HEAD_BYTES = 100_000_000
"""The longest header the safetensors library reads; a longer one means another file type."""
_MAX_FORMAT_SHOWN = 60
_FORMAT, _METADATA = "format", "__metadata__"
_CHECKS, _SEAL = "checks", "seal"
_UNKNOWN = "0" * 8
"""What stands for a checksum until it is known, and for the seal where the seal is computed."""
_CHECKED_BYTES = 1 << 26
"""Checked at a time: a process can be interrupted in between."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a column, not in memory: ``read`` returns them, of this dtype and shape."""

    kind: np.dtype[Any]
    shape: tuple[int, ...]
    read: Callable[[], Column]

    @property
    def num_bytes(self) -> int:
        """The rows' size in the file."""
        return self.kind.itemsize * prod(self.shape)


@dataclass(frozen=True, slots=True)
class ColumnFile:
    """An open file: its format, its texts and, read from the disk when used, its columns.

    ``seal`` is a checksum of the head, and so of the columns' checksums; empty for a file of an
    earlier version, whose columns cannot be checked.
    """

    path: Path
    format_name: str
    texts: dict[str, str]
    columns: dict[str, Column]
    seal: str
    _checks: Mapping[str, str] = field(repr=False)
    _map: mmap.mmap = field(repr=False)
    _remedy: str = field(repr=False)

    def damaged(self, names: Iterable[str] | None = None) -> list[str]:
        """Which of the columns, of all by default, differ from their checksums.

        Reads them whole. Raises ModelFileError for a file that became shorter.
        """
        if not self.seal:
            return []
        self.require_size()
        chosen = self.columns if names is None else names
        return [name for name in chosen if checksum(self.columns[name]) != self._checks.get(name)]

    def require_undamaged(self) -> None:
        """Check all columns. Raises ModelFileError."""
        if damaged := self.damaged():
            raise ModelFileError(
                f"{self.path} is damaged (its {' and '.join(damaged)} "
                f"{'differs from its checksum' if len(damaged) == 1 else 'differ from theirs'}); "
                f"{self._remedy}"
            )

    def require_size(self) -> None:
        """Raise ModelFileError where the file was cut short since it was opened.

        To read what is gone from the memory map would end the process (SIGBUS).
        """
        found = self._map.size()  # of the file itself, whatever its name is now
        if found < len(self._map):
            raise ModelFileError(
                f"{self.path} was truncated while it was in use: expected {len(self._map):,} "
                f"bytes, found {found:,}; {self._remedy}"
            )


def checksum(column: Column) -> str:
    """CRC-32 of an array's bytes, 8 hexadecimal digits."""
    return f"{_added(column, 0):08x}"


def _added(column: Column, before: int) -> int:
    """The CRC-32 of what came ``before`` and an array's bytes behind it."""
    content = np.ascontiguousarray(column).reshape(-1).view(np.uint8)
    for at in range(0, len(content), _CHECKED_BYTES):
        before = zlib.crc32(content[at : at + _CHECKED_BYTES].data, before)
    return before


def write_columns(
    path: Path,
    format_name: str,
    texts: Mapping[str, str],
    columns: Mapping[str, Sequence[Column | Part]],
    *,
    private: bool = False,
) -> str:
    """Write each column's parts one after the other, atomically; returns the file's seal.

    A column has at least one part; its parts have one kind and shape but for their lengths. A
    ``Part`` is read when it is its turn, and forgotten before the next one is. ``private`` as in
    ``reid.files``. Raises OutputError.
    """
    parts_of = {name: [_part(part) for part in parts] for name, parts in columns.items()}
    # The widest dtype first, so that every array is aligned.
    ordered = sorted(parts_of.items(), key=lambda item: -item[1][0].kind.itemsize)
    head: dict[str, Any] = {_METADATA: {_FORMAT: format_name, **texts}}
    end = 0
    for name, parts in ordered:
        size = sum(part.num_bytes for part in parts)
        shape = [sum(part.shape[0] for part in parts), *parts[0].shape[1:]]
        code = _CODES[parts[0].kind]
        head[name] = {"dtype": code, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    checks = dict.fromkeys(parts_of, _UNKNOWN)
    seal = ""

    def write(file: IO[bytes]) -> None:
        nonlocal seal
        file.write(_head_bytes(head, checks)[0])  # the checksums take as much room
        for name, parts in ordered:
            check = 0
            for part in parts:
                array = np.ascontiguousarray(part.read())
                check = _added(array, check)
                file.write(array.data)
            checks[name] = f"{check:08x}"
        content, seal = _head_bytes(head, checks)
        file.seek(0)
        file.write(content)

    write_atomically(path, write, private=private)
    return seal


def _head_bytes(head: Mapping[str, Any], checks: Mapping[str, str]) -> tuple[bytes, str]:
    """What comes before the arrays, and its seal, which is in it."""
    texts = {**head[_METADATA], _CHECKS: json.dumps(checks), _SEAL: _UNKNOWN}
    text = json.dumps({**head, _METADATA: texts}).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    content = len(text).to_bytes(_LENGTH_BYTES, "little") + text
    seal = f"{zlib.crc32(content):08x}"
    return content.replace(_seal_bytes(_UNKNOWN), _seal_bytes(seal), 1), seal


def _seal_bytes(seal: str) -> bytes:
    """A head's bytes that say its seal. They occur once: a text's quotes are escaped."""
    return f'"{_SEAL}": "{seal}"'.encode()


def _part(part: Column | Part) -> Part:
    """An array in memory as a Part."""
    return part if isinstance(part, Part) else Part(part.dtype, part.shape, lambda: part)


def read_columns(
    path: Path, format_name: str, what: str, remedy: str
) -> tuple[dict[str, str], dict[str, Column]]:
    """The texts and the columns of a file: see ``open_columns``."""
    file = open_columns(path, format_name, what, remedy)
    return file.texts, file.columns


def open_columns(
    path: Path, format_name: str, what: str, remedy: str, *, earlier: Sequence[str] = ()
) -> ColumnFile:
    """Open a file of this format, or of an ``earlier`` one, which had no checksums.

    Raises ModelFileError for a file that is not there, is cut short, not of this format, or whose
    head is damaged; the message names ``what`` it should be and the ``remedy``. Columns are checked
    when asked for. That a column is there, and of which kind and shape, is the caller's to check.
    """
    try:
        head, start, seal = _read_head(path, (format_name, *earlier), what, remedy)
        with safe_open(path, "numpy"):  # checks kinds, shapes and offsets
            pass
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise ModelFileError(f"{path}: no such file; {remedy}") from None
    except OSError as error:
        reason = error.strerror or error
        raise ModelFileError(f"{path} cannot be read ({reason}); {remedy}") from None
    except (SafetensorError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); {remedy}") from None
    texts: dict[str, str] = head.pop(_METADATA)
    unknown = {entry["dtype"] for entry in head.values()} - _KINDS.keys()
    if unknown:
        raise ModelFileError(
            f"{path} is not a {what}: expected arrays of {', '.join(_KINDS)}, found "
            f"{', '.join(sorted(unknown))}; {remedy}"
        )
    columns = {
        name: np.ndarray(
            tuple(entry["shape"]), _KINDS[entry["dtype"]], mapped, start + entry["data_offsets"][0]
        )
        for name, entry in head.items()
    }
    found, checks = texts.pop(_FORMAT), _checks_of(texts.pop(_CHECKS, "{}"))
    texts.pop(_SEAL, "")
    return ColumnFile(path, found, texts, columns, seal, checks, mapped, remedy)


def _checks_of(text: str) -> dict[str, str]:
    """The columns' checksums; none where the text holds no such, which then fit no column."""
    try:
        return dict(json.loads(text))
    except (RecursionError, TypeError, ValueError):
        return {}


def _read_head(
    path: Path, formats: Sequence[str], what: str, remedy: str
) -> tuple[dict[str, Any], int, str]:
    """A file's head, the number of bytes before its arrays, and its seal if it has one.

    Nothing in the file is believed: no more is read than the file has and a head may have. Of
    the head only the format, the seal and the arrays' ends are checked. Raises OSError, and
    ModelFileError for another kind of file and one that is shorter than its head says.
    """
    other = f"{path} is not a {what}: expected the format {formats[0]!r}, found"
    cut_short = f"{path} is truncated: expected"
    with open(path, "rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        found = f"found {num_bytes:,}; {remedy}"
        size = file.read(_LENGTH_BYTES)
        length = int.from_bytes(size, "little")
        start = _LENGTH_BYTES + length
        if num_bytes <= _LENGTH_BYTES:
            raise ModelFileError(f"{cut_short} more than {_LENGTH_BYTES} bytes, {found}")
        brace = file.read(1)
        if brace != b"{" or not 0 < length <= _MAX_HEAD_BYTES:
            raise ModelFileError(f"{other} another file type; {remedy}")
        if num_bytes < start:
            raise ModelFileError(f"{cut_short} more than {start:,} bytes, {found}")
        text = brace + file.read(length - 1)
    try:
        head = json.loads(text)
    except (RecursionError, ValueError):
        raise ModelFileError(f"{other} a header that is not JSON; {remedy}") from None
    texts = head.get(_METADATA)
    name = texts.get(_FORMAT) if isinstance(texts, dict) else None
    if name not in formats:
        named = repr(name[:_MAX_FORMAT_SHOWN]) if isinstance(name, str) else "none"
        raise ModelFileError(f"{other} {named}; {remedy}")
    seal = texts.get(_SEAL, "")
    if (seal or _CHECKS in texts) and not _is_sealed(size + text, seal):
        raise ModelFileError(f"{path} is damaged (its head differs from its checksum); {remedy}")
    end = _arrays_end(head)
    if end is None:
        raise ModelFileError(f"{path} is damaged (no arrays in its header); {remedy}")
    if num_bytes < start + end:
        raise ModelFileError(f"{cut_short} {start + end:,} bytes, {found}")
    return head, start, seal


def _is_sealed(content: bytes, seal: object) -> bool:
    """Whether the bytes before the arrays have this seal, and had it when they were written."""
    unknown = content.replace(f'"{_SEAL}": {json.dumps(seal)}'.encode(), _seal_bytes(_UNKNOWN), 1)
    return seal == f"{zlib.crc32(unknown):08x}"


def _arrays_end(head: Mapping[str, Any]) -> int | None:
    """The end of the last array, relative to the first; None if the header has none."""
    try:
        ends = [entry["data_offsets"][1] for name, entry in head.items() if name != _METADATA]
        end = operator.index(max(ends, default=0))
    except (LookupError, TypeError):
        return None
    return end if 0 <= end < 1 << 63 else None
