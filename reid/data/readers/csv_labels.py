"""A user's own images listed in a CSV file: ``path,person_id,camera_id,split``.

The first line names the columns, in any order, separated by commas or semicolons; other columns
are ignored. Paths are relative to the CSV's folder and must stay inside it. ``camera_id`` is
optional (no cameras), and so is ``split`` (random split); it is train, query, gallery or test.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from reid.data.readers.division import Choice
from reid.data.readers.folders import Contents, require_files, scan
from reid.data.readers.label_files import name_from_cell, read_table
from reid.data.readers.own_images import SUBSETS, UNDIVIDED, LabelledImage, divide, number_images
from reid.errors import DataError, nearest
from reid.types import Split

COLUMNS = ("path", "person_id", "camera_id", "split")
_NEEDED = COLUMNS[:2]


def list_csv(root: Path, choice: Choice) -> Contents:
    """The images named by the CSV in the folder ``root``, whether or not they exist.

    Raises DataError if there is not exactly one CSV, or one of its lines is invalid.
    """
    source = _csv_file(root)
    labels = _labels(source, choice)
    return number_images(labels, {}, [f"labels from {source.name}"], source, choice)


def read_csv(root: Path, choice: Choice) -> Split:
    """The CSV's split, or a random one. Raises DataError, also if an image is missing."""
    source, contents = _csv_file(root), list_csv(root, choice)
    for listing in contents.subsets.values():
        require_files(listing.records, source)
    return divide("csv", contents, choice, source)


def _csv_file(root: Path) -> Path:
    found = [name for name in scan(root)[0] if name.lower().endswith(".csv")]
    if len(found) != 1:
        raise DataError(
            f"{root}: expected one CSV file with the columns {', '.join(COLUMNS)}; "
            f"found {', '.join(found[:5]) or 'none'}"
        )
    return root / found[0]


def _labels(source: Path, choice: Choice) -> list[LabelledImage]:
    real_folder = lru_cache(os.path.realpath)  # there are many images to a folder
    lines: dict[Path, int] = {}
    labels = []
    for line, row in read_table(source, COLUMNS, _NEEDED, choice.progress):
        try:
            label = _label(source.parent, real_folder, row)
            first = lines.setdefault(label.path, line)
            if first != line:
                raise ValueError(f"duplicate path {row['path']!r}, first in line {first}")
        except ValueError as error:
            raise DataError(f"{source}, line {line}: {error}") from None
        labels.append(label)
    divided = sum(label.subset != UNDIVIDED for label in labels)
    if 0 < divided < len(labels):
        raise DataError(
            f"{source}: {divided:,} of {len(labels):,} lines have a split; give every line a "
            "split, or none"
        )
    return labels


def _label(
    base: Path, real_folder: Callable[[str | Path], str], row: Mapping[str, str]
) -> LabelledImage:
    """One row as a labelled image. Raises ValueError if a value is missing or invalid."""
    text, person, camera, split = (row[name] for name in COLUMNS)
    subset = split.lower()
    if not text or not person:
        raise ValueError("expected a path and a person_id; one of them is empty")
    if subset not in ("", *SUBSETS):
        raise ValueError(
            f"split must be one of {', '.join(SUBSETS)}; found {split!r}{nearest(subset, SUBSETS)}"
        )
    path = os.path.join(base, text.replace("\\", "/"))  # Windows separators
    if "\0" in text or not _is_inside(path, base, real_folder):
        raise ValueError(f"{text!r} is outside {base}; images must be inside the CSV's folder")
    camera = name_from_cell(camera)
    return LabelledImage(Path(path), name_from_cell(person), camera or None, subset or UNDIVIDED)


def _is_inside(path: str, base: Path, real_folder: Callable[[str | Path], str]) -> bool:
    """Whether ``path`` is inside ``base`` after resolving all links and ``..``."""
    folder, name = os.path.split(path)
    is_plain = name not in ("..", ".", "") and not os.path.islink(path)
    real = os.path.join(real_folder(folder), name) if is_plain else os.path.realpath(path)
    return real.startswith(real_folder(base) + os.sep)
