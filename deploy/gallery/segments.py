"""A gallery's rows in files that are written once: features, and a column for each label.

A file is a safetensors file. Its columns, n rows each: the matcher's feature arrays
(``described.NAME``), ``id`` and ``key`` (n,) int64 and uint64, ``time_us`` (n,) int64, ``person``
and ``camera`` (n,) int32 as indices of the names in the header, ``box`` (n, 4) int32; texts
(``source``, ``picture``) are stored as concatenated bytes and the end of each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import DataError, ModelFileError
from reid.matching.columns import Column, read_columns, write_columns
from reid.matching.matcher import VECTOR
from reid.types import BoolArray, FloatArray, IntArray

from .gallery import GalleryEntry, Where

FORMAT = "reid gallery segment 1"

_DESCRIBED = "described."
_NAMES = ("person", "camera")
_TEXTS = ("source", "picture")
_UNKNOWN_US = np.iinfo(np.int64).min
_NO_BOX = (0, 0, 0, 0)
_REMEDY = "restore it from a copy, or index the images again into a new gallery"
_SCALARS = {
    **dict.fromkeys(("id", "time_us"), np.int64),
    **dict.fromkeys((f"{name}.ends" for name in _TEXTS), np.int64),
    **dict.fromkeys(_NAMES, np.int32),
    "key": np.uint64,
}
"""Columns with one number per row."""


class Segment:
    """Rows and their columns, in a file's memory map or in memory."""

    def __init__(
        self, columns: Mapping[str, Column], names: Mapping[str, Sequence[str]], path: Path | None
    ) -> None:
        self.columns, self.names, self.path = columns, names, path

    def __len__(self) -> int:
        return len(self.columns["id"])

    @property
    def num_bytes(self) -> int:
        """Of all columns."""
        return sum(column.nbytes for column in self.columns.values())

    @cached_property
    def described(self) -> dict[str, Column]:
        """The feature arrays by name, (n, ...) each."""
        prefix = len(_DESCRIBED)
        return {k[prefix:]: v for k, v in self.columns.items() if k.startswith(_DESCRIBED)}

    @cached_property
    def vectors(self) -> FloatArray:
        """(n, D) float32; a memory map if they are stored as float32."""
        return np.asarray(self.described[VECTOR], np.float32)

    @cached_property
    def sorted_keys(self) -> Column:
        """(n,) uint64, sorted for look-ups."""
        return np.sort(self.columns["key"])

    def chosen(self, where: Where) -> BoolArray:
        """(n,): which rows meet the conditions."""
        rows = np.ones(len(self), np.bool_)
        for name, words in zip(_NAMES, (where.people, where.cameras), strict=True):
            if words:
                wanted = frozenset(words)
                codes = [i for i, word in enumerate(self.names[name]) if word in wanted]
                rows &= np.isin(self.columns[name], codes)
        time_us = self.columns["time_us"]
        if where.since_s is not None or where.until_s is not None:
            rows &= time_us != _UNKNOWN_US
        if where.since_s is not None:
            rows &= time_us >= microseconds(where.since_s)
        if where.until_s is not None:
            rows &= time_us < microseconds(where.until_s)
        return rows

    def entry(self, row: int, *, with_picture: bool = False) -> GalleryEntry:
        """The entry of a row, without ``content``, which is not stored; its picture on request."""
        person, camera = (self.names[name][int(self.columns[name][row])] for name in _NAMES)
        time_us = int(self.columns["time_us"][row])
        left, top, width, height = (int(edge) for edge in self.columns["box"][row])
        return GalleryEntry(
            source=self._text("source", row).decode("utf-8", "surrogateescape"),
            person=person,
            camera=camera,
            time_s=None if time_us == _UNKNOWN_US else time_us / 1e6,
            box=(left, top, width, height) if width else None,
            picture=self._text("picture", row) if with_picture else b"",
        )

    def times_us(self) -> IntArray:
        """The known times."""
        times = self.columns["time_us"]
        return np.asarray(times[times != _UNKNOWN_US], np.int64)

    def _text(self, name: str, row: int) -> bytes:
        ends = self.columns[f"{name}.ends"]
        start = int(ends[row - 1]) if row else 0
        return self.columns[f"{name}.bytes"][start : int(ends[row])].tobytes()


def key_of(entry: GalleryEntry) -> int:
    """A 64-bit hash of what identifies an image.

    With ten million images a collision is expected in one of 370,000 galleries.
    """
    last = entry.content or str(entry.time_s)
    text = "\0".join((entry.source, str(entry.box), last))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def keys_of(entries: Sequence[GalleryEntry]) -> Column:
    """(N,) uint64."""
    return np.array([key_of(one) for one in entries], np.uint64)


def microseconds(time_s: float) -> int:
    """Whole microseconds. Raises DataError for an impossible time."""
    if not abs(time_s) < 1e12:
        raise DataError(f"a time is in seconds since 1970, found {time_s}")
    return round(time_s * 1e6)


def new_rows(
    described: Mapping[str, Column], entries: Sequence[GalleryEntry], keys: Column, first_id: int
) -> Segment:
    """Rows in memory, numbered from ``first_id`` on. Raises DataError for an impossible box."""
    for one in entries:
        if one.box is not None and not (min(one.box[2:]) > 0 and max(map(abs, one.box)) < 2**31):
            raise DataError(f"{one.source}: a box is at least 1x1 pixel, found {one.box}")
    names: dict[str, list[str]] = {}
    columns: dict[str, Column] = {
        "id": np.arange(first_id, first_id + len(entries), dtype=np.int64),
        "key": keys,
        "time_us": np.array(
            [_UNKNOWN_US if s.time_s is None else microseconds(s.time_s) for s in entries],
            np.int64,
        ),
        "box": np.array([s.box or _NO_BOX for s in entries], np.int32).reshape(-1, 4),
    }
    for name in _NAMES:
        codes: dict[str, int] = {}
        numbers = [codes.setdefault(getattr(s, name), len(codes)) for s in entries]
        columns[name], names[name] = np.array(numbers, np.int32), list(codes)
    texts = {
        "source": [s.source.encode("utf-8", "surrogateescape") for s in entries],
        "picture": [s.picture for s in entries],
    }
    for name, parts in texts.items():
        columns[f"{name}.bytes"] = np.frombuffer(b"".join(parts), np.uint8)
        columns[f"{name}.ends"] = np.cumsum([len(part) for part in parts], dtype=np.int64)
    columns |= {_DESCRIBED + name: array for name, array in described.items()}
    return Segment(columns, names, None)


def kept_rows(segment: Segment, keep: BoolArray) -> Segment:
    """Some of a segment's rows, in memory."""
    columns, names = {}, {}
    for name, column in segment.columns.items():
        if not name.endswith((".bytes", ".ends")):
            columns[name] = column[keep]
    for name in _NAMES:  # only names that are still used
        used, codes = np.unique(columns[name], return_inverse=True)
        names[name] = [segment.names[name][code] for code in used]
        columns[name] = codes.astype(np.int32)
    for name in _TEXTS:
        lengths = np.diff(segment.columns[f"{name}.ends"], prepend=0)
        columns[f"{name}.bytes"] = segment.columns[f"{name}.bytes"][np.repeat(keep, lengths)]
        columns[f"{name}.ends"] = np.cumsum(lengths[keep], dtype=np.int64)
    return Segment(columns, names, None)


def write_segment(path: Path, segments: Sequence[Segment]) -> None:
    """Write the rows of all segments into one file. Raises OutputError."""
    names: dict[str, dict[str, int]] = {name: {} for name in _NAMES}
    columns: dict[str, list[Column]] = {name: [] for name in segments[0].columns}
    ends = dict.fromkeys(_TEXTS, 0)
    for segment in segments:
        for name, column in segment.columns.items():
            part = column
            if name in _NAMES:
                codes = names[name]
                own = [codes.setdefault(word, len(codes)) for word in segment.names[name]]
                part = np.array(own, np.int32)[column]
            columns[name].append(part)
        for name in _TEXTS:
            columns[f"{name}.ends"][-1] = columns[f"{name}.ends"][-1] + ends[name]
            ends[name] += len(segment.columns[f"{name}.bytes"])
    texts = {name: json.dumps(list(codes)) for name, codes in names.items()}
    write_columns(path, FORMAT, texts, columns)


def read_segment(path: Path, num_rows: int) -> Segment:
    """Open a file of ``num_rows`` rows. Raises ModelFileError for a damaged file."""
    texts, columns = read_columns(path, FORMAT, "segment of a gallery", _REMEDY)
    try:
        names: dict[str, Any] = {name: json.loads(texts[name]) for name in _NAMES}
        problem = _problem(columns, names, num_rows)
    except (KeyError, RecursionError, ValueError) as error:
        problem = f"a column is missing or unreadable: {error}"
    if problem:
        raise ModelFileError(f"{path} is damaged ({problem}); {_REMEDY}")
    return Segment(columns, names, path)


def _problem(columns: Mapping[str, Column], names: Mapping[str, Any], num_rows: int) -> str:
    """What is wrong with the columns; empty if nothing is. Raises KeyError for a missing column."""
    for name, kind in _SCALARS.items():
        if columns[name].dtype != kind or columns[name].shape != (num_rows,):
            return f"{name} does not have {num_rows} numbers of the right type"
    if columns["box"].shape != (num_rows, 4) or columns["box"].dtype != np.int32:
        return "box does not have 4 numbers per row"
    for name in _NAMES:
        words, codes = names[name], columns[name]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            return f"{name} has no list of names"
        if num_rows and not (codes.min() >= 0 and codes.max() < len(words)):
            return f"{name} has an index without a name"
    for name in _TEXTS:
        ends, content = columns[f"{name}.ends"], columns[f"{name}.bytes"]
        rises = num_rows == 0 or (ends[0] >= 0 and bool((ends[1:] >= ends[:-1]).all()))
        whole = content.shape == (ends[-1] if num_rows else 0,) and content.dtype == np.uint8
        if not rises or not whole:
            return f"{name} has impossible ends"
    if not bool((columns["id"][1:] > columns["id"][:-1]).all()):
        return "its rows are not sorted"
    described = [column for name, column in columns.items() if name.startswith(_DESCRIBED)]
    if not described or any(column.shape[:1] != (num_rows,) for column in described):
        return "it has no features for its rows"
    return ""
