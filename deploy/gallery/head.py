"""``gallery.json``: the model of a gallery, and the files that its rows are in."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reid.errors import DataError, ModelFileError

from .sealed import sealed_json, unsealed

FORMAT = "reid gallery 2"
EARLIER = "reid gallery 1"
"""The format without checksums."""

HEAD_NAME = "gallery.json"
SEGMENT_FILE = re.compile(r"segment-\d{8,18}\.safetensors")

_MAX_COUNT = 10**17
"""Far above any real gallery; a larger number means a damaged file."""


class ListedSegment(NamedTuple):
    """A file of rows: its name, how many rows it has, and its seal (empty in format 1)."""

    name: str
    rows: int
    seal: str


@dataclass(frozen=True, slots=True)
class Head:
    """The content of ``gallery.json``; the ``segments`` are in the rows' order."""

    id: str
    model: Mapping[str, str]
    next_id: int = 0
    next_file: int = 0
    segments: tuple[ListedSegment, ...] = ()

    def to_json(self) -> str:
        """The text of the file."""
        return sealed_json({"format": FORMAT, **dataclasses.asdict(self)})


def read_head(folder: Path) -> Head:
    """Raises DataError if there is no gallery, ModelFileError for a damaged or missing file."""
    path = folder / HEAD_NAME
    try:
        body: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        if segment_files(folder):
            raise _damaged(path, "it is missing") from None
        raise DataError(
            f"{folder}: no gallery there; make one: reid index MODEL IMAGES --gallery {folder}"
        ) from None
    except (OSError, RecursionError, ValueError) as error:
        raise _damaged(path, error) from None
    try:
        if body["format"] not in (FORMAT, EARLIER):
            raise ValueError(f"expected the format {FORMAT!r}")
        body = unsealed(body, needed=body["format"] == FORMAT)
        seals = [] if body.pop("format") == FORMAT else [""]
        segments = tuple(ListedSegment(*found, *seals) for found in body.pop("segments"))
        head = Head(segments=segments, **body)
        _require_possible(head)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise _damaged(path, error) from None
    return head


def _require_possible(head: Head) -> None:
    """Raise ValueError or TypeError for values that no gallery has."""
    if not all(isinstance(text, str) for one in head.segments for text in (one.name, one.seal)):
        raise ValueError("invalid segment")
    names = [one.name for one in head.segments]
    numbers = (head.next_id, head.next_file, *(one.rows for one in head.segments))
    if not all(map(SEGMENT_FILE.fullmatch, names)) or len(set(names)) < len(names):
        raise ValueError("invalid segment name")
    whole = all(type(number) is int and 0 <= number < _MAX_COUNT for number in numbers)
    if not whole or 0 in numbers[2:]:
        raise ValueError("invalid count")
    if not isinstance(head.id, str) or not isinstance(head.model, dict):
        raise ValueError("invalid id or model")


def segment_files(folder: Path) -> list[Path]:
    """The files of rows that are in a folder, listed or not."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [folder / name for name in names if SEGMENT_FILE.fullmatch(name)]


def _damaged(path: Path, error: object) -> ModelFileError:
    return ModelFileError(
        f"{path} is damaged ({error}); restore it from a copy, or index the images again into a "
        f"new gallery; reid gallery check {path.parent} says what of it is intact"
    )
