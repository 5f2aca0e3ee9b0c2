"""The files that one model file consists of: an OpenVINO ``.xml`` has its weights in a ``.bin``."""

from __future__ import annotations

import hashlib
from pathlib import Path

from reid.errors import ModelFileError
from reid.files import sha256_of_file

IR_SUFFIX, IR_WEIGHTS_SUFFIX = ".xml", ".bin"
"""OpenVINO's intermediate representation (IR): the graph, and its weights beside it."""

_CHUNK_BYTES = 1 << 20


def parts_of(path: Path) -> tuple[Path, ...]:
    """The file, and of an OpenVINO IR its weights. Raises ModelFileError for missing weights."""
    if path.suffix.lower() != IR_SUFFIX:
        return (path,)
    weights = path.with_suffix(IR_WEIGHTS_SUFFIX)
    if not weights.is_file():
        raise ModelFileError(
            f"{path}: expected its weights beside it in {weights.name}, which is missing; copy "
            "both files of the OpenVINO model together"
        )
    return path, weights


def sha256_of_model(path: Path) -> str:
    """Hexadecimal SHA-256 of a model file; of an OpenVINO IR, of its ``.xml``, then its ``.bin``.

    So one hash covers the weights too: ``cat model.xml model.bin | sha256sum``. Raises OSError,
    ModelFileError for missing weights.
    """
    parts = parts_of(path)
    if len(parts) == 1:
        return sha256_of_file(path)
    digest = hashlib.sha256()
    for part in parts:
        with open(part, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()
