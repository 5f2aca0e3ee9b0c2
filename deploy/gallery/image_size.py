"""How large an image says it is, read before anything is decoded.

A few kilobytes can decode to gigabytes. The size stands in the first bytes of each format that
is taken; any other format is refused.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np

from reid.errors import DataError
from reid.types import Image

MAX_PIXELS = 40_000_000
"""120 MB when decoded; a frame of 8K has 33 million pixels."""

MAX_SIDE = 30_000
"""What OpenCV resizes in every way."""

FORMATS = "JPEG, PNG, BMP or WebP"

_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}


def decoded(content: bytes, what: str, max_pixels: int = MAX_PIXELS) -> Image:
    """A file's bytes -> (H, W, 3) uint8 BGR, grey and alpha converted.

    Raises DataError, naming ``what``, for an image that is too large, none, or damaged.
    """
    width, height = image_size(content, what)
    if not (0 < width * height <= max_pixels and max(width, height) <= MAX_SIDE):
        raise DataError(
            f"{what}: an image of {width:,} x {height:,} pixels; expected 1 to {max_pixels:,}, "
            f"and up to {MAX_SIDE:,} to a side"
        )
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f"{what}: cannot be decoded: {error.err}") from error
    if image is None or image.shape[0] * image.shape[1] != width * height:
        raise DataError(f"{what}: a damaged image; save it again")
    return np.asarray(image, np.uint8)


def image_size(content: bytes, what: str) -> tuple[int, int]:
    """Width and height as the file's head tells. Raises DataError where it tells none."""
    try:
        if content.startswith(b"\xff\xd8"):
            return _jpeg_size(content)
        if content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", content, 16)
            return width, height
        if content.startswith(b"BM"):
            return _bmp_size(content)
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _webp_size(content)
    except (struct.error, IndexError):
        raise DataError(f"{what}: the image is cut short; send it again") from None
    raise DataError(f"{what}: not an image; expected {FORMATS}")


def _jpeg_size(content: bytes) -> tuple[int, int]:
    at = 2
    while True:
        at = content.find(b"\xff", at)
        if at < 0:
            raise IndexError
        marker = content[at + 1]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        if marker == 0xFF:
            at += 1  # filling
        elif marker in _JPEG_ALONE or marker == 0:
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", content, at + 2)[0]


def _bmp_size(content: bytes) -> tuple[int, int]:
    (head_bytes,) = struct.unpack_from("<I", content, 14)
    kind = "<HH" if head_bytes == 12 else "<ii"
    width, height = struct.unpack_from(kind, content, 18)
    return abs(width), abs(height)  # below zero where the rows run downwards


def _webp_size(content: bytes) -> tuple[int, int]:
    kind = content[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        edges = content[24:30]
        width, height = int.from_bytes(edges[:3], "little"), int.from_bytes(edges[3:6], "little")
        return width + 1, height + 1
    raise IndexError
