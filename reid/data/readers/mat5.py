"""Read numeric arrays and cells of strings from MATLAB 5 files; other variables are skipped.

A file is a header of 128 bytes followed by elements: a type, a size, and that many bytes. An
array is an element that contains elements (flags, sizes, name, values), usually compressed with
zlib. See "MAT-File Format", MathWorks, level 5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from reid.data.file_bytes import read_file
from reid.errors import DataError

Order = Literal["<", ">"]
Values = npt.NDArray[np.float64] | list[str]
"""An array's values, flattened in MATLAB's (column) order; or the strings of a cell."""

MAX_BYTES = 8 << 20
"""Limit for the file, and for all its arrays unpacked; a protocol file has 1.5 MB."""

_HEADER = 128
# fmt: off
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
    17: "u2",  # UTF-16
}
# fmt: on
_ARRAY, _COMPRESSED, _UTF8 = 14, 15, 16
_CHARACTERS = (1, 2, 4, 17)  # one or two bytes each
_CELL, _TEXT, _FIRST_NUMBER, _LAST_NUMBER = 1, 4, 6, 15


def read_mat5(path: Path) -> dict[str, Values]:
    """The file's numeric arrays and cells of strings, by name.

    Raises DataError for a file that is missing, damaged, too large or another format.
    """
    data = read_file(path, MAX_BYTES, "file")
    try:
        return _read(data)
    except (ValueError, struct.error, zlib.error) as error:
        raise DataError(
            f"{path}: not a MATLAB 5 file, or damaged ({error}); copy it again"
        ) from error


def _read(data: bytes) -> dict[str, Values]:
    orders: dict[bytes, Order] = {b"IM": "<", b"MI": ">"}
    order = orders.get(data[126:128])
    if order is None:
        raise ValueError("no MATLAB 5 header")
    arrays: dict[str, Values] = {}
    room = MAX_BYTES
    for kind, payload in _elements(data, _HEADER, order):
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(payload, room)
            room -= len(unpacked)
            if not unpacker.eof or room <= 0:
                raise ValueError("its arrays are truncated or too large")
            kind, payload = next(_elements(unpacked, 0, order), (0, b""))
        if kind == _ARRAY:
            name, values = _array(payload, order)
            if values is not None:
                arrays[name] = values
    return arrays


def _elements(data: bytes, at: int, order: Order) -> Iterator[tuple[int, bytes]]:
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start = at + 8
        if kind >> 16:  # small format: up to four bytes are stored after a 16-bit size
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        if start + size > len(data):
            raise ValueError("it is truncated")
        yield kind, data[start : start + size]
        at = max(at + 8, start + size)
        if kind != _COMPRESSED:
            at += -at % 8


def _array(data: bytes, order: Order, in_cell: bool = False) -> tuple[str, Values | None]:
    parts = list(_elements(data, 0, order))
    if len(parts) < 3:
        raise ValueError("an array without a name")
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    name, values = parts[2][1].decode("latin-1"), parts[3:]
    what = flags & 0xFF
    if what == _CELL and not in_cell:
        return name, _strings(values, order)
    if what == _TEXT and in_cell:
        return name, [_text(*values[0], order)] if values else [""]
    if _FIRST_NUMBER <= what <= _LAST_NUMBER and len(values) == 1:
        return name, _numbers(*values[0], order).astype(np.float64)
    return name, None


def _strings(cells: list[tuple[int, bytes]], order: Order) -> list[str] | None:
    """The strings of a cell; None if it has other values."""
    texts: list[str] = []
    for _, payload in cells:
        _, text = _array(payload, order, in_cell=True)
        if not isinstance(text, list):
            return None
        texts += text
    return texts


def _text(kind: int, payload: bytes, order: Order) -> str:
    if kind == _UTF8:
        return payload.decode("utf-8")
    if kind not in _CHARACTERS:
        raise ValueError(f"a string of unsupported type {kind}")
    return "".join(map(chr, _numbers(kind, payload, order).tolist()))


def _numbers(kind: int, payload: bytes, order: Order) -> npt.NDArray[np.generic]:
    if kind not in _NUMBERS:
        raise ValueError(f"values of unknown type {kind}")
    return np.frombuffer(payload, np.dtype(_NUMBERS[kind]).newbyteorder(order))
