"""A gallery's rows in files that are written once: features, and a column for each label.

A file is a safetensors file. Its columns, n rows each: the matcher's feature arrays
(``described.NAME``), ``id`` and ``key`` (n,) int64 and uint64; ``time_us``, ``offset_us`` (the
place in a video), ``frame`` and ``track`` (n,) int64; ``person``, ``camera``, ``run`` and ``model``
(n,) int32 as indices of the names in the header; ``box`` (n, 4) int32. Texts (``source``,
``picture``, ``picture_ref``) are stored as concatenated bytes and the end of each. Two columns hold
a CRC-32 of each row, ``check.described`` and ``check.entry``, and the header one of each column:
so damage is found, and the other rows of a damaged file stay usable.

Files of format 1 have neither checksums nor the columns that came with format 2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import ModelFileError
from reid.matching.columns import Column, open_columns, write_columns

from .rows import (
    DESCRIBED,
    DESCRIBED_CHECK,
    ENTRY_CHECK,
    NAMES,
    NUMBERS,
    TEXTS,
    UNKNOWN,
    joined_texts,
)
from .segments import Damage, DamagedRowsError, Segment, kept_rows, words_of

FORMAT = "reid gallery segment 2"
EARLIER = ("reid gallery segment 1",)
"""Formats without checksums."""

_REMEDY = "restore it from a copy, or index the images again into a new gallery"
_CHECKS = (DESCRIBED_CHECK, ENTRY_CHECK)
_SCALARS = {
    **dict.fromkeys(("id", *NUMBERS), np.int64),
    **dict.fromkeys((f"{name}.ends" for name in TEXTS), np.int64),
    **dict.fromkeys((*NAMES, *_CHECKS), np.int32),
    "key": np.uint64,
}
"""Columns with one number per row."""


def write_segment(path: Path, segments: Sequence[Segment]) -> str:
    """Write the rows of all segments into one file; returns its seal. Raises OutputError."""
    segments = [segment.checked() for segment in segments]
    names: dict[str, dict[str, int]] = {name: {} for name in NAMES}
    columns: dict[str, list[Column]] = {name: [] for name in segments[0].columns}
    ends = dict.fromkeys(TEXTS, 0)
    for segment in segments:
        for name, column in segment.columns.items():
            part = column
            if name in NAMES:
                codes = names[name]
                own = [codes.setdefault(word, len(codes)) for word in segment.names[name]]
                part = np.array(own, np.int32)[column]
            columns[name].append(part)
        for name in TEXTS:
            columns[f"{name}.ends"][-1] = columns[f"{name}.ends"][-1] + ends[name]
            ends[name] += len(segment.columns[f"{name}.bytes"])
    texts = {name: json.dumps(list(codes)) for name, codes in names.items()}
    return write_columns(path, FORMAT, texts, columns, private=True)


def read_segment(path: Path, num_rows: int, seal: str | None = None) -> Segment:
    """Open a file of ``num_rows`` rows, whose labels are checked; the rest is when it is used.

    ``seal`` is the one that it was written with, empty for a file of format 1, None if unknown.
    Raises ModelFileError for a damaged file, DamagedRowsError if some rows may be intact.
    """
    segment = _opened(path, num_rows, seal)
    if columns := segment.damaged_labels():
        raise DamagedRowsError(f"{path} is damaged ({words_of(columns)}); see reid gallery check")
    if problem := _content_problem(segment):
        raise ModelFileError(f"{path} is damaged ({problem}); {_REMEDY}")
    return segment


def rows_and_seal(path: Path) -> tuple[int, str]:
    """How many rows a file says that it has, and its seal. Raises ModelFileError."""
    file = open_columns(path, FORMAT, "segment of a gallery", _REMEDY, earlier=EARLIER)
    return len(file.columns.get("id", ())), file.seal


def salvaged(path: Path, num_rows: int, seal: str | None) -> tuple[Segment | None, Damage | None]:
    """What is intact of a file, its damaged rows left out; and what is wrong with it, if anything.

    A file without damage stays in its memory map, the intact rows of another are copied.
    """
    try:
        segment = _opened(path, num_rows, seal)
        damage = segment.damage()
        if damage is None and (problem := _content_problem(segment)):
            damage = Damage(path, problem)
    except ModelFileError as error:
        return None, Damage(path, str(error))
    if damage is None:
        return segment, None
    if damage.rows is None or damage.rows.all():
        return None, damage
    kept = kept_rows(segment, ~damage.rows)
    return Segment(kept.columns, kept.names, path), damage


def _opened(path: Path, num_rows: int, seal: str | None) -> Segment:
    """A file whose columns are all there. Raises ModelFileError for any other."""
    file = open_columns(path, FORMAT, "segment of a gallery", _REMEDY, earlier=EARLIER)
    is_other = seal is not None and file.seal != seal
    if is_other or (file.format_name == FORMAT and not file.seal):
        raise ModelFileError(f"{path} is not the file that the gallery lists; {_REMEDY}")
    columns, texts = dict(file.columns), file.texts
    if file.format_name != FORMAT:
        columns |= _added_columns(num_rows)
        texts = {"run": '[""]', "model": '[""]', **texts}
    try:
        names: dict[str, Any] = {name: json.loads(texts[name]) for name in NAMES}
        problem = _kind_problem(columns, names, num_rows, bool(file.seal))
    except (KeyError, RecursionError, ValueError) as error:
        problem = f"a column is missing or unreadable: {error}"
    if problem:
        raise ModelFileError(f"{path} is damaged ({problem}); {_REMEDY}")
    return Segment(columns, names, path, file)


def _added_columns(num_rows: int) -> dict[str, Column]:
    """What format 1 did not store: nothing of it is known."""
    unknown = dict.fromkeys(("offset_us", "frame", "track"), np.full(num_rows, UNKNOWN, np.int64))
    names = dict.fromkeys(("run", "model"), np.zeros(num_rows, np.int32))
    return {**unknown, **names, **joined_texts("picture_ref", [b""] * num_rows)}


def _kind_problem(
    columns: Mapping[str, Column], names: Mapping[str, Any], num_rows: int, has_checks: bool
) -> str:
    """What is wrong with the columns' kinds. Raises KeyError for a missing column."""
    for name, kind in _SCALARS.items():
        if name in _CHECKS and not has_checks:
            continue
        if columns[name].dtype != kind or columns[name].shape != (num_rows,):
            return f"{name} does not have {num_rows} numbers of the right type"
    if columns["box"].shape != (num_rows, 4) or columns["box"].dtype != np.int32:
        return "box does not have 4 numbers per row"
    for name in NAMES:
        words = names[name]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            return f"{name} has no list of names"
    for name in TEXTS:
        if columns[f"{name}.bytes"].ndim != 1 or columns[f"{name}.bytes"].dtype != np.uint8:
            return f"{name} is not text"
    described = [column for name, column in columns.items() if name.startswith(DESCRIBED)]
    if not described or any(column.shape[:1] != (num_rows,) for column in described):
        return "it has no features for its rows"
    return ""


def _content_problem(segment: Segment) -> str:
    """What is wrong with the values of a file whose columns are there; empty if nothing is."""
    columns, num_rows = segment.columns, len(segment)
    for name in NAMES:
        codes = columns[name]
        if num_rows and not (codes.min() >= 0 and codes.max() < len(segment.names[name])):
            return f"{name} has an index without a name"
    for name in TEXTS:
        ends, content = columns[f"{name}.ends"], columns[f"{name}.bytes"]
        rises = num_rows == 0 or (ends[0] >= 0 and bool((ends[1:] >= ends[:-1]).all()))
        if not rises or len(content) != (ends[-1] if num_rows else 0):
            return f"{name} has impossible ends"
    if not bool((columns["id"][1:] > columns["id"][:-1]).all()):
        return "its rows are not sorted"
    return ""
