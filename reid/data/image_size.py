"""Read the size of an image from the file's header, before anything is decoded.

A few kilobytes can decode to gigabytes. Each supported format has its size in the first bytes.
Other formats are rejected, and so is a JPEG without an end marker.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from reid.errors import DataError

MAX_SCANS = 100
"""Limit for a progressive JPEG, which usually has about ten scans. A scan of 12 bytes already
costs the decoder a pass over all pixels."""

MAX_PARTS = 10_000
"""Limit on the segments of a JPEG; some files have thousands of comment segments."""

MAX_CHANNELS = 4
"""Limit for JPEG 2000, which may have thousands; each is decoded."""

FORMATS = "JPEG, PNG, BMP, WebP, TIFF, GIF, AVIF, JPEG 2000, PNM, Sun raster or Radiance HDR"

Size = tuple[int, int]
"""Width and height in pixels."""

_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
# Without 0x00, 0x01 and 0xD0 to 0xD7: they occur inside image data or have no length field.
_JPEG_PART = re.compile(rb"\xff+([\x02-\xcf\xd8-\xfe])")

_TIFF_SIZES = {256: 0, 257: 1, 322: 2, 323: 3}
"""Tag -> its place: width, height, and width and height of a tile."""
_TIFF_NUMBERS = {3: "H", 4: "I", 16: "Q"}

_PNM_WORDS = re.compile(rb"P[1-6Ff]\s(?:\s*#[^\n]*\n|\s)*(\d{1,9})(?:\s*#[^\n]*\n|\s)+(\d{1,9})\s")
_PAM_WORDS = re.compile(rb"P7\s(?=.{0,900}?WIDTH (\d{1,9})\s)(?=.{0,900}?HEIGHT (\d{1,9})\s)", re.S)
_HDR_WORDS = re.compile(rb".{0,4000}?\n[+-]Y (\d{1,9}) [+-]X (\d{1,9})\s", re.S)
_JPEG2000_START = b"\xff\x4f\xff\x51"
_SEARCHED_BYTES = 1 << 16
"""How far AVIF's and JPEG 2000's headers are searched."""


def image_size(content: bytes, what: str) -> Size:
    """Width and height in pixels, from the file's header.

    Raises DataError, naming ``what``, for an unsupported format, a truncated file, and a JPEG
    with too many scans or segments to decode in reasonable time.
    """
    try:
        if content.startswith(b"\xff\xd8"):
            return _jpeg_size(content, what)
        for starts, place, read in _READERS:
            if content.startswith(starts, place):
                return read(content)
    except (struct.error, IndexError):
        raise DataError(f"{what}: truncated image; copy the file again") from None
    raise DataError(f"{what}: unsupported image format; expected {FORMATS}")


def _jpeg_size(content: bytes, what: str) -> Size:
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


def _png_size(content: bytes) -> Size:
    if content[12:16] != b"IHDR":
        raise IndexError
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def _bmp_size(content: bytes) -> Size:
    (head_bytes,) = struct.unpack_from("<I", content, 14)
    kind = "<HH" if head_bytes == 12 else "<ii"
    width, height = struct.unpack_from(kind, content, 18)
    return abs(width), abs(height)  # a negative height means that rows run top to bottom


def _webp_size(content: bytes) -> Size:
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


def _tiff_size(content: bytes) -> Size:
    """The first page's; a page of tiles is decoded in whole tiles, however small it is."""
    order = "<" if content.startswith(b"II") else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    offset, count, entry_bytes, value = ("Q", "Q", 20, 12) if big else ("I", "H", 12, 8)
    (at,) = struct.unpack_from(order + offset, content, 8 if big else 4)
    (num_entries,) = struct.unpack_from(order + count, content, at)
    at += struct.calcsize(count)
    sizes = [0, 0, 0, 0]
    for place in range(at, at + entry_bytes * min(num_entries, 4096), entry_bytes):
        tag, kind = struct.unpack_from(order + "HH", content, place)
        if tag in _TIFF_SIZES and kind in _TIFF_NUMBERS:
            number = struct.unpack_from(order + _TIFF_NUMBERS[kind], content, place + value)[0]
            sizes[_TIFF_SIZES[tag]] = number
    width, height, tile_width, tile_height = sizes
    if tile_width * tile_height > max(4 * width * height, 1 << 20):
        return tile_width, tile_height
    return width, height


def _gif_size(content: bytes) -> Size:
    width, height = struct.unpack_from("<HH", content, 6)
    return width, height


def _sun_size(content: bytes) -> Size:
    width, height = struct.unpack_from(">II", content, 4)
    return width, height


def _avif_size(content: bytes) -> Size:
    """The largest of the file's parts (tiles of a grid, a thumbnail, transparency)."""
    sizes: list[Size] = []
    for found in re.finditer(b"ispe", content[:_SEARCHED_BYTES]):
        width, height = struct.unpack_from(">II", content, found.end() + 4)
        sizes.append((width, height))
    if not sizes:
        raise IndexError
    return max(sizes, key=lambda size: size[0] * size[1])


def _jpeg2000_size(content: bytes) -> Size:
    """From the code stream, by which it is decoded, and not from the box around it."""
    at = content.find(_JPEG2000_START, 0, _SEARCHED_BYTES)
    if at < 0:
        raise IndexError
    right, bottom, left, top = struct.unpack_from(">IIII", content, at + 8)
    (channels,) = struct.unpack_from(">H", content, at + 40)
    if channels > MAX_CHANNELS or left >= right or top >= bottom:
        raise IndexError
    return right - left, bottom - top


def _pnm_size(content: bytes) -> Size:
    return _size_in_words(_PNM_WORDS, content)


def _pam_size(content: bytes) -> Size:
    return _size_in_words(_PAM_WORDS, content)


def _hdr_size(content: bytes) -> Size:
    height, width = _size_in_words(_HDR_WORDS, content)
    return width, height


def _size_in_words(pattern: re.Pattern[bytes], content: bytes) -> Size:
    found = pattern.match(content[:_SEARCHED_BYTES])
    if found is None:
        raise IndexError
    return int(found[1]), int(found[2])


_READERS: tuple[tuple[bytes | tuple[bytes, ...], int, Callable[[bytes], Size]], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, _png_size),
    (b"BM", 0, _bmp_size),
    (b"WEBP", 8, _webp_size),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), 0, _tiff_size),
    ((b"GIF87a", b"GIF89a"), 0, _gif_size),
    ((b"ftypavif", b"ftypavis"), 4, _avif_size),
    ((b"\0\0\0\x0cjP  \r\n\x87\n", _JPEG2000_START), 0, _jpeg2000_size),
    (b"\x59\xa6\x6a\x95", 0, _sun_size),
    ((b"#?RADIANCE", b"#?RGBE"), 0, _hdr_size),
    ((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"PF", b"Pf"), 0, _pnm_size),
    (b"P7", 0, _pam_size),
)
"""The first bytes of a format, where they are, and what reads its size."""


def is_known_start(start: bytes) -> bool:
    """Whether a file that begins with these 16 bytes or more is of a supported format."""
    starts = any(start.startswith(words, place) for words, place, _ in _READERS)
    return starts or start.startswith(b"\xff\xd8")
