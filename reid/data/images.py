"""Reading one image, and refusing one that is damaged.

OpenCV decodes a JPEG or PNG that stops half-way and fills the rest with grey, so a
truncated file would be trained on. The container is therefore checked first.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from reid.errors import DataError
from reid.types import Image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
"""What is taken for an image, in lower case; compare with ``path.suffix.lower()``."""

_JPEG_START = b"\xff\xd8"
_JPEG_SCAN = b"\xff\xda"
_JPEG_END = b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"


def read_image(path: str | Path) -> Image:
    """Decode ``path`` to (height, width, 3) uint8 BGR, grey and alpha converted.

    Raises DataError naming the file where it is missing, empty, cut short, corrupt, or
    not an image.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    damage = _damage(data)
    if damage:
        raise DataError(f"{path}: {damage}; copy the file again or remove it")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f"{path}: OpenCV cannot decode it: {error.err}") from error
    if image is None:
        raise DataError(f"{path}: not an image that OpenCV can decode, or corrupt; remove it")
    return np.asarray(image, np.uint8)


def _damage(data: bytes) -> str:
    """What is visibly wrong with an image file's bytes; empty where nothing is."""
    if not data:
        return "the file is empty"
    if data.startswith(_JPEG_START):
        return _jpeg_damage(data)
    if data.startswith(_PNG_START):
        return _png_damage(data)
    return ""


def _jpeg_damage(data: bytes) -> str:
    # Compressed data never holds these two markers (0xff is stuffed there), so an end
    # after the last scan is the picture's own, and bytes that follow it do no harm. The
    # end of a thumbnail stands before the picture's scan and does not count.
    scan = data.rfind(_JPEG_SCAN)
    if scan < 0 or data.rfind(_JPEG_END) < scan:
        return "the JPEG is cut short (no end marker)"
    return ""


def _png_damage(data: bytes) -> str:
    position = len(_PNG_START)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        (expected,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(data[position + 4 : end]) != expected:
            return f"the PNG is corrupt (checksum of its {kind.decode('latin-1')} chunk)"
        if kind == b"IEND":
            return ""
        position = end + 4
    return "the PNG is cut short (no IEND chunk)"
