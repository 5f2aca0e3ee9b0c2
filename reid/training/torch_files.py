"""Reading files of ``torch.save`` without running code; every error is one line."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from reid.errors import CheckpointError
from reid.files import is_regular

_DAMAGE = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OSError,
    struct.error,
    zipfile.BadZipFile,
    MemoryError,
)
"""What PyTorch's reader raises on damaged files, found by changing and truncating files."""

_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY_SCALARS: list[Any] = [
    np.dtype,
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(type(np.dtype(kind)) for kind in "?bhilqBHILQefd"),
]
"""What builds a NumPy number from its type and bytes; none of it runs what a file says."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_without_code(
    path: Path, what: str, absent: str, refused: str, *, numpy_scalars: bool = False
) -> Any:
    """What the file holds, on the CPU: tensors and plain values only.

    With ``numpy_scalars`` NumPy's numbers too, which other toolkits keep beside their weights.

    ``what`` the file should be, ``absent`` what to do where there is none and ``refused`` where
    it holds more, are words for the messages. Raises CheckpointError.
    """
    try:
        if not is_regular(path):
            raise CheckpointError(f"{path} is not a {what}: expected a file; {absent}")
        with open(path, "rb") as file, warnings.catch_warnings():
            _check_archive(file)
            warnings.simplefilter("ignore")  # about a foreign pickle, which is refused anyway
            with torch.serialization.safe_globals(_NUMPY_SCALARS if numpy_scalars else []):
                return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"no {what} {path}; {absent}") from None
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} is rejected: it has more than tensors and plain values, or is not a {what}; "
            f"{refused}"
        ) from None
    except (PermissionError, IsADirectoryError) as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except _DAMAGE:
        raise CheckpointError(
            f"{path} is not a {what}, or is damaged or truncated; copy it again"
        ) from None


def misfit(name: str, own: Tensor, found: object) -> str:
    """Why ``found``, from a file, cannot replace ``own``; empty if it can."""
    if not isinstance(found, Tensor):
        return f"{name}: expected an array, found {type(found).__name__}"
    if own.shape != found.shape:
        return f"{name}: expected {tuple(own.shape)}, found {tuple(found.shape)}"
    kinds = _FLOATS if own.is_floating_point() else (own.dtype,)
    if found.dtype not in kinds or found.layout != torch.strided or found.is_meta:
        return f"{name}: expected {own.dtype}, found {found.dtype} ({found.layout}, {found.device})"
    if found.untyped_storage().nbytes() < found.numel() * found.element_size():
        return f"{name}: the file does not contain all its values"
    return ""


def _check_archive(file: BinaryIO) -> None:
    """Raise BadZipFile for an archive that is compressed, or whose checksums differ.

    ``torch.save`` does not compress, so a file that would expand in memory is not one of its
    files. It stores a CRC-32 of each tensor, which ``torch.load`` does not check. Files in the
    format before PyTorch 1.6 are not archives and have no checksums.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise zipfile.BadZipFile("compressed")
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {damaged} differs")
    file.seek(0)
