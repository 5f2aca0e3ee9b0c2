"""Describing a gallery's images again with another model, into a new gallery.

Ids, keys, labels, times and verdicts are copied, so that verdicts and later indexing go on. Images
come from the pictures in the gallery, or from their files if those are unchanged. Each step is
committed; a stopped run goes on after the last image that is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid.data.images import decode_image, read_image_file
from reid.errors import DataError, ModelFileError, OutputError
from reid.matching import Matcher
from reid.matching.columns import Column
from reid.progress import SILENT, Reporter
from reid.types import Image

from .gallery import GalleryEntry, GalleryStore
from .indexing import content_hash, cropped
from .rows import DESCRIBED, DESCRIBED_CHECK, ENTRY_CHECK, earlier_keys_of, keys_of
from .segments import Segment, kept_rows
from .store import Store, create_store
from .verdict_file import VerdictFile

IMAGES_AT_ONCE = 1024
"""Images per transaction."""


@dataclass(frozen=True, slots=True)
class Reindexed:
    """``added`` images were described now; ``left_out`` names those without a usable picture."""

    added: int
    total: int
    left_out: tuple[str, ...]


def reindex_folder(
    old: Path, new: Path, matcher: Matcher[Any], reporter: Reporter = SILENT
) -> Reindexed:
    """Describe the gallery in the folder ``old`` again, into the folder ``new``.

    Raises DataError without a gallery, ModelFileError for a damaged one or another model's ``new``,
    OutputError.
    """
    source = Store(old)
    create_store(new, matcher.identity)
    target = Store(new)
    if dict(target.head.model) != dict(matcher.identity):
        raise ModelFileError(f"{new} was made with another model; name a new folder with --out")
    if target.head.id == source.head.id:
        raise OutputError(f"{new} is the gallery itself; name a new folder with --out")
    progress = reporter.begin("describing", sum(map(len, source.segments)))
    left_out: list[str] = []
    added = 0
    with target.transaction():
        none = np.full(1, -1, np.int64)
        known = np.concatenate([none, *(one.columns["id"] for one in target.segments)])
        last = int(known[-1])  # ids ascend, so that an earlier image cannot be added later
        for part in _parts(source.segments):
            later = part.columns["id"] > last
            before = np.flatnonzero(~later & ~np.isin(part.columns["id"], known)).tolist()
            left_out += [f"{part.source(row)}: left out by an earlier run" for row in before]
            progress(int((~later).sum()))
            described, names = _described_rows(kept_rows(part, later), matcher)
            left_out += names
            progress(int(later.sum()))
            if len(described):
                target.append([described], int(described.columns["id"][-1]) + 1)
                added += len(described)
        target.renumber(source.head.next_id)
        there = {int(number) for one in target.segments for number in one.columns["id"]}
        verdicts = [one for one in VerdictFile(old).all() if one.id in there]
        VerdictFile(new).replace(verdicts)
    return Reindexed(added, len(there), tuple(left_out))


def reindex_collection(
    old: GalleryStore,
    new: GalleryStore,
    put: Callable[[Any, Sequence[int], Sequence[GalleryEntry]], None],
    matcher: Matcher[Any],
    reporter: Reporter = SILENT,
) -> Reindexed:
    """The same between Milvus collections; ``put(descriptions, ids, entries)`` adds to ``new``."""
    there = {number for number, _ in new.listed()}
    progress = reporter.begin("describing", len(old))
    left_out: list[str] = []
    added = 0
    for part in _batches(old):
        progress(sum(number in there for number, _ in part))
        waiting = [(number, one) for number, one in part if number not in there]
        pictures = [_picture_or_reason(one, None) for _, one in waiting]
        pairs = [*zip(waiting, pictures, strict=True)]
        left_out += [picture for _, picture in pairs if isinstance(picture, str)]
        good = [(one, picture) for one, picture in pairs if not isinstance(picture, str)]
        progress(len(waiting))
        if good:
            descriptions = matcher.describe([picture for _, picture in good])
            _require_finite(matcher, descriptions)
            entries = [dataclasses.replace(one, model="") for (_, one), _ in good]
            put(descriptions, [number for (number, _), _ in good], entries)
            added += len(good)
    known = set(new.confirmed())
    for verdict in old.confirmed():
        if verdict not in known:
            new.confirm(verdict)
    return Reindexed(added, len(new), tuple(left_out))


def _batches(store: GalleryStore) -> Iterator[list[tuple[int, GalleryEntry]]]:
    waiting: list[tuple[int, GalleryEntry]] = []
    for one in store.listed(pictures=True):
        waiting.append(one)
        if len(waiting) == IMAGES_AT_ONCE:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _parts(segments: Sequence[Segment]) -> Iterator[Segment]:
    """Rows in steps, in memory, checked."""
    for segment in segments:
        segment.require_intact()
        for at in range(0, len(segment), IMAGES_AT_ONCE):
            rows = np.zeros(len(segment), np.bool_)
            rows[at : at + IMAGES_AT_ONCE] = True
            yield kept_rows(segment, rows)


def _described_rows(rows: Segment, matcher: Matcher[Any]) -> tuple[Segment, list[str]]:
    """The rows with a usable picture, with new features; and the others' names and reasons."""
    left_out: list[str] = []
    images: list[Image] = []
    keep = np.zeros(len(rows), np.bool_)
    for row in range(len(rows)):
        entry = rows.entry(row, with_picture=True)
        found = _picture_or_reason(entry, int(rows.columns["key"][row]))
        if isinstance(found, str):
            left_out.append(found)
        else:
            images.append(found)
            keep[row] = True
    if not images:
        return kept_rows(rows, keep), left_out
    descriptions = matcher.describe(images)
    _require_finite(matcher, descriptions)
    pieces = matcher.pieces(descriptions)
    kept = kept_rows(rows, keep)
    columns: dict[str, Column] = {
        name: column
        for name, column in kept.columns.items()
        if not name.startswith(DESCRIBED) and name not in (DESCRIBED_CHECK, ENTRY_CHECK)
    }
    for name in pieces[0]:
        columns[DESCRIBED + name] = np.concatenate([piece[name] for piece in pieces])
    columns["model"] = np.zeros(len(images), np.int32)
    names = {**kept.names, "model": [str(matcher.identity.get("checkpoint", ""))]}
    return Segment(columns, names), left_out


def _picture_or_reason(entry: GalleryEntry, key: int | None) -> Image | str:
    """The image of the person, or a line about why there is none."""
    try:
        if entry.picture:
            return decode_image(entry.picture, entry.source)
        content = read_image_file(entry.source)
        if key is not None:
            now = [dataclasses.replace(entry, content=content_hash(content))]
            if key not in (int(keys_of(now)[0]), int(earlier_keys_of(now)[0])):
                return f"{entry.source}: the file has changed since it was indexed"
        return cropped(decode_image(content, entry.source), entry.box, entry.source)
    except DataError as error:
        return str(error)


def _require_finite(matcher: Matcher[Any], descriptions: Any) -> None:
    if not matcher.finite(descriptions).all():
        raise ModelFileError("the model's output is NaN or infinite; use FP32")
