"""Named arrays in a safetensors file: written piece by piece, read through a memory map.

So a file may be larger than the memory. Texts in its head say what it is and who made it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from reid.errors import MissingPackageError, ModelFileError
from reid.files import write_atomically

try:
    from safetensors import SafetensorError, safe_open
except ImportError as error:
    raise MissingPackageError(
        "files of described images need safetensors: pip install 'reid-toolkit[edge]'"
    ) from error

Column = npt.NDArray[Any]

_KINDS: dict[str, np.dtype[Any]] = {
    "U8": np.dtype(np.uint8),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "U64": np.dtype(np.uint64),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
}
_CODES = {kind: code for code, kind in _KINDS.items()}
_LENGTH_BYTES = 8
_FORMAT, _METADATA = "format", "__metadata__"


def write_columns(
    path: Path,
    format_name: str,
    texts: Mapping[str, str],
    columns: Mapping[str, Sequence[Column]],
) -> None:
    """Write each column's parts one after the other, atomically. Raises OutputError.

    A column has at least one part; its parts have one kind and shape but for their lengths.
    """
    # The widest first: every array then begins where its kind may.
    ordered = sorted(columns.items(), key=lambda item: -item[1][0].itemsize)
    head: dict[str, Any] = {_METADATA: {_FORMAT: format_name, **texts}}
    end = 0
    for name, parts in ordered:
        size = sum(part.nbytes for part in parts)
        shape = [sum(len(part) for part in parts), *parts[0].shape[1:]]
        code = _CODES[parts[0].dtype]
        head[name] = {"dtype": code, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)

    def write(file: IO[bytes]) -> None:
        file.write(len(text).to_bytes(_LENGTH_BYTES, "little"))
        file.write(text)
        for _, parts in ordered:
            for part in parts:
                file.write(np.ascontiguousarray(part).data)

    write_atomically(path, write)


def read_columns(
    path: Path, format_name: str, what: str, remedy: str
) -> tuple[dict[str, str], dict[str, Column]]:
    """The texts and, read from the disk when they are looked at, the columns of a file.

    Raises ModelFileError for a file that is not there, is cut short or not of this format;
    ``what`` it should be and the ``remedy`` are told. That a column is there, and of which
    kind and shape, is the caller's to check.
    """
    problem = f"{path} is no {what}, or is cut short"
    try:
        with safe_open(path, "numpy"):  # checks the head against the file's length
            content: Column = np.asarray(np.memmap(path, np.uint8, "r"))
        length = int.from_bytes(content[:_LENGTH_BYTES].tobytes(), "little")
        start = _LENGTH_BYTES + length
        head: dict[str, Any] = json.loads(content[_LENGTH_BYTES:start].tobytes())
    except FileNotFoundError:
        raise ModelFileError(f"{path}: no such file; {remedy}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{problem} ({error}); {remedy}") from None
    texts: dict[str, str] = head.pop(_METADATA, {})
    if texts.get(_FORMAT) != format_name:
        raise ModelFileError(f"{problem} (format: {format_name}); {remedy}")
    unknown = {entry["dtype"] for entry in head.values()} - _KINDS.keys()
    if unknown:
        raise ModelFileError(f"{problem} (arrays of {', '.join(sorted(unknown))}); {remedy}")
    columns = {
        name: np.ndarray(
            tuple(entry["shape"]), _KINDS[entry["dtype"]], content, start + entry["data_offsets"][0]
        )
        for name, entry in head.items()
    }
    return texts, columns
