"""Search in a folder's gallery, exactly or by an index; filters and new rows stay correct."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reid.errors import ConfigError, OutputError, nearest, output_errors
from reid.matching.columns import Column
from reid.matching.matcher import VECTOR
from reid.types import BoolArray, FloatArray, IntArray

from .index import (
    FILTERED_SHARE,
    KIND,
    RETIRED_KINDS,
    SearchIndex,
    built_index,
    load_index,
    nearest_by_index,
    places_of,
    save_index,
    stored_kind,
)
from .segments import Segment
from .store import Store
from .vectors import Found, Vectors, merged

AUTO, EXACT = "auto", "exact"
CHOICES = (AUTO, EXACT, KIND)

EXACT_ROWS = 50_000
"""``auto`` searches up to this many rows exactly, and more by an index. Inferred."""

FILTERED_ROWS = 20_000
"""If a filter leaves no more rows than this, they are searched exactly. Inferred."""

STALE_SHARE = 0.2
"""``prepare`` builds again if more than this share of the rows was added or deleted. Inferred."""

FILE = ("index", "index.safetensors")


@dataclass(frozen=True, slots=True)
class _Choice:
    """What a filter leaves, computed once for many searches.

    ``indexed`` selects rows of the index (None: all); ``late`` selects rows that are not in the
    index (None: there are none).
    """

    allowed: BoolArray | None
    count: int
    is_small: bool
    indexed: BoolArray | None
    late: BoolArray | None


class Searcher:
    """Nearest rows of a store, as of its last refresh."""

    def __init__(self, store: Store, choice: str, say: Callable[[str], object]) -> None:
        """``choice`` is one of CHOICES. Raises ConfigError for any other."""
        if choice not in CHOICES:
            raise ConfigError(
                f"--index is one of {', '.join(CHOICES)}; found {choice!r}"
                f"{nearest(choice, CHOICES)}"
            )
        self._store, self._chosen, self._say = store, choice, say
        self._path = store.folder.joinpath(*FILE)
        self._segments: list[Segment] | None = None
        self._index: SearchIndex | None = None
        self._choice: _Choice | None = None
        self._tried: tuple[int, ...] | None = None
        self._unused = ""
        self._gallery = store.head.id

    def nearest(self, queries: FloatArray, k: int, allowed: BoolArray | None) -> Found:
        """The ``k`` nearest of the ``allowed`` (N,) rows, or of all.

        Raises DamagedRowsError for damaged features among those that are compared.
        """
        self._update()
        self._load()
        index = self._index
        if index is None:
            self._tell_of_unused()
            return self._exact(queries, k, allowed)
        choice = self._choose(allowed)
        if choice.is_small:
            return self._exact(queries, k, allowed)
        found = nearest_by_index(
            index, self._vectors, self._at, queries, k, choice.indexed, self._require_intact
        )
        if choice.late is not None:
            found = merged([found, self._exact(queries, k, choice.late)], k)
        short = (found.positions[:, : min(k, choice.count)] < 0).any(axis=1)
        if short.any():
            exact = self._exact(queries[short], k, allowed)
            found.squares[short], found.positions[short] = exact
        return found

    def _exact(self, queries: FloatArray, k: int, allowed: BoolArray | None) -> Found:
        self._require_intact(None if allowed is None else np.flatnonzero(allowed))
        return self._vectors.nearest(queries, k, allowed)

    def _require_intact(self, positions: IntArray | None) -> None:
        """Check the features of some rows, or of all. Raises DamagedRowsError."""
        for segment, start in zip(self._store.segments, self._starts, strict=False):
            rows = None
            if positions is not None:
                rows = positions[(positions >= start) & (positions < start + len(segment))] - start
            segment.require_described(rows)

    def prepare(self) -> None:
        """Build the index, if the gallery's size or the caller's choice needs one."""
        self._update()
        if not self._wanted() or VECTOR not in self._store.segments[0].described:
            return
        self._load()
        index, num_rows = self._index, len(self._vectors)
        if index is not None:
            gone = int((self._at < 0).sum())
            if self._late.sum() + gone <= STALE_SHARE * num_rows:
                return
        self._require_intact(None)
        self._say(f"building a {KIND} index of {num_rows:,} images")
        index, seconds = built_index(self._vectors, self._ids)
        self._say(f"{index.words()}; built in {seconds:.0f} s")
        self._take(index)
        try:
            with self._store.transaction():
                self._keep(index)
            self._tried = self._stamp()
        except OutputError as error:
            self._say(f"the index is not saved: {error}")

    def forget_rows(self) -> None:
        """Delete the index's file, because it describes rows that are being erased.

        Call it in a transaction, so that no other process saves an index of those rows later.
        Raises OutputError.
        """
        self._remove_unfinished()
        with output_errors(self._path):
            if self._path.exists():  # false if its folder is a file
                self._path.unlink()

    def place(self, position: int) -> tuple[Segment, int]:
        """The segment and the row in it."""
        at = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self._store.segments[at], position - int(self._starts[at])

    def described(self, positions: IntArray) -> dict[str, Column]:
        """The features' arrays of some rows, in their order."""
        self._update()
        self._require_intact(np.unique(positions))
        rows = [self.place(int(position)) for position in positions]
        names = rows[0][0].described
        return {
            name: np.stack([segment.described[name][row] for segment, row in rows])
            for name in names
        }

    def _keep(self, index: SearchIndex) -> None:
        """Save the index, if all its rows are still there. Raises OutputError."""
        self._update()
        if self._index is not index or (self._at < 0).any():
            self._say("the index is not saved: images were erased while it was built")
            return
        self._remove_unfinished()
        save_index(self._path, index, self._store.head.id)

    def _remove_unfinished(self) -> None:
        """Remove temporary files of a killed process. Raises OutputError."""
        with output_errors(self._path):
            for path in self._path.parent.glob("*.part"):
                path.unlink(missing_ok=True)

    def _update(self) -> None:
        """Update to the store's last refresh."""
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

    def _wanted(self) -> bool:
        """Whether to search by an index."""
        if self._chosen == EXACT or not len(self._ids):
            return False
        return self._chosen == KIND or len(self._ids) > EXACT_ROWS

    def _load(self) -> None:
        """Open the index's file, if it changed."""
        if self._index is not None and self._index.was_cut_short():
            self._index = None
        if not self._wanted() or (stamp := self._stamp()) == self._tried:
            return
        self._tried = stamp
        index = load_index(self._path, self._store.head.id, self._vectors, self._ids)
        if index is not None:
            self._take(index)
        elif stamp:
            self._unused = stored_kind(self._path) or "unknown"

    def _tell_of_unused(self) -> None:
        """Say once that there is an index that is not used: damaged, or of a kind of the past."""
        if self._unused in RETIRED_KINDS:
            self._say(
                f"{self._path} is an index of the kind {self._unused}, which is no longer used: "
                f"search is exact; to replace it, run reid index or reid serve with --index {KIND}"
            )
        elif self._unused:
            self._say(
                f"{self._path} is damaged or of another gallery: search is exact until reid index "
                "or reid serve builds it again"
            )
        self._unused = ""

    def _stamp(self) -> tuple[int, ...]:
        try:
            status = os.stat(self._path)
        except OSError:
            return ()
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _take(self, index: SearchIndex) -> None:
        """Use the index: find the positions of its rows, and the rows that it does not have."""
        self._index, self._choice = index, None
        self._at = places_of(index.ids, self._ids)
        self._late = np.ones(len(self._ids), np.bool_)
        self._late[self._at[self._at >= 0]] = False

    def _choose(self, allowed: BoolArray | None) -> _Choice:
        """What the filter leaves, cached for the same array."""
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
