"""Rows of a gallery with their columns, in a file's memory map or in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from reid.errors import ModelFileError
from reid.matching.columns import Column, ColumnFile
from reid.matching.matcher import VECTOR
from reid.types import BoolArray, FloatArray, IntArray

from .gallery import GalleryEntry, Where
from .rows import (
    DESCRIBED,
    DESCRIBED_CHECK,
    ENTRY_CHECK,
    NAMES,
    NUMBERS,
    TEXTS,
    UNKNOWN,
    described_checks,
    entry_check,
    finite_rows,
    joined_texts,
    microseconds,
)

_CHECKED_ALONE = 8
"""Rows are checked one by one if they are less than this part of a file's, else all together."""


class DamagedRowsError(ModelFileError):
    """Some of a segment's rows are not what was written."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a file.

    ``rows`` (n,) are its damaged rows and ``ids`` (n,) those of all; None if no row can be used.
    """

    path: Path
    words: str
    rows: BoolArray | None = None
    ids: IntArray | None = None


class Segment:
    """Rows and their columns, in a file's memory map or in memory.

    ``path`` is None until the rows are written. ``file`` is None in memory.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        names: Mapping[str, Sequence[str]],
        path: Path | None = None,
        file: ColumnFile | None = None,
    ) -> None:
        self.columns, self.names, self.path, self.file = columns, names, path, file
        self._intact = np.zeros(len(self), np.bool_)

    def __len__(self) -> int:
        return len(self.columns["id"])

    @property
    def seal(self) -> str:
        """The checksum of the file's head; empty for files of format 1."""
        return self.file.seal if self.file else ""

    @property
    def num_bytes(self) -> int:
        """Of all columns."""
        return sum(column.nbytes for column in self.columns.values())

    @cached_property
    def described(self) -> dict[str, Column]:
        """The feature arrays by name, (n, ...) each."""
        prefix = len(DESCRIBED)
        return {k[prefix:]: v for k, v in self.columns.items() if k.startswith(DESCRIBED)}

    @cached_property
    def vectors(self) -> FloatArray:
        """(n, D) float32; a memory map if they are stored as float32."""
        return np.asarray(self.described[VECTOR], np.float32)

    def rows_with(self, keys: Column) -> Iterator[tuple[int, int]]:
        """Each (index into ``keys``, row) of rows with one of these keys."""
        order, ordered = self._by_key
        first, last = (np.searchsorted(ordered, keys, side) for side in ("left", "right"))
        for index in np.flatnonzero(first < last).tolist():
            for at in range(first[index], last[index]):
                yield index, int(order[at])

    @cached_property
    def _by_key(self) -> tuple[IntArray, Column]:
        """(n,) rows in the order of their keys, and (n,) uint64 the keys."""
        order = np.argsort(self.columns["key"], kind="stable")
        return order, self.columns["key"][order]

    def chosen(self, where: Where) -> BoolArray:
        """(n,): which rows meet the conditions."""
        rows = np.ones(len(self), np.bool_)
        for name, words in (("person", where.people), ("camera", where.cameras)):
            if words:
                wanted = frozenset(words)
                codes = [i for i, word in enumerate(self.names[name]) if word in wanted]
                rows &= np.isin(self.columns[name], codes)
        if where.named is not None:
            codes = [i for i, word in enumerate(self.names["person"]) if bool(word) == where.named]
            rows &= np.isin(self.columns["person"], codes)
        time_us = self.columns["time_us"]
        if where.since_s is not None or where.until_s is not None:
            rows &= time_us != UNKNOWN
        if where.since_s is not None:
            rows &= time_us >= microseconds(where.since_s)
        if where.until_s is not None:
            rows &= time_us < microseconds(where.until_s)
        return rows

    def entry(self, row: int, *, with_picture: bool = False) -> GalleryEntry:
        """The entry of a row, without ``content``, which is not stored; its picture on request.

        Raises DamagedRowsError if it is not what was written.
        """
        check = self.columns.get(ENTRY_CHECK)
        if check is not None and check[row] != self._entry_check(row):
            raise DamagedRowsError(
                f"{self._place} is damaged (in the labels of its images); see reid gallery check"
            )
        names = {name: self.names[name][int(self.columns[name][row])] for name in NAMES}
        numbers = {name: int(self.columns[name][row]) for name in NUMBERS}
        known = {name: None if value == UNKNOWN else value for name, value in numbers.items()}
        time_us, offset_us = known["time_us"], known["offset_us"]
        left, top, width, height = (int(edge) for edge in self.columns["box"][row])
        return GalleryEntry(
            source=self.source(row),
            person=names["person"],
            camera=names["camera"],
            time_s=None if time_us is None else time_us / 1e6,
            box=(left, top, width, height) if width else None,
            picture=self._text("picture", row) if with_picture else b"",
            frame=known["frame"],
            seconds=None if offset_us is None else offset_us / 1e6,
            track=known["track"],
            run=names["run"],
            picture_ref=self._text("picture_ref", row).decode("utf-8", "surrogateescape"),
            model=names["model"],
        )

    def source(self, row: int) -> str:
        """The image's file, or its camera."""
        return self._text("source", row).decode("utf-8", "surrogateescape")

    def times_us(self) -> IntArray:
        """The known times."""
        times = self.columns["time_us"]
        return np.asarray(times[times != UNKNOWN], np.int64)

    def require_size(self) -> None:
        """Raise ModelFileError where the file was cut short since it was opened."""
        if self.file is not None:
            self.file.require_size()

    def require_described(self, rows: IntArray | None = None) -> None:
        """Check the features of some rows, or of all. A row is checked once.

        Raises DamagedRowsError.
        """
        left = np.flatnonzero(~self._intact) if rows is None else rows[~self._intact[rows]]
        if self.file is None or not len(left):
            return
        if len(left) * _CHECKED_ALONE >= len(self):
            self._intact[:] = self._all_described_intact()
        else:
            some = {name: array[left] for name, array in self.described.items()}
            checks = self.columns[DESCRIBED_CHECK][left] if self.seal else None
            self._intact[left] = _intact_rows(some, checks)
        if not self._intact[left].all():
            raise DamagedRowsError(
                f"{self._place} is damaged (in the features of its images); see reid gallery check"
            )

    def require_intact(self) -> None:
        """Check everything before it is copied into another file. Raises DamagedRowsError."""
        if damage := self.damage():
            raise DamagedRowsError(
                f"{damage.path} is damaged ({damage.words}), so that nothing is written; see "
                "reid gallery check"
            )

    def damage(self) -> Damage | None:
        """Check everything: what is wrong, and which rows."""
        if self.file is None:
            return None
        try:
            columns = self.file.damaged()
        except ModelFileError as error:
            return Damage(self.file.path, str(error))
        if not columns and (self.seal or finite_rows(self.described).all()):
            return None
        checks = self.columns[DESCRIBED_CHECK] if self.seal else None
        rows = ~_intact_rows(self.described, checks)
        if self.seal:
            found = [self._entry_check(row) for row in range(len(self))]
            rows |= np.array(found, np.int32) != self.columns[ENTRY_CHECK]
        return Damage(self.file.path, words_of(columns), rows, np.array(self.columns["id"]))

    def checked(self) -> Segment:
        """The rows with their checksums, which those in memory and of format 1 have not yet."""
        if DESCRIBED_CHECK in self.columns:
            return self
        found = [self._entry_check(row) for row in range(len(self))]
        checks = {
            DESCRIBED_CHECK: described_checks(self.described),
            ENTRY_CHECK: np.array(found, np.int32),
        }
        return Segment({**self.columns, **checks}, self.names, self.path, self.file)

    def damaged_labels(self) -> list[str]:
        """Columns that differ from their checksums, without features, texts and pictures."""
        if self.file is None or not self.seal:
            return []
        later = [name for name in self.file.columns if name.startswith(DESCRIBED)]
        later += [name for name in self.file.columns if name.endswith(".bytes")]
        return self.file.damaged(self.file.columns.keys() - {*later})

    def _all_described_intact(self) -> bool:
        if self.file is None or not self.seal:
            return bool(finite_rows(self.described).all())
        return not self.file.damaged(name for name in self.columns if name.startswith(DESCRIBED))

    def _entry_check(self, row: int) -> int:
        """The checksum of a row's labels, texts and picture, as they are now."""
        try:
            names = [self.names[name][int(self.columns[name][row])] for name in NAMES]
        except IndexError:
            names = []
        numbers = [int(self.columns[name][row]) for name in ("id", "key", *NUMBERS)]
        texts = [self._text(name, row) for name in TEXTS]
        return entry_check([*numbers, *self.columns["box"][row].tolist()], names, texts)

    @property
    def _place(self) -> str:
        return str(self.file.path if self.file else self.path)

    def _text(self, name: str, row: int) -> bytes:
        ends = self.columns[f"{name}.ends"]
        start = int(ends[row - 1]) if row else 0
        return self.columns[f"{name}.bytes"][max(0, start) : max(0, int(ends[row]))].tobytes()


def kept_rows(segment: Segment, keep: BoolArray) -> Segment:
    """Some of a segment's rows, in memory."""
    columns, names = {}, {}
    for name, column in segment.columns.items():
        if not name.endswith((".bytes", ".ends")):
            columns[name] = column[keep]
    for name in NAMES:  # only names that are still used
        used, codes = np.unique(columns[name], return_inverse=True)
        names[name] = [segment.names[name][code] for code in used]
        columns[name] = codes.astype(np.int32)
    rows = np.flatnonzero(keep).tolist()
    for name in TEXTS:
        columns |= joined_texts(name, [segment._text(name, row) for row in rows])
    return Segment(columns, names)


def words_of(columns: Sequence[str]) -> str:
    """What is wrong with a file, from its damaged columns."""
    if not columns:
        return "it holds features that are NaN, infinite or too large"
    return (
        f"its {' and '.join(sorted(columns))} {'differs' if len(columns) == 1 else 'differ'} "
        "from what was written"
    )


def _intact_rows(described: Mapping[str, Column], checks: Column | None) -> BoolArray:
    """(n,): whether a row's features are what was written; without ``checks``, whether finite."""
    if checks is None:
        return finite_rows(described)
    return np.asarray(described_checks(described) == checks, np.bool_)
