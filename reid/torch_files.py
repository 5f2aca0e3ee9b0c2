"""Files of ``torch.save`` read without running code: every complaint is one line."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from reid.errors import CheckpointError

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
)
"""What PyTorch's reader raises on files that are not whole, found by changing and cutting them."""


def load_without_code(path: Path, what: str, absent: str, refused: str) -> Any:
    """What the file holds, on the CPU: tensors and plain values only.

    ``what`` the file should be, ``absent`` what to do where there is none and ``refused`` where
    it holds more, are words for the messages. Raises CheckpointError.
    """
    try:
        _refuse_compressed(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a foreign pickle, which is refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"no {what} {path}; {absent}") from None
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} is refused: it holds more than tensors and plain values, or is no {what}; "
            f"{refused}"
        ) from None
    except (PermissionError, IsADirectoryError) as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except _DAMAGE:
        raise CheckpointError(
            f"{path} is no {what}, or is damaged or cut short; copy it anew"
        ) from None


def _refuse_compressed(path: Path) -> None:
    """``torch.save`` does not compress: a file that would grow in memory is none of its files."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise zipfile.BadZipFile("compressed")
