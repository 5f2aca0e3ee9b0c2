"""Described images in a file: a gallery that was indexed before, for later queries.

A safetensors file: the description's arrays, (N, ...) each, with ``person_ids`` and
``camera_ids`` (N,), and in its head which model described them, and checksums. It is written piece
by piece and read through a memory map, so it may be larger than the memory. It shows people: it is
written for its owner alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic

import numpy as np

from reid.errors import ModelFileError
from reid.matching.columns import Column, Part, open_columns, write_columns
from reid.matching.descriptions import PIECE_IMAGES, STORED, layout
from reid.matching.labels import Labels, labels_from_records
from reid.matching.matcher import DescriptionT, Matcher, model_differences
from reid.types import ImageRecord

FORMAT = "reid-toolkit descriptions 2"
EARLIER = ("reid-toolkit descriptions 1",)
"""Formats without checksums."""


_LABELS = ("person_ids", "camera_ids")
_WHAT = "file of described images"
_REMEDY = "describe the images with `reid describe` and give the file that it writes"


@dataclass(frozen=True, slots=True)
class DescribedImages(Generic[DescriptionT]):
    """What a file holds: descriptions, whom they show, and the images' file names."""

    descriptions: DescriptionT
    labels: Labels
    names: tuple[str, ...]


def save_descriptions(
    path: Path,
    matcher: Matcher[DescriptionT],
    descriptions: DescriptionT,
    records: Sequence[ImageRecord],
) -> None:
    """Write ``descriptions`` of ``records`` atomically. Raises OutputError.

    Pieces that lie on disk are read one array at a time, so no more of them is in memory.
    """
    pieces = matcher.pieces(descriptions)
    columns: dict[str, list[Column | Part]] = {
        name: [Part(*layout(piece, name), partial(piece.__getitem__, name)) for piece in pieces]
        for name in (pieces[0] if pieces else ())
    }
    labels = labels_from_records(records)
    columns |= {name: [ids] for name, ids in zip(_LABELS, labels, strict=True)}
    texts = {
        "model": json.dumps(dict(matcher.identity)),
        "names": json.dumps([record.path.name for record in records]),
    }
    write_columns(path, FORMAT, texts, columns, private=True)


def load_descriptions(
    path: Path, matcher: Matcher[DescriptionT], piece_size: int = PIECE_IMAGES
) -> DescribedImages[DescriptionT]:
    """Read a file, if ``matcher``'s model made it.

    Raises ModelFileError for a file that is no such file, is cut short or damaged, or holds
    descriptions of another model, precision or stored form, which cannot be compared.
    """
    file = open_columns(path, FORMAT, _WHAT, _REMEDY, earlier=EARLIER)
    if file.format_name == FORMAT and not file.seal:
        raise ModelFileError(f"{path} is damaged (it has no checksums); {_REMEDY}")
    file.require_undamaged()
    texts, columns = file.texts, file.columns
    lengths = {len(column) if column.ndim else 0 for column in columns.values()}
    labels = [np.array(columns.pop(name)) for name in _LABELS if name in columns]
    labels = [ids for ids in labels if ids.dtype == np.int64 and ids.ndim == 1]
    try:
        model, names = json.loads(texts["model"]), json.loads(texts["names"])
        if len(lengths) != 1 or len(labels) != len(_LABELS):
            raise ValueError("its arrays are of unlike lengths or kinds")
        if not isinstance(names, list) or len(names) != len(labels[0]):
            raise ValueError(f"expected {len(labels[0])} file names")
    except (KeyError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is no {_WHAT} ({error}); {_REMEDY}") from None
    own = matcher.identity
    differences = model_differences(model, own)
    if differences and _form(model) and {**model, "stored": own.get("stored")} == own:
        raise ModelFileError(
            f"{path} keeps descriptions in another form: expected {own['stored']}, found "
            f"{_form(model)}; describe the images again with `reid describe --stored "
            f"{own['stored']}`"
        )
    if differences:
        raise ModelFileError(
            f"{path} was described by another model: {differences}; descriptions of two models or "
            "precisions cannot be compared: describe the images again with this one"
        )
    pieces = [
        {name: column[at : at + piece_size] for name, column in columns.items()}
        for at in range(0, len(labels[0]), piece_size)
    ]
    return DescribedImages(matcher.from_pieces(pieces), Labels(*labels), tuple(names))


def stored_form(path: Path) -> str | None:
    """The form, one of STORED, in which a file keeps what a network of pairs described.

    None for vectors, and where the file does not say, which ``load_descriptions`` tells. Raises
    ModelFileError for a file that is no such file or is cut short.
    """
    texts = open_columns(path, FORMAT, _WHAT, _REMEDY, earlier=EARLIER).texts
    try:
        return _form(json.loads(texts["model"]))
    except (KeyError, RecursionError, ValueError):
        return None


def _form(model: object) -> str | None:
    """Which of STORED a file's model tells, if any."""
    found = model.get("stored") if isinstance(model, dict) else None
    return next((form for form in STORED if form == found), None)
