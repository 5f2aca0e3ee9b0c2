"""Read the size of an image from the file's header, before anything is decoded.

A few kilobytes can decode to gigabytes. Each supported format has its size in the first bytes.
Other formats are rejected, and so is a JPEG without an end marker.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from reid.errors import DataError

MAX_SCANS = 100
"""Limit for a progressive JPEG, which usually has about ten scans. A scan of 12 bytes already
costs the decoder a pass over all pixels."""

MAX_PARTS = 10_000
"""Limit on the segments of a JPEG; some files have thousands of comment segments."""

FORMATS = "JPEG, PNG, BMP or WebP"

_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
# Without 0x00, 0x01 and 0xD0 to 0xD7: they occur inside image data or have no length field.
_JPEG_PART = re.compile(rb"\xff+([\x02-\xcf\xd8-\xfe])")


def image_size(content: bytes, what: str) -> tuple[int, int]:
    """Width and height in pixels, from the file's header.

    Raises DataError, naming ``what``, for an unsupported format, a truncated file, and a JPEG
    with too many scans or segments to decode in reasonable time.
    """
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
        raise DataError(f"{what}: truncated image; copy the file again") from None
    raise DataError(f"{what}: unsupported image format; expected {FORMATS}")


def _jpeg_size(content: bytes, what: str) -> tuple[int, int]:
    size, scans, marker = None, 0, 0
    for number, (marker, at) in enumerate(_jpeg_parts(content)):
        if marker in _JPEG_FRAMES and size is None:
            height, width = struct.unpack_from(">HH", content, at + 3)
            size = width, height
        scans += marker == _JPEG_SCAN
        if scans > MAX_SCANS or number >= MAX_PARTS:
            raise DataError(
                f"{what}: the JPEG has more than {MAX_SCANS} scans or {MAX_PARTS:,} segments; "
                "save it again as a plain JPEG"
            )
    if size is None or marker != _JPEG_END:
        raise IndexError
    return size


def _jpeg_parts(content: bytes) -> Iterator[tuple[int, int]]:
    """Marker and start of each segment, up to and including the end marker.

    Whole segments are skipped, so the end marker of an embedded thumbnail does not count.
    """
    at = 2
    while found := _JPEG_PART.search(content, at):
        marker, at = found[1][0], found.end()
        yield marker, at
        if marker == _JPEG_END:
            return
        at += struct.unpack_from(">H", content, at)[0]


def _bmp_size(content: bytes) -> tuple[int, int]:
    (head_bytes,) = struct.unpack_from("<I", content, 14)
    kind = "<HH" if head_bytes == 12 else "<ii"
    width, height = struct.unpack_from(kind, content, 18)
    return abs(width), abs(height)  # a negative height means that rows run top to bottom


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
