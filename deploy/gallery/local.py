"""A gallery in a folder: see ``reid.deploy.gallery.store``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import ConfigError, DataError, ModelFileError
from reid.matching import Matcher, model_differences
from reid.matching.columns import Column
from reid.matching.matcher import VECTOR
from reid.types import BoolArray, FloatArray, IntArray

from .gallery import ANYWHERE, Confirmation, GalleryEntry, Labelled, Match, Summary, Where
from .labels import known_rows, labelled_rows, missing_labels, without_repeats
from .no_model import NoModel
from .rows import keys_of, new_rows, require_finite
from .search import Searcher
from .segments import DamagedRowsError, Segment, kept_rows
from .store import SEGMENT_BYTES, Store
from .verdict_file import VerdictFile, forgotten

SHORTLIST = 100
"""For a network that compares pairs: images compared with a query, the nearest by vector."""

COMPARED_AT_ONCE = 128
"""The batch size of ``reid.matching.pairs``."""


class LocalGallery:
    """The ``GalleryStore`` of one folder; ``say`` gets a line about each step of building an index.

    If ``partial``, damaged images are left out, as ``say`` and ``left_out`` report; otherwise
    they are an error.
    """

    def __init__(
        self,
        folder: Path,
        matcher: Matcher[Any],
        *,
        index: str = "auto",
        shortlist: int = SHORTLIST,
        partial: bool = False,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.name = str(folder)
        self._store = Store(folder, partial=partial)
        self._say, self._said = say, ""
        self._matcher, self._shortlist = matcher, shortlist
        self._checked: list[Segment] | None = None
        self._require_same_model()
        self._searcher = Searcher(self._store, index, say)
        self._verdicts = VerdictFile(folder)
        self._chosen: tuple[Where, list[Segment], BoolArray] | None = None

    @property
    def left_out(self) -> str:
        """See ``GalleryStore``."""
        damage, count = self._store.damage, self._store.num_left_out
        if not damage:
            return ""
        return (
            f"{self.name} is damaged: {count:,} images are left out ({damage[0].path.name}"
            f"{' and others' if len(damage) > 1 else ''}); see reid gallery check {self.name}"
        )

    def __len__(self) -> int:
        self._refresh()
        return sum(map(len, self._store.segments))

    def count(self, where: Where) -> int:
        """See ``GalleryStore``."""
        self._refresh()
        return int(self._allowed(where).sum())

    def unknown(self, entries: Sequence[GalleryEntry]) -> BoolArray:
        """See ``GalleryStore``."""
        self._refresh()
        return self._new(entries)

    def add(self, descriptions: Any, entries: Sequence[GalleryEntry]) -> int:
        """See ``GalleryStore``. Many images are stored in several files, in one transaction."""
        if not entries:
            return 0
        described = self._whole(descriptions)
        counts = {len(array) for array in described.values()}
        if counts != {len(entries)}:
            raise ValueError(f"{len(entries)} entries for {counts} features")
        require_finite(described, entries)
        checkpoint = str(self._matcher.identity.get("checkpoint", ""))
        entries = [dataclasses.replace(one, model=one.model or checkpoint) for one in entries]
        keys = keys_of(entries)
        row_bytes = sum(array[0].nbytes for array in described.values())
        step = max(1, SEGMENT_BYTES // row_bytes)
        with self._store.transaction():
            self._require_same_model()
            new = np.flatnonzero(self._new(entries))
            entries, new = without_repeats(entries, keys, new)
            parts: list[Segment] = []
            for rows in (new[at : at + step] for at in range(0, len(new), step)):
                some = {name: array[rows] for name, array in described.items()}
                first_id = self._store.head.next_id + sum(map(len, parts))
                chosen = [entries[i] for i in rows]
                parts.append(Segment(*new_rows(some, chosen, keys[rows], first_id)))
            if parts:
                self._store.append(parts)
        return len(new)

    def label(self, entries: Sequence[GalleryEntry]) -> Labelled:
        """See ``GalleryStore``. Files with such images are written again."""
        self._refresh()
        found = [missing_labels(segment, entries) for segment in self._store.segments]
        if any(one.rows for one in found):
            with self._store.transaction():
                found = [missing_labels(segment, entries) for segment in self._store.segments]
                pairs = zip(self._store.segments, found, strict=True)
                self._store.replace([labelled_rows(segment, one.rows) for segment, one in pairs])
        counts = zip(Labelled(0, 0, 0), *(one.counts for one in found), strict=True)
        return Labelled(*map(sum, counts))

    def delete(self, where: Where) -> int:
        """See ``GalleryStore``. Files with such images are written again without them.

        Verdicts go first, so that a stopped deletion can be repeated, and after it those that
        were given meanwhile.
        """
        with self._store.transaction():
            left: list[Segment] = []
            gone: list[IntArray] = [np.zeros(0, np.int64)]
            for segment in self._store.segments:
                chosen = segment.chosen(where)
                gone.append(segment.columns["id"][chosen])
                if not chosen.any():
                    left.append(segment)
                elif not chosen.all():
                    segment.require_intact()
                    left.append(kept_rows(segment, ~chosen))
            ids = np.concatenate(gone).tolist()
            if ids:
                self.forget_verdicts((), ids)
                self._searcher.forget_rows()  # first: a process killed here loses only a cache
                self._store.replace(left)
                self.forget_verdicts((), ids)
        return len(ids)

    def search(self, descriptions: Any, k: int = 10, where: Where = ANYWHERE) -> list[list[Match]]:
        """See ``GalleryStore``."""
        if k < 1:
            raise ConfigError(f"k is at least 1, found {k}")
        self._refresh()
        try:
            return self._found(descriptions, k, where)
        except DamagedRowsError as error:
            self._leave_out_damaged(error)
            return self._found(descriptions, k, where)

    def _found(self, descriptions: Any, k: int, where: Where) -> list[list[Match]]:
        queries = self._whole(descriptions)
        allowed = None if where == ANYWHERE else self._allowed(where)
        if set(queries) == {VECTOR}:
            found = self._searcher.nearest(_single(queries[VECTOR]), k, allowed)
            return [
                self._matches(np.sqrt(squares), positions)
                for squares, positions in zip(*found, strict=True)
            ]
        return [
            self._matches(*self._compared(descriptions, query, positions, k))
            for query, positions in enumerate(self._shortlists(queries, k, allowed))
        ]

    def entry(self, number: int) -> GalleryEntry | None:
        """See ``GalleryStore``."""
        self._refresh()
        try:
            return self._entry(number)
        except DamagedRowsError as error:
            self._leave_out_damaged(error)
            return self._entry(number)

    def _entry(self, number: int) -> GalleryEntry | None:
        for segment in self._store.segments:
            row = int(np.searchsorted(segment.columns["id"], number))
            if row < len(segment) and segment.columns["id"][row] == number:
                return segment.entry(row, with_picture=True)
        return None

    def listed(
        self, where: Where = ANYWHERE, *, pictures: bool = False
    ) -> Iterator[tuple[int, GalleryEntry]]:
        """See ``GalleryStore``. Raises ModelFileError for damaged entries."""
        self._refresh()
        for segment in self._store.segments:
            for row in np.flatnonzero(segment.chosen(where)).tolist():
                yield int(segment.columns["id"][row]), segment.entry(row, with_picture=pictures)

    def summary(self) -> Summary:
        """See ``GalleryStore``."""
        images = len(self)
        names: dict[str, set[str]] = {"person": set(), "camera": set()}
        for segment in self._store.segments:
            for name, words in names.items():
                used = np.unique(segment.columns[name])
                words.update(segment.names[name][code] for code in used)
        spans = [s.times_us() for s in self._store.segments]
        first = min((int(times.min()) for times in spans if len(times)), default=None)
        last = max((int(times.max()) for times in spans if len(times)), default=None)
        return Summary(
            images,
            tuple(sorted(names["person"] - {""})),
            tuple(sorted(names["camera"] - {""})),
            None if first is None else first / 1e6,
            None if last is None else last / 1e6,
        )

    def features(self, ids: Sequence[int]) -> Any:
        """See ``GalleryStore``. Raises ModelFileError for damaged features."""
        self._refresh()
        none = np.zeros(0, np.int64)
        known = np.concatenate([none, *(one.columns["id"] for one in self._store.segments)])
        at = np.searchsorted(known, np.asarray(ids, np.int64))  # ids ascend over all segments
        there = known[np.minimum(at, len(known) - 1)] == ids if len(known) else [False] * len(ids)
        gone = [number for number, found in zip(ids, there, strict=True) if not found]
        if gone:
            raise DataError(f"{self.name} has no image {gone[0]} any more; it may have been erased")
        pieces = [self._searcher.described(at)] if len(at) else []
        return self._matcher.from_pieces(pieces)

    def confirm(self, confirmation: Confirmation) -> None:
        """See ``GalleryStore``."""
        self._verdicts.append(confirmation)

    def confirmed(self) -> list[Confirmation]:
        """See ``GalleryStore``. Raises ModelFileError for a damaged file."""
        return self._verdicts.all()

    def verdicts(self, query: str) -> dict[int, Confirmation]:
        """See ``GalleryStore``. Raises ModelFileError for a damaged file."""
        return self._verdicts.of_query(query)

    def forget_verdicts(self, queries: Collection[str], ids: Collection[int] = ()) -> int:
        """See ``GalleryStore``. The file is written again."""
        return self._verdicts.erase(forgotten(queries, ids))

    def prepare(self) -> None:
        """See ``GalleryStore``. If the disk is full the index stays in memory only, with a line."""
        self._refresh()
        with suppress(ModelFileError):  # which the first use says
            self._verdicts.of_query("")
        try:
            self._searcher.prepare()
        except DamagedRowsError as error:
            self._leave_out_damaged(error)
            self._searcher.prepare()

    def compact(self) -> None:
        """Nothing to do: files were written again without what was erased."""

    def close(self) -> None:
        """See ``GalleryStore``."""
        self._chosen = None

    def _refresh(self) -> None:
        self._store.refresh()
        self._tell_of_damage()
        if self._checked is not self._store.segments:  # after a refresh or a transaction
            self._require_same_model()

    def _leave_out_damaged(self, error: DamagedRowsError) -> None:
        """Take only the intact images from now on; raises the error unless ``partial``."""
        if not self._store.partial:
            raise error
        self._store.refresh()
        self._store.salvage()
        self._tell_of_damage()
        self._require_same_model()

    def _tell_of_damage(self) -> None:
        """Say once what is left out."""
        line = self.left_out
        if line and line != self._said:
            self._say(line)
        self._said = line

    def _new(self, entries: Sequence[GalleryEntry]) -> BoolArray:
        new = np.ones(len(entries), np.bool_)
        for segment in self._store.segments:
            new[[index for index, _ in known_rows(segment, entries)]] = False
        return new

    def _require_same_model(self) -> None:
        differences = model_differences(self._store.head.model, self._matcher.identity)
        if differences:
            raise ModelFileError(
                f"{self.name} was made with another model: {differences}; use it with that model, "
                "or index the images into another gallery"
            )
        if self._store.segments and not isinstance(self._matcher, NoModel):
            first = self._store.segments[0].described
            self._matcher.from_pieces([{name: array[:0] for name, array in first.items()}])
        self._checked = self._store.segments

    def _whole(self, descriptions: Any) -> dict[str, Column]:
        """The arrays of all images, concatenated."""
        pieces = self._matcher.pieces(descriptions)
        names = pieces[0] if pieces else ()
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}

    def _allowed(self, where: Where) -> BoolArray:
        """(N,), cached for the next search."""
        segments = self._store.segments
        if self._chosen is None or self._chosen[0] != where or self._chosen[1] is not segments:
            masks = [np.zeros(0, np.bool_), *(one.chosen(where) for one in segments)]
            self._chosen = (where, segments, np.concatenate(masks))
        return self._chosen[2]

    def _shortlists(
        self, queries: Mapping[str, Column], k: int, allowed: BoolArray | None
    ) -> list[IntArray]:
        """Positions to compare with each query: the nearest by vector, or all without a vector."""
        if VECTOR in queries and self._shortlist:
            best = max(k, self._shortlist)
            found = self._searcher.nearest(_single(queries[VECTOR]), best, allowed)
            return [positions[positions >= 0] for positions in found.positions]
        everything = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
        return [everything] * len(next(iter(queries.values()), ()))

    def _compared(
        self, descriptions: Any, query: int, positions: IntArray, k: int
    ) -> tuple[FloatArray, IntArray]:
        """The ``k`` nearest of the positions by the network's distance."""
        distances = [np.zeros(0, np.float32)]
        for at in range(0, len(positions), COMPARED_AT_ONCE):
            piece = self._searcher.described(positions[at : at + COMPARED_AT_ONCE])
            gallery = self._matcher.from_pieces([piece])
            tiles = self._matcher.tiles(descriptions, gallery)
            distances.append(tiles(slice(query, query + 1))[0])
        whole = np.concatenate(distances)
        order = np.argsort(whole, kind="stable")[:k]
        return whole[order], positions[order]

    def _matches(self, distances: FloatArray, positions: IntArray) -> list[Match]:
        found = []
        for distance, position in zip(distances.tolist(), positions.tolist(), strict=True):
            if position >= 0:
                segment, row = self._searcher.place(position)
                number = int(segment.columns["id"][row])
                found.append(Match(number, distance, segment.entry(row)))
        return found


def _single(vectors: Column) -> FloatArray:
    return np.ascontiguousarray(vectors, np.float32)
