"""Descriptions in a file: a gallery that was described before, for later queries.

A safetensors file: the description's arrays, (N, ...) each, with ``person_ids`` and
``camera_ids`` (N,), and in its head which model described them, and checksums. It is written piece
by piece and, if large, read through a memory map, so it may be larger than the memory. It shows
people: it is written for its owner alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic

import numpy as np

from reid.errors import ModelFileError
from reid.matching.columns import Column, ColumnFile, Part, open_columns, write_columns
from reid.matching.descriptions import MEMORY_BYTES, PIECE_IMAGES, STORED, layout
from reid.matching.labels import Labels, labels_from_records
from reid.matching.matcher import Array, DescriptionT, Matcher, model_differences
from reid.types import ImageRecord

FORMAT = "reid-toolkit descriptions 2"
EARLIER = ("reid-toolkit descriptions 1",)
"""Formats without checksums."""


_LABELS = ("person_ids", "camera_ids")
_WHAT = "file of described images"
_REMEDY = "write a file with `reid describe` and use that"


@dataclass(frozen=True, slots=True)
class DescribedImages(Generic[DescriptionT]):
    """The contents of a file: descriptions, identities, cameras, and the images' file names."""

    descriptions: DescriptionT
    labels: Labels
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """The same before the model is applied: arrays in pieces, read from disk when used."""

    model: Mapping[str, str]
    """The ``identity`` of the matcher that described the images."""
    pieces: tuple[Mapping[str, Array], ...]
    labels: Labels
    names: tuple[str, ...]


class _Piece(Mapping[str, Array]):
    """Some images' arrays; the file's size is checked each time, for those in its memory map.

    Raises ModelFileError where the file was cut short.
    """

    def __init__(self, file: ColumnFile, columns: Mapping[str, Array], rows: slice) -> None:
        self._file, self._columns, self._rows = file, columns, rows

    def __getitem__(self, name: str) -> Array:
        if self._columns is self._file.columns:
            self._file.require_size()
        return self._columns[name][self._rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def save_descriptions(
    path: Path,
    matcher: Matcher[DescriptionT],
    descriptions: DescriptionT,
    records: Sequence[ImageRecord],
) -> None:
    """Write ``descriptions`` of ``records``; see ``write_described``."""
    names = [record.path.name for record in records]
    labels = labels_from_records(records)
    write_described(path, matcher.identity, matcher.pieces(descriptions), labels, names)


def write_described(
    path: Path,
    model: Mapping[str, str],
    pieces: Sequence[Mapping[str, Array]],
    labels: Labels,
    names: Sequence[str],
) -> None:
    """Write described images atomically. Raises OutputError.

    Pieces on disk are read one array at a time, so no more of them is in memory.
    """
    columns: dict[str, list[Column | Part]] = {
        name: [Part(*layout(piece, name), partial(piece.__getitem__, name)) for piece in pieces]
        for name in (pieces[0] if pieces else ())
    }
    columns |= {name: [ids] for name, ids in zip(_LABELS, labels, strict=True)}
    texts = {"model": json.dumps(dict(model)), "names": json.dumps(list(names))}
    write_columns(path, FORMAT, texts, columns, private=True)


def load_descriptions(
    path: Path, matcher: Matcher[DescriptionT], piece_size: int = PIECE_IMAGES
) -> DescribedImages[DescriptionT]:
    """Read a file made with ``matcher``'s model.

    Raises ModelFileError for another kind of file, one that is cut short or damaged, or holds
    descriptions of another model, precision or stored form, which cannot be compared.
    """
    stored = read_described(path, piece_size)
    own, model = matcher.identity, stored.model
    form = _form(model)
    if form and model != own and {**model, "stored": own.get("stored")} == own:
        raise ModelFileError(
            f"{path} stores descriptions in another form: expected {own['stored']}, found "
            f"{form}; describe the images again with `reid describe --stored {own['stored']}`"
        )
    refuse_other_model(model, own, f"{path} was described")
    return DescribedImages(matcher.from_pieces(stored.pieces), stored.labels, stored.names)


def refuse_other_model(found: object, own: Mapping[str, str], what: str) -> None:
    """Raise ModelFileError, beginning with ``what``, unless both identities are equal."""
    differences = model_differences(found, own)
    if differences:
        raise ModelFileError(
            f"{what} by another model: {differences}; descriptions of two models or "
            "precisions cannot be compared: describe the images again with this one"
        )


def read_described(path: Path, piece_size: int = PIECE_IMAGES) -> Stored:
    """Read a file, whichever model made it. Raises ModelFileError for another kind of file."""
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
            raise ValueError("its arrays have different lengths or dtypes")
        if not isinstance(names, list) or len(names) != len(labels[0]):
            raise ValueError(f"expected {len(labels[0])} file names")
    except (KeyError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is not a {_WHAT} ({error}); {_REMEDY}") from None
    if sum(column.nbytes for column in columns.values()) <= MEMORY_BYTES:
        file.require_size()
        columns = {name: np.array(column) for name, column in columns.items()}
    pieces = tuple(
        _Piece(file, columns, slice(at, at + piece_size))
        for at in range(0, len(labels[0]), piece_size)
    )
    known = model if isinstance(model, dict) else {}
    return Stored(known, pieces, Labels(*labels), tuple(map(str, names)))


def stored_form(path: Path) -> str | None:
    """The form, one of STORED, of a file from a network that compares pairs.

    None for embeddings, and if the file does not say, which ``load_descriptions`` reports. Raises
    ModelFileError for a file of another type or a truncated one.
    """
    texts = open_columns(path, FORMAT, _WHAT, _REMEDY, earlier=EARLIER).texts
    try:
        return _form(json.loads(texts["model"]))
    except (KeyError, RecursionError, ValueError):
        return None


def _form(model: object) -> str | None:
    """The stored form in a file's model identity, if any."""
    found = model.get("stored") if isinstance(model, dict) else None
    return next((form for form in STORED if form == found), None)
