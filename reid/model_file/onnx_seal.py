"""The hash that an ONNX file carries of itself, so that damage is found without its manifest.

It is the file's last entry of ``metadata_props``: the SHA-256 of all bytes before the entry. So it
covers the graph, the weights and the manifest inside. Another entry, ``reid.sealed``, says that it
must be there. ONNX files of earlier versions have neither.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from reid.errors import ModelFileError

SEALED_KEY, SEALED_VALUE = "reid.sealed", "sha256"
"""The entry that says that the last entry is the hash."""

HASH_KEY = "reid.sha256"

_CHUNK_BYTES = 1 << 20
_DIGITS = 64
_METADATA_PROPS, _KEY, _VALUE = b"\x72", b"\x0a", b"\x12"
"""Tags of protobuf: ``ModelProto.metadata_props`` (14), and an entry's ``key`` and ``value``."""
_BODY = _KEY + bytes([len(HASH_KEY)]) + HASH_KEY.encode() + _VALUE + bytes([_DIGITS])
_HEAD = _METADATA_PROPS + bytes([len(_BODY) + _DIGITS]) + _BODY
SEAL_BYTES = len(_HEAD) + _DIGITS


def seal_of(content: bytes) -> bytes:
    """The entry to append to a serialised model, which must have the entry ``SEALED_KEY``."""
    return _HEAD + hashlib.sha256(content).hexdigest().encode()


def has_intact_seal(path: Path) -> bool:
    """Whether the file ends with its hash. Raises ModelFileError where the bytes differ from it,
    OSError where the file cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        left = max(0, file.seek(0, 2) - SEAL_BYTES)
        file.seek(left)
        seal = file.read(SEAL_BYTES)
        if not seal.startswith(_HEAD):
            return False
        file.seek(0)
        while chunk := file.read(min(_CHUNK_BYTES, left)):
            digest.update(chunk)
            left -= len(chunk)
    expected, found = seal[len(_HEAD) :], digest.hexdigest().encode()
    if found != expected:
        raise damaged(path, f"expected SHA-256 {_shown(expected)}, found {_shown(found)}")
    return True


def damaged(path: Path, why: str) -> ModelFileError:
    """The error of a file that is not as it was written."""
    return ModelFileError(
        f"{path} was damaged or changed after its export ({why}); copy it again, or export the "
        "model again"
    )


def _shown(digits: bytes) -> str:
    """The beginning of a hash; a damaged one may hold any bytes."""
    return ascii(digits[:12].decode("ascii", "replace"))[1:-1] + "..."
