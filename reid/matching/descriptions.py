"""Descriptions of a network that compares pairs: large arrays, in memory or on disk."""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from reid.errors import output_errors
from reid.model_file.half import widen
from reid.types import BoolArray, FloatArray, IntArray

MEMORY_BYTES = 1 << 29
"""The most memory for one set of descriptions; the rest goes to a temporary file."""

PIECE_IMAGES = 512
"""Images of a piece in memory at most; a piece compared whole is not copied."""

STORED = ("float16", "float32")
"""The forms in which descriptions are stored, the smaller first."""

Stored = npt.NDArray[np.floating[Any]]


class PairDescriptions:
    """N images in pieces, from a ``describe`` graph: named arrays, (n, ...) each.

    ``half`` stores them as float16, half the size; they are returned as float32. A value beyond
    float16's range becomes infinite: ``finite`` reports it, and ``overflowed`` which images.
    """

    def __init__(self, half: bool = True) -> None:
        self._kind = np.dtype(np.float16 if half else np.float32)
        self.pieces: list[Mapping[str, Stored]] = []
        self._file: IO[bytes] | None = None
        self._starts = [0]
        self._views: dict[tuple[str, int, int], Stored] = {}
        self.num_bytes = 0
        self.overflowed: list[int] = []
        """Numbers of the images whose arrays were finite before their conversion to float16."""

    def __len__(self) -> int:
        return self._starts[-1]

    def append(self, arrays: Mapping[str, FloatArray]) -> None:
        """Add the next images. Raises OutputError if a temporary file does not fit on disk."""
        with np.errstate(over="ignore"):
            piece = {name: array.astype(self._kind) for name, array in arrays.items()}
        lost = ~_finite(piece)
        if lost.any():
            lost &= _finite(arrays)
            self.overflowed += (len(self) + np.flatnonzero(lost)).tolist()
        if self.num_bytes > MEMORY_BYTES:
            self.keep(self._on_disk(piece))
        else:
            self.keep(self._joined(piece))

    def _joined(self, piece: dict[str, Stored]) -> dict[str, Stored]:
        """Join this piece with the last one, if both are small."""
        num = len(next(iter(piece.values())))
        if not self.pieces or len(self) - self._starts[-2] + num > PIECE_IMAGES:
            return piece
        self._starts.pop()
        last = self.pieces.pop()
        self.num_bytes -= _num_bytes(last)
        return {name: np.concatenate((last[name], array)) for name, array in piece.items()}

    def keep(self, piece: Mapping[str, Stored]) -> None:
        """Add the next images, already in stored form."""
        self._views.clear()
        self.pieces.append(piece)
        self._starts.append(len(self) + layout(piece, next(iter(piece)))[1][0])
        self.num_bytes += _num_bytes(piece)

    def batches(
        self, num_images: int, half: bool = False
    ) -> Iterator[tuple[slice, dict[str, Stored]]]:
        """All images in order, ``num_images`` at a time: their slice, and their arrays.

        Arrays are float32 or, with ``half``, in stored form, and read-only. The next ones may reuse
        their memory, because allocating takes as long as reading. What is not copied is the same
        object each time, so that a runner can keep its own copy of it on a GPU.
        """
        buffers: dict[str, Stored] = {}
        for start in range(0, len(self), num_images):
            rows = slice(start, min(start + num_images, len(self)))
            yield rows, {name: self._read(name, rows, half, buffers) for name in self.names}

    def _read(self, name: str, rows: slice, half: bool, buffers: dict[str, Stored]) -> Stored:
        """One array of some images: a view if possible, else a copy."""
        first = int(np.searchsorted(self._starts, rows.start, side="right")) - 1
        after = int(np.searchsorted(self._starts, rows.stop))
        kind, shape = layout(self.pieces[first], name)
        kind = kind if half else np.dtype(np.float32)
        num = rows.stop - rows.start
        if after == first + 1 and not isinstance(self.pieces[first], _FilePiece):
            found = self.pieces[first][name][rows.start - self._starts[first] :][:num]
            if found.dtype == kind and found.flags.c_contiguous:
                return self._views.setdefault((name, rows.start, num), _read_only(found))
        if name not in buffers or len(buffers[name]) < num:
            buffers[name] = np.empty((num, *shape[1:]), kind)
        for index in range(first, after):
            start, stop = (
                max(rows.start, self._starts[index]),
                min(rows.stop, self._starts[index + 1]),
            )
            part = slice(start - self._starts[index], stop - self._starts[index])
            piece, out = self.pieces[index], buffers[name][start - rows.start : stop - rows.start]
            if isinstance(piece, _FilePiece) and layout(piece, name)[0] == kind:
                piece.read_into(name, part, out)
            else:
                _copy(_part(piece, name, part), out)
        return _read_only(buffers[name][:num])

    def row(self, number: int) -> dict[str, FloatArray]:
        """One image's arrays, (1, ...) float32."""
        index = int(np.searchsorted(self._starts, number, side="right")) - 1
        at = number - self._starts[index]
        piece = self.pieces[index]
        return {name: _single(_row(piece, name, at)[None]) for name in piece}

    def rows(self, numbers: IntArray) -> dict[str, FloatArray]:
        """Some images' arrays, in their order, (n, ...) float32."""
        index = np.searchsorted(self._starts, numbers, side="right") - 1
        at = numbers - np.array(self._starts)[index]
        return {
            name: _single(
                np.stack([_row(self.pieces[i], name, j) for i, j in zip(index, at, strict=True)])
            )
            for name in self.names
        }

    def whole(self, name: str) -> FloatArray:
        """One array of all images, (N, ...) float32: for the small ones."""
        return np.concatenate([_single(piece[name]) for piece in self.pieces])

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays of one image by name; empty before the first image."""
        return tuple(self.pieces[0]) if self.pieces else ()

    def finite(self) -> BoolArray:
        """(N,): whether an image's arrays hold neither NaN nor infinity."""
        finite = np.ones(len(self), np.bool_)
        for index, piece in enumerate(self.pieces):
            rows = slice(self._starts[index], self._starts[index + 1])
            finite[rows] = _finite(piece)
        return finite

    def _on_disk(self, piece: Mapping[str, Stored]) -> Mapping[str, Stored]:
        places = {}
        with output_errors(Path(tempfile.gettempdir())):
            if self._file is None:
                # Unbuffered, so that a failed write to a full disk is not repeated on close.
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (closed below)
                weakref.finalize(self, self._file.close)
            for name, array in piece.items():
                places[name] = (self._file.seek(0, os.SEEK_END), array.dtype, array.shape)
                left = array.tobytes()
                while left:
                    left = left[self._file.write(left) :]
        return _FilePiece(self._file.fileno(), places)


class _FilePiece(Mapping[str, Stored]):
    """A piece's arrays, read from the temporary file when used."""

    def __init__(
        self, descriptor: int, places: Mapping[str, tuple[int, np.dtype[Any], tuple[int, ...]]]
    ) -> None:
        self._descriptor, self._places = descriptor, places

    def __getitem__(self, name: str) -> Stored:
        offset, kind, shape = self._places[name]
        return self._read(offset, kind, shape)

    def layout(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """An array's dtype and shape."""
        return self._places[name][1:]

    def part(self, name: str, rows: slice) -> Stored:
        """Some images' array: a shortlist takes a few of each piece."""
        offset, kind, shape = self._part(name, rows)
        return self._read(offset, kind, shape)

    def read_into(self, name: str, rows: slice, out: Stored) -> None:
        """``part`` in existing memory, contiguous and of the array's dtype."""
        offset, kind, shape = self._part(name, rows)
        if not hasattr(os, "preadv"):  # macOS before 11
            out[...] = self._read(offset, kind, shape)
            return
        left = out.reshape(-1).view(np.uint8).data
        while left:
            num = os.preadv(self._descriptor, [left], offset)
            if not num:
                raise OSError(errno.EIO, "the temporary file of descriptions was truncated")
            offset, left = offset + num, left[num:]

    def _part(self, name: str, rows: slice) -> tuple[int, np.dtype[Any], tuple[int, ...]]:
        """The offset, dtype and shape of some images' array."""
        offset, kind, (_, *shape) = self._places[name]
        offset += rows.start * kind.itemsize * prod(shape)
        return offset, kind, (rows.stop - rows.start, *shape)

    def _read(self, offset: int, kind: np.dtype[Any], shape: tuple[int, ...]) -> Stored:
        content = os.pread(self._descriptor, kind.itemsize * prod(shape), offset)
        array: Stored = np.frombuffer(content, kind).reshape(shape)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _read_only(view: Stored) -> Stored:
    view.flags.writeable = False
    return view


def layout(piece: Mapping[str, Stored], name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The dtype and shape of a piece's array, without reading it from disk."""
    if isinstance(piece, _FilePiece):
        return piece.layout(name)
    return piece[name].dtype, piece[name].shape


def _num_bytes(piece: Mapping[str, Stored]) -> int:
    """A piece's size, in memory or on disk."""
    layouts = [layout(piece, name) for name in piece]
    return sum(kind.itemsize * prod(shape) for kind, shape in layouts)


def _finite(piece: Mapping[str, Stored]) -> BoolArray:
    """(n,): whether an image's arrays hold neither NaN nor infinity."""
    each = [np.isfinite(array).reshape(len(array), -1).all(axis=1) for array in piece.values()]
    return np.asarray(np.logical_and.reduce(each), np.bool_)


def _part(piece: Mapping[str, Stored], name: str, rows: slice) -> Stored:
    """A piece's array of some images."""
    return piece.part(name, rows) if isinstance(piece, _FilePiece) else piece[name][rows]


def _row(piece: Mapping[str, Stored], name: str, number: int) -> Stored:
    """A piece's array of one image."""
    row: Stored = _part(piece, name, slice(number, number + 1))[0]
    return row


def _single(array: Stored) -> FloatArray:
    """A new writable float32 array, as PyTorch needs."""
    out = np.empty(array.shape, np.float32)
    _copy(array, out)
    return out


def _copy(array: Stored, out: Stored) -> None:
    """Convert the values."""
    if array.dtype == out.dtype or array.dtype != np.float16 or not array.size:
        out[...] = array
        return
    widen(array, out)
