"""Pictures of what a network that compares pairs sees, as Figure 4 of the CSN paper.

Guo and Cheung, "Efficient and Deep Person Re-Identification using Multi-Level Similarity",
CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from reid.data import read_image
from reid.models.looks import PartsSeen
from reid.report.drawing import (
    CAPTION_HEIGHT,
    CELL_HEIGHT,
    CELL_WIDTH,
    FAINT_INK,
    GAP,
    HEADER_HEIGHT,
    INK,
    LEGEND,
    LINE,
    MARGIN,
    QUERY_GAP,
    TITLE_HEIGHT,
    Colour,
    captioned,
    centred,
    framed,
    heading,
    text,
)
from reid.report.heat import coloured, heat
from reid.report.ranked import draw_match, draw_query
from reid.types import FloatArray, Image, ImageRecord, Ranking

COLOURS: tuple[Colour, ...] = ((0, 128, 255), (216, 64, 200), (255, 176, 32))
"""Colours of parts, by the level's number; they repeat after the last."""

PANEL_GAP = 6
MATCH_GAP = 44
BAR_WIDTH, BAR_COLUMN = 18, 88


def similarities_picture(
    see: Callable[[list[Image]], PartsSeen],
    query: Sequence[ImageRecord],
    gallery: Sequence[ImageRecord],
    ranking: Ranking,
    k: int = 3,
) -> Image:
    """Queries and their nearest gallery images, with attended parts and similarity maps.

    Beside each gallery image is one panel per level: where it is similar to the query's parts of
    that level. A level has one colour scale per row. ``ranking`` is of the same query and
    gallery. Returns (H, W, 3) uint8 BGR. Raises DataError for an image that
    cannot be read.
    """
    k = min(k, ranking.indices.shape[1])
    rows = [_look(see, query[q], gallery, ranking, q, k) for q in range(len(query))]
    name, levels = rows[0].seen.name, rows[0].seen.levels
    row_height = CELL_HEIGHT + CAPTION_HEIGHT
    top = MARGIN + TITLE_HEIGHT + HEADER_HEIGHT
    height = top + len(query) * row_height + (len(query) - 1) * GAP + MARGIN // 2
    width = _match_left(k, len(levels)) + len(levels) * BAR_COLUMN + MARGIN
    canvas: Image = np.full((height, width, 3), 255, np.uint8)
    parts = tuple((f"attended parts of {name}-{level}", colour_of(level)) for level in levels)
    heading(canvas, "Attended parts and similarity maps", (*LEGEND, *parts))
    _draw_names(canvas, top - 12, k, [f"{name}-{level}" for level in levels])
    for q, row in enumerate(rows):
        _draw_row(canvas, top + q * (row_height + GAP), row, k)
    return canvas


def colour_of(level: int) -> Colour:
    """The colour of a level's parts."""
    return COLOURS[level % len(COLOURS)]


@dataclass(frozen=True, slots=True)
class _Row:
    """A query and its nearest images: records, distances, correctness and similarity maps."""

    records: list[ImageRecord]
    images: list[Image]
    distances: list[float]
    correct: list[bool]
    seen: PartsSeen


def _look(
    see: Callable[[list[Image]], PartsSeen],
    query: ImageRecord,
    gallery: Sequence[ImageRecord],
    ranking: Ranking,
    q: int,
    k: int,
) -> _Row:
    shown = ranking.indices[q, :k]
    shown = shown[shown >= 0]
    records = [query, *(gallery[int(index)] for index in shown)]
    images = [read_image(record.path) for record in records]
    distances, correct = (array[q, : len(shown)] for array in (ranking.distances, ranking.correct))
    return _Row(records, images, distances.tolist(), correct.tolist(), see(images))


def _draw_row(canvas: Image, top: int, row: _Row, k: int) -> None:
    levels = row.seen.levels
    _draw_parts(draw_query(canvas, top, row.records[0]), row.seen, 0)
    for rank, record in enumerate(row.records[1:]):
        left = _match_left(rank, len(levels))
        filled = draw_match(canvas, left, top, record, row.distances[rank], row.correct[rank])
        _draw_parts(filled, row.seen, rank + 1)
        _draw_panels(canvas, left, top, row.images[rank + 1], row.seen, rank)
    _draw_bars(canvas, top, _match_left(k, len(levels)), row.seen)


def _scale(maps: FloatArray) -> tuple[float, float]:
    """The least and the greatest similarity of a level in a row."""
    return float(maps.min()), float(maps.max())


def _match_left(rank: int, num_levels: int) -> int:
    """The left edge of a match: its image, then a panel per level."""
    width = (1 + num_levels) * CELL_WIDTH + num_levels * PANEL_GAP
    return MARGIN + CELL_WIDTH + QUERY_GAP + rank * (width + MATCH_GAP)


def _draw_names(canvas: Image, y: int, k: int, names: list[str]) -> None:
    centred(canvas, "query", MARGIN, y, INK)
    for rank in range(k):
        left = _match_left(rank, len(names))
        centred(canvas, f"{rank + 1}", left, y, INK)
        for i, name in enumerate(names, 1):
            centred(canvas, name, left + i * (CELL_WIDTH + PANEL_GAP), y, FAINT_INK)
    for i, name in enumerate(names):
        left = _match_left(k, len(names)) + i * BAR_COLUMN
        text(canvas, name, left, y, colour=FAINT_INK)


def _draw_parts(filled: Image, seen: PartsSeen, image: int) -> None:
    """Each part's outline on an image, over a darker line for contrast."""
    height, width = filled.shape[:2]
    bits = 4  # fractional bits of pixel coordinates
    size = np.array([width, height], np.float32)
    pixels = [corners[image] * size - 0.5 for corners in seen.outlines]
    fixed = [list(np.round(corners * 2**bits).astype(np.int32)) for corners in pixels]
    shade = filled.copy()
    for corners in fixed:
        cv2.polylines(shade, corners, True, (0, 0, 0), 4, cv2.LINE_AA, bits)
    filled[:] = cv2.addWeighted(shade, 0.5, filled, 0.5, 0)
    for corners, level in zip(fixed, seen.levels, strict=True):
        cv2.polylines(filled, corners, True, colour_of(level), 2, cv2.LINE_AA, bits)


def _draw_panels(
    canvas: Image, left: int, top: int, image: Image, seen: PartsSeen, rank: int
) -> None:
    for i, maps in enumerate(seen.maps):
        panel_left = left + (i + 1) * (CELL_WIDTH + PANEL_GAP)
        filled = framed(canvas, panel_left, top, image, LINE)
        size = filled.shape[0], filled.shape[1]
        values = seen.over_image(i, rank, size)
        filled[:] = heat(filled, values, _scale(maps))
        captioned(canvas, panel_left, top, f"up to {maps[rank].max():.3g}")


def _draw_bars(canvas: Image, top: int, left: int, seen: PartsSeen) -> None:
    """The colour scale of each level in this row."""
    ramp = np.linspace(1, 0, CELL_HEIGHT, dtype=np.float32)
    colours = coloured(np.repeat(ramp[:, None], BAR_WIDTH, 1), (0.0, 1.0))
    for level in range(len(seen.maps)):
        x = left + level * BAR_COLUMN
        canvas[top : top + CELL_HEIGHT, x : x + BAR_WIDTH] = colours
        low, high = _scale(seen.maps[level])
        for value, y in ((high, top + 15), (low, top + CELL_HEIGHT - 3)):
            text(canvas, f"{value:.3g}", x + BAR_WIDTH + 6, y, colour=FAINT_INK, scale=0.5)
