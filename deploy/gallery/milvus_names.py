"""The names and the times of a gallery in Milvus, kept beside it: nothing else counts them.

Milvus has neither distinct values nor a smallest one, and reading all rows takes seconds. So the
collection ``NAME_names`` has a row for each person and camera, and one for the times. A row is
written before the images that need it: a stopped addition leaves a name too many at most.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from pymilvus import DataType

from .gallery import GalleryEntry
from .milvus_connection import PATIENCE_S, SEARCH_S, Connection
from .milvus_rows import UNKNOWN_US, VECTOR_FIELD, Fields, make_collection, quoted, unicode_text
from .milvus_tables import ALL, SOON, Table
from .rows import microseconds

KNOWN_S = 60.0
"""For so long a name that is there need not be looked for again (a choice)."""

ASKED_ONE_BY_ONE = 200
"""Names of erased images that are looked for one by one; for more all rows are read (a choice)."""

_FIELDS: Fields = {
    "kind": (DataType.VARCHAR, {"max_length": 16}),
    "name": (DataType.VARCHAR, {"max_length": 512}),
    "first_us": (DataType.INT64, {}),
    "last_us": (DataType.INT64, {}),
}
_KINDS = ("person", "camera")
_TIMES = "times"
_NONE_US = (1 << 62, UNKNOWN_US)
"""The first and the last time of no images."""


class Named(NamedTuple):
    """The people and cameras of a gallery, and its first and last time if it has any."""

    people: tuple[str, ...]
    cameras: tuple[str, ...]
    first_us: int | None
    last_us: int | None


class Names:
    """The names in ``images``, kept in the collection ``NAME_names``."""

    def __init__(self, connection: Connection, images: Table, limit_s: float = SEARCH_S) -> None:
        self._images = images
        self._table = Table(connection, f"{images.name}_names", limit_s)
        self._known: dict[tuple[str, str], float] = {}
        self._span: tuple[int, int] | None = None
        self._span_until_s = 0.0

    def read(self) -> Named:
        """What is kept; all rows are read once where an earlier version kept nothing."""
        rows = self._rows()
        words: dict[str, list[str]] = {kind: [] for kind in (*_KINDS, _TIMES)}
        for row in rows:
            words[row["kind"]].append(row["name"])
        first, last = _span_in(rows)
        people, cameras = (tuple(sorted(words[kind])) for kind in _KINDS)
        return Named(people, cameras, *((first, last) if first <= last else (None, None)))

    def add(self, entries: Iterable[GalleryEntry]) -> None:
        """Keep the names and times of images that are going to be added."""
        listed = [*entries]
        now_s = time.monotonic()
        wanted = {
            (kind, unicode_text(getattr(one, kind)))
            for one in listed
            for kind in _KINDS
            if getattr(one, kind)
        }
        new = {one for one in wanted if self._known.get(one, 0.0) < now_s}
        times = [microseconds(one.time_s) for one in listed if one.time_s is not None]
        span = (min(times, default=_NONE_US[0]), max(times, default=_NONE_US[1]))
        kept = self._span if now_s < self._span_until_s else None
        if not new and kept is not None and _joined(kept, span) == kept:
            return
        whole = _joined(_span_in(self._rows()), span)
        rows = [_row(kind, name, _NONE_US) for kind, name in sorted(new)]
        self._table.upsert([*rows, _row(_TIMES, "", whole)])
        self._known |= dict.fromkeys(new, now_s + KNOWN_S)
        self._span, self._span_until_s = whole, now_s + KNOWN_S

    def removed(self, names: set[tuple[str, str]]) -> None:
        """Forget those of these (kind, name) that no image has any more, and narrow the times."""
        if len(names) > ASKED_ONE_BY_ONE:
            self.rebuild()
            return
        self._images.count()  # the server has taken in the deletion when it answers
        gone = [
            (kind, name)
            for kind, name in names
            if name and not self._images.count(f"{kind} == {quoted(name)}", SOON)
        ]
        first, last = _span_in(self._rows())
        if first <= last:
            first, last = self._first_from(first, last), self._last_to(first, last)
        self._table.delete([_id(*one) for one in gone])
        self._table.upsert([_row(_TIMES, "", (first, last) if first <= last else _NONE_US)])
        self._known, self._span = {}, None

    def rebuild(self) -> list[dict[str, Any]]:
        """Read all images, and keep their names and times."""
        self._table.make(
            lambda client, name: make_collection(
                client, name, 2, _FIELDS, "", {"index_type": "FLAT"}, PATIENCE_S
            )
        )
        found: set[tuple[str, str]] = set()
        span = _NONE_US
        for row in self._images.every([*_KINDS, "time_us"]):
            found |= {(kind, row[kind]) for kind in _KINDS if row[kind]}
            if row["time_us"] != UNKNOWN_US:
                span = _joined(span, (row["time_us"], row["time_us"]))
        rows = [_row(kind, name, _NONE_US) for kind, name in sorted(found)]
        kept = {row["id"] for row in rows}
        self._table.upsert([*rows, _row(_TIMES, "", span)])
        gone = [row["id"] for row in self._table.every([]) if row["id"] not in kept]
        self._table.delete({*gone} - {_id(_TIMES, "")})
        self._known, self._span = {}, None
        return [*rows, _row(_TIMES, "", span)]

    def _rows(self) -> list[dict[str, Any]]:
        rows = self._table.some(ALL, [*_FIELDS])
        return rows if any(row["kind"] == _TIMES for row in rows) else self.rebuild()

    def _first_from(self, first: int, last: int) -> int:
        """The first time of the images: the least with an image up to it."""
        low, high = first, last + 1
        while low < high:
            middle = (low + high) // 2
            if self._images.count(f"time_us >= {first} and time_us <= {middle}", SOON):
                high = middle
            else:
                low = middle + 1
        return low

    def _last_to(self, first: int, last: int) -> int:
        low, high = first - 1, last
        while low < high:
            middle = (low + high + 1) // 2
            if self._images.count(f"time_us >= {middle} and time_us <= {last}", SOON):
                low = middle
            else:
                high = middle - 1
        return low


def _span_in(rows: Iterable[dict[str, Any]]) -> tuple[int, int]:
    spans = [(row["first_us"], row["last_us"]) for row in rows if row["kind"] == _TIMES]
    return spans[0] if spans else _NONE_US


def _joined(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return min(one[0], other[0]), max(one[1], other[1])


def _id(kind: str, name: str) -> int:
    digest = hashlib.blake2b(f"{kind}\0{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _row(kind: str, name: str, span: tuple[int, int]) -> dict[str, Any]:
    row = {"id": _id(kind, name), "kind": kind, "name": name, VECTOR_FIELD: [0.0, 0.0]}
    return row | {"first_us": span[0], "last_us": span[1]}
