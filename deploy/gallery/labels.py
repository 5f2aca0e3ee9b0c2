"""Which images are in a gallery, and labels for those that are there without."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from reid.matching.columns import Column
from reid.types import IntArray

from .gallery import GalleryEntry, Labelled
from .rows import (
    DESCRIBED_CHECK,
    ENTRY_CHECK,
    UNKNOWN,
    earlier_keys_of,
    joined_texts,
    keys_of,
    microseconds,
    text_bytes,
)
from .segments import Segment, kept_rows


class Labels(NamedTuple):
    """What a row says of its image."""

    person: str
    camera: str
    time_us: int
    source: str


class Missing(NamedTuple):
    """The new labels of rows that lack some, and the counts of them and of other rows."""

    rows: dict[int, Labels]
    counts: Labelled


def known_rows(segment: Segment, entries: Sequence[GalleryEntry]) -> Iterator[tuple[int, int]]:
    """Each (index of an entry, row) of rows that hold the same image.

    The same content of another file is another image if it was given for another person or
    camera: two people's folders may hold copies of one file.
    """
    for index, row in segment.rows_with(keys_of(entries)):
        one = entries[index]
        if not differs(_labels_of(segment, row), one) or segment.source(row) == one.source:
            yield index, row
    yield from segment.rows_with(earlier_keys_of(entries))


def without_repeats(
    entries: Sequence[GalleryEntry], keys: Column, chosen: IntArray
) -> tuple[list[GalleryEntry], IntArray]:
    """The chosen entries' indices, an image once, and the entries with the labels of repeats."""
    merged, first = [*entries], dict[int, list[int]]()
    for index in chosen.tolist():
        one = entries[index]
        for other in first.setdefault(int(keys[index]), []):
            before = merged[other]
            if not differs(before, one) or before.source == one.source:
                merged[other] = dataclasses.replace(
                    before,
                    person=before.person or one.person,
                    camera=before.camera or one.camera,
                    time_s=one.time_s if before.time_s is None else before.time_s,
                )
                break
        else:
            first[int(keys[index])].append(index)
    return merged, np.array(sorted(chain.from_iterable(first.values())), np.int64)


def missing_labels(segment: Segment, entries: Sequence[GalleryEntry]) -> Missing:
    """Which rows of these images get labels that they lack, or the path of a file that moved."""
    rows: dict[int, Labels] = {}
    labelled, differing, moved = set[int](), set[int](), set[int]()
    for index, row in known_rows(segment, entries):
        entry, before = entries[index], _labels_of(segment, row)
        now = rows.get(row, before)
        time_us = now.time_us
        if time_us == UNKNOWN and entry.time_s is not None:
            time_us = microseconds(entry.time_s)
        is_gone = now.source != entry.source and not os.path.exists(now.source)
        source = entry.source if is_gone else now.source
        new = Labels(now.person or entry.person, now.camera or entry.camera, time_us, source)
        if new != before:
            rows[row] = new
        if new[:3] != before[:3]:
            labelled.add(row)
        if is_gone:
            moved.add(row)
        if differs(new, entry):
            differing.add(row)
    return Missing(rows, Labelled(len(labelled), len(differing), len(moved)))


def differs(now: Labels | GalleryEntry, entry: GalleryEntry) -> bool:
    """Whether an image has another person or camera than the one given; none is no other."""
    pairs = ((now.person, entry.person), (now.camera, entry.camera))
    return any(has and given and has != given for has, given in pairs)


def with_missing_labels(before: GalleryEntry, entry: GalleryEntry) -> GalleryEntry:
    """The entry of an image that is there, with labels that it lacks, and the path if its is gone.

    As ``missing_labels`` does with rows of a segment.
    """
    is_gone = before.source != entry.source and not os.path.exists(before.source)
    return dataclasses.replace(
        before,
        person=before.person or entry.person,
        camera=before.camera or entry.camera,
        time_s=entry.time_s if before.time_s is None else before.time_s,
        source=entry.source if is_gone else before.source,
    )


def labelled_rows(segment: Segment, rows: Mapping[int, Labels]) -> Segment:
    """The segment with new labels, in memory; the segment itself if there are none.

    Raises DamagedRowsError rather than copy damaged rows.
    """
    if not rows:
        return segment
    segment.require_intact()
    copy = kept_rows(segment, np.ones(len(segment), np.bool_))
    # Without checksums, which are computed when it is written: they are of the old labels.
    columns = {k: v for k, v in copy.columns.items() if k not in (DESCRIBED_CHECK, ENTRY_CHECK)}
    columns["time_us"][[*rows]] = [one.time_us for one in rows.values()]
    names = dict(copy.names)
    for name in ("person", "camera"):
        codes = {word: code for code, word in enumerate(names[name])}
        new = [codes.setdefault(getattr(one, name), len(codes)) for one in rows.values()]
        columns[name][[*rows]] = new
        names[name] = list(codes)
    sources = (rows[row].source if row in rows else segment.source(row) for row in range(len(copy)))
    columns |= joined_texts("source", [text_bytes(source) for source in sources])
    return Segment(columns, names)


def _labels_of(segment: Segment, row: int) -> Labels:
    columns, names = segment.columns, segment.names
    return Labels(
        names["person"][int(columns["person"][row])],
        names["camera"][int(columns["camera"][row])],
        int(columns["time_us"][row]),
        segment.source(row),
    )
