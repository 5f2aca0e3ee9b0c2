"""Images for a gallery: a user's folders, a CSV file, or single files.

Folders may have any layout of ``reid.data.readers.person_folders``, or none: images without a
label get no person. A CSV file has a column ``path`` and any of ``person_id``, ``camera_id``,
``time`` (see ``seconds_from_text``) and ``box`` (left, top, width, height in pixels, separated by
spaces); its paths are relative to its folder and must stay inside it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from reid.data.readers.folders import is_image, scan
from reid.data.readers.label_files import read_text_file
from reid.data.readers.person_folders import labelled_images
from reid.errors import ConfigError, DataError, nearest
from reid.types import DISTRACTOR_ID

from .gallery import Box, GalleryEntry, Where
from .times import seconds_from_text

COLUMNS = ("path", "person_id", "camera_id", "time", "box")


def list_images(sources: Sequence[Path]) -> list[GalleryEntry]:
    """The images of each source, sorted by name; ``GalleryEntry.source`` is an absolute path.

    Raises DataError if there is no image, or for a malformed line of a CSV file.
    """
    found: list[GalleryEntry] = []
    for source in sources:
        if source.suffix.lower() == ".csv":
            found += _from_csv(source)
        elif source.is_file():
            found.append(GalleryEntry(_absolute(source)))
        else:
            found += _from_folder(source)
    if not found:
        raise DataError(
            f"{', '.join(map(str, sources))}: no image found; expected a folder of .jpg, .png or "
            ".bmp files, or a CSV file that names them"
        )
    return found


def labelled(entries: Sequence[GalleryEntry], camera: str, time: str) -> list[GalleryEntry]:
    """Entries with this camera and time where they have none; ``time`` "file" is each file's time.

    Raises DataError for a malformed time.
    """
    given = seconds_from_text(time) if time not in ("", "file") else None
    return [
        dataclasses.replace(
            one,
            camera=one.camera or camera,
            time_s=(_written_s(one) if time == "file" else given)
            if one.time_s is None
            else one.time_s,
        )
        for one in entries
    ]


def where_from(conditions: Sequence[str]) -> Where:
    """``person=NAME``, ``camera=NAME``, ``since=TIME``, ``until=TIME``. Raises ConfigError."""
    found: dict[str, list[str]] = {key: [] for key in ("person", "camera", "since", "until")}
    for condition in conditions:
        key, equals, value = condition.partition("=")
        if key not in found or not equals or not value:
            raise ConfigError(
                f"expected person=NAME, camera=NAME, since=TIME or until=TIME; found {condition!r}"
                f"{nearest(key, found)}"
            )
        found[key].append(value)
    since, until = ([seconds_from_text(text) for text in found[key]] for key in ("since", "until"))
    return Where(
        names_from(found["person"]),
        names_from(found["camera"]),
        max(since, default=None),
        min(until, default=None),
    )


def names_from(words: Sequence[str]) -> tuple[str, ...]:
    """Names to filter by: as written, and as ``list_images`` stores them (0002 as 2)."""
    return tuple(dict.fromkeys(name for word in words for name in (word, _name(word) or word)))


def _written_s(entry: GalleryEntry) -> float:
    try:
        return os.stat(entry.source).st_mtime
    except OSError as error:
        raise DataError(f"{entry.source}: cannot be read: {error.strerror or error}") from error


def _from_folder(root: Path) -> list[GalleryEntry]:
    images = labelled_images(root)[0]
    found = [
        GalleryEntry(_absolute(one.path), _name(one.person), _name(one.camera)) for one in images
    ]
    placed = {one.source for one in found}
    loose = (_absolute(root / name) for name in scan(root)[0] if is_image(name))
    return found + [GalleryEntry(path) for path in loose if path not in placed]


def _from_csv(source: Path) -> list[GalleryEntry]:
    text = read_text_file(source)
    header = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""),
        delimiter=";" if header.count(";") > header.count(",") else ",",
        restval="",
        strict=True,  # otherwise an unclosed quote would swallow the following lines
    )
    found = []
    try:
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        if COLUMNS[0] not in reader.fieldnames:
            raise DataError(
                f"{source}: no column path{nearest('path', reader.fieldnames)}; the first line "
                f"names path and any of {', '.join(COLUMNS[1:])}"
            )
        base = os.path.realpath(source.parent)
        for row in reader:
            try:
                found.append(_entry(base, {name: row.get(name) or "" for name in COLUMNS}))
            except (DataError, ValueError) as error:
                raise DataError(f"{source}, line {reader.line_num}: {error}") from None
    except csv.Error as error:
        raise DataError(f"{source}, line {reader.line_num}: not CSV ({error})") from error
    return found


def _entry(base: str, row: Mapping[str, str]) -> GalleryEntry:
    """Raises DataError or ValueError for malformed values."""
    path, person, camera, time, box = (row[name].strip() for name in COLUMNS)
    place = os.path.realpath(os.path.join(base, path.replace("\\", "/")))  # a Windows path
    if not path or not place.startswith(base + os.sep):
        raise ValueError(f"{path!r} is not inside the CSV file's folder; images must be there")
    return GalleryEntry(
        place,
        _name(person),
        _name(camera),
        seconds_from_text(time) if time else None,
        _box(box) if box else None,
    )


def _box(words: str) -> Box:
    try:
        left, top, width, height = map(int, words.split())
        if not (min(width, height) > 0 and max(map(abs, (left, top, width, height))) < 2**31):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"a box is left, top, width and height in pixels, at least 1x1; found {words[:60]!r}"
        ) from None
    return left, top, width, height


def _name(word: int | str | None) -> str:
    """A stored name: numbers without leading zeros; empty for no person (-1, 0)."""
    text = "" if word is None else str(word)
    if text.lstrip("-").isascii() and text.lstrip("-").isdecimal() and len(text) < 19:
        return str(int(text)) if int(text) > DISTRACTOR_ID else ""
    return text


def _absolute(path: Path) -> str:
    return os.path.abspath(path)
