"""Which engine searches a folder's gallery, and how filters and late rows stay right with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reid.errors import ConfigError, OutputError, nearest, output_errors
from reid.matching.columns import Column
from reid.matching.matcher import VECTOR
from reid.types import BoolArray, FloatArray, IntArray

from .engines import ENGINES, BinaryCodes
from .index import (
    FILTERED_SHARE,
    Index,
    built_index,
    load_index,
    nearest_by_index,
    places_of,
    save_index,
    stored_engine,
)
from .segments import Segment
from .store import Store
from .vectors import Found, Vectors, merged

AUTO, EXACT = "auto", "exact"
CHOICES = (AUTO, EXACT, *ENGINES)

EXACT_ROWS = 50_000
"""``auto`` searches as many exactly: 10 to 30 ms of one core at 256 dimensions. Inferred."""

LARGE = "binary"
"""What ``auto`` takes above. Of a million 256-d vectors on two busy cores it took 19 s to build
(46 s since it is tuned for filters too), 4 ms a search and 32 MB; ``ivf`` took 102 s, 23 ms and
1.2 GB for the same recall."""

FILTERED_ROWS = 20_000
"""As few rows are searched exactly, whatever the engine. Inferred."""

STALE_SHARE = 0.2
"""``prepare`` builds anew where as many rows came or went since. Inferred."""

FILE = ("index", "index.safetensors")


@dataclass(frozen=True, slots=True)
class _Choice:
    """What a filter leaves, worked out once for many searches.

    ``indexed`` is of the engine's rows, ``late`` of all rows those that the engine has not;
    None is all of them, and none of them.
    """

    allowed: BoolArray | None
    count: int
    is_small: bool
    indexed: BoolArray | None
    late: BoolArray | None


class Searcher:
    """Nearest rows of a store, as of its last refresh."""

    def __init__(self, store: Store, engine: str, say: Callable[[str], object]) -> None:
        """Raises ConfigError for an unknown engine."""
        if engine not in CHOICES:
            raise ConfigError(
                f"an engine is one of {', '.join(CHOICES)}; found {engine!r}"
                f"{nearest(engine, CHOICES)}"
            )
        self._store, self._engine, self._say = store, engine, say
        self._path = store.folder.joinpath(*FILE)
        self._segments: list[Segment] | None = None
        self._index: Index | None = None
        self._choice: _Choice | None = None
        self._tried: tuple[int, ...] | None = None
        self._gallery = store.head.id

    def nearest(self, queries: FloatArray, k: int, allowed: BoolArray | None) -> Found:
        """The ``k`` nearest of the ``allowed`` (N,) rows, or of all."""
        self._look()
        self._load()
        vectors, index = self._vectors, self._index
        if index is None:
            return vectors.nearest(queries, k, allowed)
        choice = self._choose(allowed)
        if choice.is_small:
            return vectors.nearest(queries, k, allowed)
        found = nearest_by_index(index, vectors, self._at, queries, k, choice.indexed)
        if choice.late is not None:
            found = merged([found, vectors.nearest(queries, k, choice.late)], k)
        short = (found.positions[:, : min(k, choice.count)] < 0).any(axis=1)
        if short.any():
            exact = vectors.nearest(queries[short], k, allowed)
            found.squares[short], found.positions[short] = exact
        return found

    def prepare(self) -> None:
        """Build the index that this gallery's size or the caller's choice asks for, and tell."""
        self._look()
        name = self._wanted()
        if not name or VECTOR not in self._store.segments[0].described:
            return
        self._load()
        index, num_rows = self._index, len(self._vectors)
        if index is not None:
            gone = int((self._at < 0).sum())
            if self._late.sum() + gone <= STALE_SHARE * num_rows:
                return
        self._say(f"building {name} over {num_rows:,} images")
        index, seconds = built_index(name, self._vectors, self._ids)
        self._say(f"{index.words()}; built in {seconds:.0f} s")
        self._take(index)
        try:
            with self._store.transaction():
                self._keep(index)
            self._tried = self._stamp()
        except OutputError as error:
            self._say(f"the index is not kept: {error}")

    def forget_rows(self) -> None:
        """Rows are being erased: what the index's file tells of them goes too.

        The lists and links of an index describe nobody, binary codes do. Within a transaction,
        so that nobody keeps an index of those rows after it. Raises OutputError.
        """
        self._remove_unfinished()
        if stored_engine(self._path) == BinaryCodes.name:
            with output_errors(self._path):
                self._path.unlink()

    def place(self, position: int) -> tuple[Segment, int]:
        """The segment and the row in it."""
        at = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self._store.segments[at], position - int(self._starts[at])

    def described(self, positions: IntArray) -> dict[str, Column]:
        """The descriptions' arrays of some rows, in their order."""
        self._look()
        rows = [self.place(int(position)) for position in positions]
        names = rows[0][0].described
        return {
            name: np.stack([segment.described[name][row] for segment, row in rows])
            for name in names
        }

    def _keep(self, index: Index) -> None:
        """Write the index's file, if all its rows are there still. Raises OutputError."""
        self._look()
        if self._index is not index or (self._at < 0).any():
            self._say("the index is not kept: images were erased while it was built")
            return
        self._remove_unfinished()
        save_index(self._path, index, self._store.head.id)

    def _remove_unfinished(self) -> None:
        """What a killed process left of an index's file. Raises OutputError."""
        with output_errors(self._path):
            for path in self._path.parent.glob("*.part"):
                path.unlink(missing_ok=True)

    def _look(self) -> None:
        """Take up what the store's last refresh found."""
        segments = self._store.segments
        if segments is self._segments:
            return
        self._segments = segments
        self._starts = np.cumsum([0, *map(len, segments)])
        parts = [one.vectors for one in segments if VECTOR in one.described]
        self._vectors = Vectors(parts, parts[0].shape[1] if parts else 1)
        none = np.zeros(0, np.int64)
        self._ids: IntArray = np.concatenate([none, *(one.columns["id"] for one in segments)])
        if self._index is None or self._gallery != self._store.head.id:
            self._gallery, self._index, self._tried = self._store.head.id, None, None
        else:
            self._take(self._index)

    def _wanted(self) -> str:
        """The engine to build; empty for exact search."""
        if self._engine == EXACT or not len(self._ids):
            return ""
        if self._engine != AUTO:
            return self._engine
        if len(self._ids) <= EXACT_ROWS:
            return ""
        return self._index.engine.name if self._index is not None else LARGE

    def _load(self) -> None:
        """Open the index's file, where it is another than at the last look."""
        if not self._wanted() or (stamp := self._stamp()) == self._tried:
            return
        self._tried = stamp
        index = load_index(self._path, self._store.head.id, self._vectors, self._ids)
        if index is not None and self._engine in (AUTO, index.engine.name):
            self._take(index)

    def _stamp(self) -> tuple[int, ...]:
        try:
            status = os.stat(self._path)
        except OSError:
            return ()
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _take(self, index: Index) -> None:
        """Which of its rows are where, and which rows it does not have."""
        self._index, self._choice = index, None
        self._at = places_of(index.ids, self._ids)
        self._late = np.ones(len(self._ids), np.bool_)
        self._late[self._at[self._at >= 0]] = False

    def _choose(self, allowed: BoolArray | None) -> _Choice:
        """What the filter leaves; the same array is the same filter."""
        if self._choice is not None and self._choice.allowed is allowed:
            return self._choice
        there, late, count = self._at >= 0, self._late, len(self._ids)
        indexed = None if there.all() else there
        is_small = False
        if allowed is not None:
            count = int(allowed.sum())
            is_small = count <= FILTERED_ROWS or count < FILTERED_SHARE * len(allowed)
            if count:  # an empty gallery has no row for ``_at`` to point to
                indexed, late = there & allowed[self._at], late & allowed
        self._choice = _Choice(allowed, count, is_small, indexed, late if late.any() else None)
        return self._choice
