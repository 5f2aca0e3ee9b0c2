"""HTML for notebooks: rows of small embedded pictures, no scripts, every name escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from reid.data import read_image
from reid.errors import DataError
from reid.types import Image

LONGEST = 160
"""A picture's longer side in pixels."""

MAX_ROWS = 12
"""The most rows shown; a browser could not show all of Market-1501."""

_QUALITY = 85


class Cell(NamedTuple):
    """A picture (None if there is none) and the text below it."""

    source: Path | Image | None
    words: str


def rows_of_pictures(rows: Sequence[Sequence[Cell]]) -> str:
    """A table with a row per query; an unreadable image is a cell without a picture."""
    lines = [
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>"
        for row in rows[:MAX_ROWS]
    ]
    left_out = len(rows) - MAX_ROWS
    more = f"<p>and {left_out:,} more</p>" if left_out > 0 else ""
    return f'<table class="reid-ranked">{"".join(lines)}</table>{more}'


def data_uri(image: Image, longest: int = LONGEST) -> str:
    """An image (H, W, 3) uint8 BGR as an embedded JPEG, made smaller if too large."""
    scale = longest / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(edge * scale)) for edge in image.shape[:2])
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode('ascii')}"


def _cell(cell: Cell) -> str:
    name = html.escape(str(cell.source)) if isinstance(cell.source, Path) else ""
    try:
        image = read_image(cell.source) if isinstance(cell.source, Path) else cell.source
    except DataError:
        image = None
    if image is None:
        picture = f'<span title="{name}">no picture</span>'
    else:
        picture = f'<img alt="{name}" title="{name}" src="{data_uri(image)}">'
    return f"{picture}<br>{html.escape(cell.words)}"
