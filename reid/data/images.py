"""Read one image; reject it if it is damaged or too large.

OpenCV decodes a truncated JPEG or PNG and fills the rest with grey, so that training would use
it. The container is therefore checked first.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from reid.errors import DataError
from reid.types import Image

from .file_bytes import read_file
from .image_size import FORMATS, image_size, is_known_start

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".webp"),
    *(".tif", ".tiff", ".gif", ".avif", ".jp2", ".j2k"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".pxm", ".pfm", ".ras", ".sr", ".hdr", ".pic"),
)
"""Suffixes of image files that OpenCV reads, in lower case; compare with
``path.suffix.lower()``. The format is that of the content."""

OTHER_IMAGE_SUFFIXES = (
    *(".heic", ".heif", ".jxl", ".exr", ".svg", ".psd", ".ico", ".tga", ".jxr"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"),
)
"""Suffixes of images that OpenCV does not read: they are counted, so that none is missed."""

MAX_FILE_BYTES = 1 << 28
"""268 MB: 40 million pixels, stored plainly in 16 bits and three channels, have 240."""

MAX_PIXELS = 40_000_000
"""120 MB when decoded; a frame of 8K has 33 million pixels."""

MAX_SIDE = 30_000
"""The longest side that OpenCV can resize with every interpolation."""

if "OPENCV_LOG_LEVEL" not in os.environ:
    # What OpenCV says of a damaged file, in several lines, is in our one line too.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_PNG_START = b"\x89PNG\r\n\x1a\n"


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode ``path`` to (height, width, 3) uint8 BGR; grey and alpha images are converted.

    Raises DataError, naming the file, if it is missing, empty, truncated, corrupt, too large,
    or not an image.
    """
    return decode_image(read_image_file(path), str(path), max_pixels)


def read_image_file(path: str | Path) -> bytes:
    """The bytes of an image file; empty files and unknown formats are not read further.

    Raises DataError, naming the file, if it is missing, a pipe or device, not an image, or has
    more than ``MAX_FILE_BYTES``.
    """

    def check(start: bytes) -> None:
        if not is_known_start(start):
            raise DataError(f"{path}: unsupported image format; expected {FORMATS}")

    return read_file(path, MAX_FILE_BYTES, "image file", check)


def decode_image(content: bytes, what: str, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode a file's bytes to (height, width, 3) uint8 BGR; grey and alpha are converted.

    Raises DataError, naming ``what``, if it is empty, not an image, too large, or damaged.
    """
    if not content:
        raise DataError(f"{what}: the file is empty; copy it again or remove it")
    width, height = image_size(content, what)
    if not (0 < width * height <= max_pixels and max(width, height) <= MAX_SIDE):
        raise DataError(
            f"{what}: found {width:,} x {height:,} pixels; expected 1 to {max_pixels:,} pixels "
            f"and at most {MAX_SIDE:,} per side"
        )
    if content.startswith(_PNG_START) and (damage := _png_damage(content)):
        raise DataError(f"{what}: {damage}; copy the file again or remove it")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f"{what}: OpenCV cannot decode it: {error.err}") from error
    if image is None or image.shape[0] * image.shape[1] != width * height:
        raise DataError(f"{what}: damaged image; copy the file again or remove it")
    return np.asarray(image, np.uint8)


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
    return "the PNG is truncated (no IEND chunk)"
