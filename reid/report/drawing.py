"""Drawing for pictures: text, framed images, colours; PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from reid.files import write_atomically
from reid.types import Image

Colour = tuple[int, int, int]
"""Blue, green, red, 0-255."""

# Sizes in pixels. Text is drawn large because pages show pictures at half size.
CELL_WIDTH, CELL_HEIGHT = 132, 252
FRAME = 6
CAPTION_HEIGHT = 52
GAP = 20
QUERY_GAP = 56
MARGIN = 32
TITLE_HEIGHT = 76
HEADER_HEIGHT = 40

WHITE = (255, 255, 255)
INK = (40, 36, 32)
FAINT_INK = (130, 122, 116)
LINE = (220, 216, 212)
RIGHT = (84, 158, 46)
WRONG = (58, 52, 214)
FRAME_OF_QUERY = (96, 88, 80)

LEGEND = (("correct match", RIGHT), ("another identity", WRONG))
"""The meaning of the frames' colours."""

FONT = cv2.FONT_HERSHEY_DUPLEX

NAME_LENGTH = 40
"""Of a longer name the end is shown, where paths differ."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a report: file name, heading and caption."""

    name: str
    title: str
    caption: str
    image: Image


def png_bytes(image: Image) -> bytes:
    """An image (H, W, 3) uint8 BGR as a PNG file's bytes."""
    # Level 9 takes many times as long for a few percent: see tests/benchmarks/README.md.
    done, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not done:
        raise ValueError(f"OpenCV cannot encode an image of shape {image.shape} as PNG")
    return encoded.tobytes()


def smallest(image: Image) -> tuple[str, bytes]:
    """Media type and bytes of an image for a page: JPEG or PNG, whichever is smaller.

    Photographs are smaller as JPEG; a chart would be larger, and blurred.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, 90]
    # No chroma subsampling: thin frames and text are coloured.
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, encoded = cv2.imencode(".jpg", image, options)
    png = png_bytes(image)
    jpeg = encoded.tobytes()
    return ("image/jpeg", jpeg) if len(jpeg) < len(png) else ("image/png", png)


def save_png(image: Image, path: Path) -> None:
    """Write a picture atomically. Raises OutputError if the folder cannot be written."""
    write_atomically(path, lambda file: file.write(png_bytes(image)))


def framed(canvas: Image, left: int, top: int, image: Image, colour: Colour) -> Image:
    """Draw an image into a framed cell, with its aspect ratio kept, on white.

    Returns the part of the canvas with the image, to draw on.
    """
    right, bottom = left + CELL_WIDTH, top + CELL_HEIGHT
    canvas[top:bottom, left:right] = colour
    inner = canvas[top + FRAME : bottom - FRAME, left + FRAME : right - FRAME]
    inner[:] = WHITE
    scale = min(inner.shape[0] / image.shape[0], inner.shape[1] / image.shape[1])
    height = max(1, min(inner.shape[0], round(image.shape[0] * scale)))
    width = max(1, min(inner.shape[1], round(image.shape[1] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    y, x = (inner.shape[0] - height) // 2, (inner.shape[1] - width) // 2
    filled = inner[y : y + height, x : x + width]
    filled[:] = cv2.resize(image, (width, height), interpolation=interpolation)
    return filled


def captioned(canvas: Image, left: int, top: int, first: str, second: str = "") -> None:
    """Two lines below the cell at (left, top)."""
    centred(canvas, first, left, top + CELL_HEIGHT + 22, INK)
    centred(canvas, second, left, top + CELL_HEIGHT + 44, FAINT_INK)


def heading(canvas: Image, title: str, legend: Sequence[tuple[str, Colour]]) -> None:
    """The title and the legend below it."""
    text(canvas, title, MARGIN, MARGIN + 32, scale=1.1, colour=INK)
    x, y = MARGIN, MARGIN + 68
    for words, colour in legend:
        cv2.rectangle(canvas, (x, y - 15), (x + 18, y + 3), colour, FRAME // 2)
        text(canvas, words, x + 30, y, colour=FAINT_INK)
        x += 30 + text_width(words) + 36


def text_width(words: str, scale: float = 0.6) -> int:
    """Width of these words as drawn by ``text``."""
    return int(cv2.getTextSize(words, FONT, scale, 1)[0][0])


def centred(
    canvas: Image, words: str, left: int, y: int, colour: Colour, width: int = CELL_WIDTH
) -> None:
    """Text centred over a cell or another width, made smaller to fit."""
    scale = 0.6 * min(1.0, width / max(1, text_width(words)))
    x = left + (width - text_width(words, scale)) // 2
    text(canvas, words, x, y, scale=scale, colour=colour)


def text(canvas: Image, words: str, x: int, y: int, *, colour: Colour, scale: float = 0.6) -> None:
    """Words from x on, with their baseline at y."""
    cv2.putText(canvas, words, (x, y), FONT, scale, colour, 1, cv2.LINE_AA)


def short(name: str) -> str:
    """A model's name, shortened for a legend."""
    return name if len(name) <= NAME_LENGTH else f"...{name[3 - NAME_LENGTH :]}"
