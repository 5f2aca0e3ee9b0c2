"""How large an image says it is, read before anything is decoded.

A few kilobytes can decode to gigabytes. The size stands in the first bytes of each format that
is taken; any other format is refused.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import cv2
import numpy as np

from reid.errors import DataError
from reid.types import Image

MAX_PIXELS = 40_000_000
"""120 MB when decoded; a frame of 8K has 33 million pixels."""

MAX_SIDE = 30_000
"""What OpenCV resizes in every way."""

MAX_SCANS = 100
"""Of a progressive JPEG, which has about ten: one of 12 bytes is a pass over all pixels."""

MAX_PARTS = 10_000
"""Of a JPEG; thousands of notes come with some."""

FORMATS = "JPEG, PNG, BMP or WebP"

_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN, _JPEG_ENDS = 0xDA, (0xD8, 0xD9)
# Not what stands in an image's data or has no length: 0x00, 0x01, 0xD0 to 0xD7.
_JPEG_PART = re.compile(rb"\xff+([\x02-\xcf\xd8-\xfe])")


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
    """Width and height as the file's head tells. Raises DataError where it tells none, and for
    a JPEG of which decoding would take for ever."""
    try:
        if content.startswith(b"\xff\xd8"):
            return _jpeg_size(content, what)
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


def _jpeg_size(content: bytes, what: str) -> tuple[int, int]:
    size, scans = None, 0
    for number, (marker, at) in enumerate(_jpeg_parts(content)):
        if marker in _JPEG_FRAMES and size is None:
            height, width = struct.unpack_from(">HH", content, at + 3)
            size = width, height
        scans += marker == _JPEG_SCAN
        if scans > MAX_SCANS or number >= MAX_PARTS:
            raise DataError(
                f"{what}: a JPEG of over {MAX_SCANS} scans or {MAX_PARTS:,} parts; save it again"
            )
    if size is None:
        raise IndexError
    return size


def _jpeg_parts(content: bytes) -> Iterator[tuple[int, int]]:
    """Each part's marker and where it begins, up to the image's end."""
    at = 2
    while found := _JPEG_PART.search(content, at):
        marker, at = found[1][0], found.end()
        if marker in _JPEG_ENDS:
            return
        yield marker, at
        at += struct.unpack_from(">H", content, at)[0]


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
