"""Described images in a file: a gallery that was indexed before, for later queries.

A safetensors file: the description's arrays, (N, ...) each, with ``person_ids`` and
``camera_ids`` (N,), and in its head which model described them. It is written piece by piece
and read through a memory map, so it may be larger than the memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic

import numpy as np

from reid.errors import MissingPackageError, ModelFileError
from reid.files import write_atomically
from reid.matching.matcher import DescriptionT, Matcher
from reid.ranking import Labels, labels_from_records
from reid.types import ImageRecord

try:
    from safetensors import SafetensorError, safe_open
except ImportError as error:
    raise MissingPackageError(
        "files of described images need safetensors: pip install 'reid-toolkit[edge]'"
    ) from error

FORMAT = "reid-toolkit descriptions 1"

_CODES = {"F16": np.float16, "F32": np.float32, "I64": np.int64}
_LABELS = ("person_ids", "camera_ids")
_LENGTH_BYTES = 8


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
    """Write ``descriptions`` of ``records`` atomically. Raises OutputError."""
    pieces = matcher.pieces(descriptions)
    labels = dict(zip(_LABELS, labels_from_records(records), strict=True))
    head: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "model": json.dumps(dict(matcher.identity)),
            "names": json.dumps([record.path.name for record in records]),
        }
    }
    end = 0
    arrays = {name: [piece[name] for piece in pieces] for name in (pieces[0] if pieces else ())}
    columns: dict[str, list[np.ndarray[Any, Any]]] = {
        **arrays,
        **{name: [ids] for name, ids in labels.items()},
    }
    codes = {np.dtype(kind): code for code, kind in _CODES.items()}
    for name, parts in columns.items():
        size = sum(part.nbytes for part in parts)
        shape = [sum(len(part) for part in parts), *parts[0].shape[1:]]
        head[name] = {
            "dtype": codes[parts[0].dtype],
            "shape": shape,
            "data_offsets": [end, end + size],
        }
        end += size
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # arrays begin aligned

    def write(file: IO[bytes]) -> None:
        file.write(len(text).to_bytes(_LENGTH_BYTES, "little"))
        file.write(text)
        for parts in columns.values():
            for part in parts:
                file.write(np.ascontiguousarray(part).data)

    write_atomically(path, write)


def load_descriptions(
    path: Path, matcher: Matcher[DescriptionT], piece_size: int = 64
) -> DescribedImages[DescriptionT]:
    """Read a file, if ``matcher``'s model made it.

    Raises ModelFileError for a file that is no such file, is cut short, or holds descriptions
    of another model or precision, which cannot be compared.
    """
    head = _checked_head(path)
    metadata = head.pop("__metadata__")
    _require_same_model(path, json.loads(metadata["model"]), matcher.identity)
    with path.open("rb") as file:
        start = _LENGTH_BYTES + int.from_bytes(file.read(_LENGTH_BYTES), "little")
    columns = {
        name: np.memmap(
            path,
            _CODES[entry["dtype"]],
            "r",
            start + entry["data_offsets"][0],
            tuple(entry["shape"]),
        )
        for name, entry in head.items()
    }
    person_ids, camera_ids = (np.array(columns.pop(name)) for name in _LABELS)
    num = len(person_ids)
    pieces = [
        {name: column[at : at + piece_size] for name, column in columns.items()}
        for at in range(0, num, piece_size)
    ]
    labels = Labels(person_ids, camera_ids)
    names = tuple(json.loads(metadata["names"]))
    return DescribedImages(matcher.from_pieces(pieces), labels, names)


def _checked_head(path: Path) -> dict[str, Any]:
    """The head of a whole, well-formed file of this format."""
    what = f"{path} is no file of described images, or is cut short"
    remedy = "write it again with `reid describe`"
    try:
        with safe_open(path, "numpy") as opened:  # checks the head against the file's length
            metadata = opened.metadata() or {}
            names = set(opened.keys())
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            head: dict[str, Any] = json.loads(file.read(length))
    except FileNotFoundError:
        raise ModelFileError(f"{path}: no such file; {remedy}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{what} ({error}); {remedy}") from None
    if metadata.get("format") != FORMAT or not names.issuperset(_LABELS):
        raise ModelFileError(f"{what} (format: {FORMAT}); {remedy}")
    arrays = {name: entry for name, entry in head.items() if name != "__metadata__"}
    sizes = {entry["shape"][0] if entry["shape"] else 0 for entry in arrays.values()}
    if len(sizes) != 1 or any(entry["dtype"] not in _CODES for entry in arrays.values()):
        raise ModelFileError(f"{what} (its arrays are of unlike lengths or kinds); {remedy}")
    return head


def _require_same_model(path: Path, found: object, expected: Mapping[str, str]) -> None:
    if found == dict(expected):
        return
    shown = found if isinstance(found, dict) else {}
    differences = ", ".join(
        f"{key} {shown.get(key, 'missing')} (this model: {value})"
        for key, value in expected.items()
        if shown.get(key) != value
    )
    raise ModelFileError(
        f"{path} was described by another model: {differences}; descriptions of two models or "
        "precisions cannot be compared: describe the images again with this one"
    )
