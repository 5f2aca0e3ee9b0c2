"""Named arrays in a safetensors file: written part by part, read through a memory map.

So a file may be larger than memory. Texts in its header say what it contains and who wrote it.
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


def write_columns(
    path: Path,
    format_name: str,
    texts: Mapping[str, str],
    columns: Mapping[str, Sequence[Column | Part]],
) -> None:
    """Write each column's parts one after the other, atomically. Raises OutputError.

    A column has at least one part; its parts have the same dtype and shape except in length. A
    ``Part`` is read when needed and released before the next one.
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
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)

    def write(file: IO[bytes]) -> None:
        file.write(len(text).to_bytes(_LENGTH_BYTES, "little"))
        file.write(text)
        for _, parts in ordered:
            for part in parts:
                file.write(np.ascontiguousarray(part.read()).data)

    write_atomically(path, write)


def _part(part: Column | Part) -> Part:
    """An array in memory as a Part."""
    return part if isinstance(part, Part) else Part(part.dtype, part.shape, lambda: part)


def read_columns(
    path: Path, format_name: str, what: str, remedy: str
) -> tuple[dict[str, str], dict[str, Column]]:
    """The texts and columns of a file; columns are read from disk when used.

    Raises ModelFileError for a file that is missing, truncated, damaged or of another format;
    the message has ``what`` it should be and the ``remedy``. The caller checks that a column
    exists, and its dtype and shape.
    """
    try:
        head, start = _read_head(path, format_name, what, remedy)
        with safe_open(path, "numpy"):  # checks dtypes, shapes and offsets
            content: Column = np.asarray(np.memmap(path, np.uint8, "r"))
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
            tuple(entry["shape"]), _KINDS[entry["dtype"]], content, start + entry["data_offsets"][0]
        )
        for name, entry in head.items()
    }
    return texts, columns


def _read_head(path: Path, format_name: str, what: str, remedy: str) -> tuple[dict[str, Any], int]:
    """A file's header, and the number of bytes before its arrays.

    The file is not trusted: no more is read than it has and a header may have. Of the header only
    the format and the arrays' ends are checked. Raises OSError, and ModelFileError for another
    file type and for a file shorter than its header says.
    """
    other = f"{path} is not a {what}: expected the format {format_name!r}, found"
    cut_short = f"{path} is truncated: expected"
    with open(path, "rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        found = f"found {num_bytes:,}; {remedy}"
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
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
    if name != format_name:
        named = repr(name[:_MAX_FORMAT_SHOWN]) if isinstance(name, str) else "none"
        raise ModelFileError(f"{other} {named}; {remedy}")
    end = _arrays_end(head)
    if end is None:
        raise ModelFileError(f"{path} is damaged (no arrays in its header); {remedy}")
    if num_bytes < start + end:
        raise ModelFileError(f"{cut_short} {start + end:,} bytes, {found}")
    return head, start


def _arrays_end(head: Mapping[str, Any]) -> int | None:
    """The end of the last array, relative to the first; None if the header has none."""
    try:
        ends = [entry["data_offsets"][1] for name, entry in head.items() if name != _METADATA]
        end = operator.index(max(ends, default=0))
    except (LookupError, TypeError):
        return None
    return end if 0 <= end < 1 << 63 else None
