"""Pictures of what a network that compares pairs sees: as Figure 4 of the CSN paper.

Guo and Cheung, "Efficient and Deep Person Re-Identification using Multi-Level Similarity",
CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import torch

from reid.data import read_image
from reid.model_file.preprocess import Preprocess
from reid.models.csn.network import Csn
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
from reid.report.similarity_maps import over_image, parts_in_image, similarity_maps
from reid.types import FloatArray, Image, ImageRecord, Ranking

COLOURS: dict[int, Colour] = {2: (255, 176, 32), 3: (0, 128, 255), 4: (216, 64, 200)}
"""Level -> the colour of its parts."""

PANEL_GAP = 6
MATCH_GAP = 44
BAR_WIDTH, BAR_COLUMN = 18, 88


def similarities_picture(
    network: Csn,
    preprocess: Preprocess,
    query: Sequence[ImageRecord],
    gallery: Sequence[ImageRecord],
    ranking: Ranking,
    k: int = 3,
) -> Image:
    """Queries and their best matches, the attended parts drawn on them, and similarity maps.

    Beside each gallery image there is one panel per level: where the query's parts of that
    level find their like in it. A level has one scale of colours in a row. ``ranking`` is of the
    same query and gallery. Returns (H, W, 3) uint8 BGR. Raises DataError for an image that
    cannot be read.
    """
    k = min(k, ranking.indices.shape[1])
    levels = network.levels
    row_height = CELL_HEIGHT + CAPTION_HEIGHT
    top = MARGIN + TITLE_HEIGHT + HEADER_HEIGHT
    height = top + len(query) * row_height + (len(query) - 1) * GAP + MARGIN // 2
    width = _match_left(k, len(levels)) + len(levels) * BAR_COLUMN + MARGIN
    canvas: Image = np.full((height, width, 3), 255, np.uint8)
    parts = tuple((f"attended parts of CSN-{level}", COLOURS[level]) for level in levels)
    heading(canvas, "Attended parts and similarity maps", (*LEGEND, *parts))
    _draw_names(canvas, top - 12, k, levels)
    for q, record in enumerate(query):
        row = top + q * (row_height + GAP)
        _draw_row(canvas, row, network, preprocess, record, gallery, ranking, q, k)
    return canvas


def _draw_row(
    canvas: Image,
    top: int,
    network: Csn,
    preprocess: Preprocess,
    query: ImageRecord,
    gallery: Sequence[ImageRecord],
    ranking: Ranking,
    q: int,
    k: int,
) -> None:
    levels = network.levels
    shown = [int(index) for index in ranking.indices[q, :k] if index >= 0]
    images = [read_image(record.path) for record in (query, *(gallery[i] for i in shown))]
    seen = _look(network, preprocess, images)
    _draw_parts(draw_query(canvas, top, query), seen.parts(0), levels)
    for rank, index in enumerate(shown):
        left = _match_left(rank, len(levels))
        distance, correct = float(ranking.distances[q, rank]), bool(ranking.correct[q, rank])
        filled = draw_match(canvas, left, top, gallery[index], distance, correct)
        _draw_parts(filled, seen.parts(rank + 1), levels)
        _draw_panels(canvas, left, top, images[rank + 1], seen, rank)
    _draw_bars(canvas, top, _match_left(k, len(levels)), seen)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A query and its matches, as the network sees them; per level."""

    preprocess: Preprocess
    part_sizes: tuple[int, ...]
    corners: list[FloatArray]
    """(1 + N, S, 4, 2), the query's first."""
    maps: list[FloatArray]
    """(N, H, W)."""

    def parts(self, image: int) -> list[FloatArray]:
        return [corners[image] for corners in self.corners]

    def scale(self, level: int) -> tuple[float, float]:
        """The least and the greatest similarity of a level in this row."""
        return float(self.maps[level].min()), float(self.maps[level].max())


def _look(network: Csn, preprocess: Preprocess, images: list[Image]) -> _Seen:
    with torch.inference_mode():
        described = network.describe(torch.from_numpy(preprocess.batch(images)))
        every = torch.arange(len(images))
        maps = similarity_maps(network, described.rows(every[:1]), described.rows(every[1:]))
        corners = parts_in_image(network, described, preprocess)
    sizes = tuple(cast(int, attend.size) for attend in network.attend)
    return _Seen(preprocess, sizes, corners, maps)


def _match_left(rank: int, num_levels: int) -> int:
    """The left edge of a match: its image, then a panel per level."""
    width = (1 + num_levels) * CELL_WIDTH + num_levels * PANEL_GAP
    return MARGIN + CELL_WIDTH + QUERY_GAP + rank * (width + MATCH_GAP)


def _draw_names(canvas: Image, y: int, k: int, levels: tuple[int, ...]) -> None:
    centred(canvas, "query", MARGIN, y, INK)
    for rank in range(k):
        left = _match_left(rank, len(levels))
        centred(canvas, f"{rank + 1}", left, y, INK)
        for i, level in enumerate(levels, 1):
            centred(canvas, f"CSN-{level}", left + i * (CELL_WIDTH + PANEL_GAP), y, FAINT_INK)
    for i, level in enumerate(levels):
        left = _match_left(k, len(levels)) + i * BAR_COLUMN
        text(canvas, f"CSN-{level}", left, y, colour=FAINT_INK)


def _draw_parts(filled: Image, parts: list[FloatArray], levels: tuple[int, ...]) -> None:
    """Each part's outline on the pixels that an image fills, over a shade that sets it off."""
    height, width = filled.shape[:2]
    bits = 4  # of a pixel's fraction
    pixels = [corners * np.array([width, height], np.float32) - 0.5 for corners in parts]
    fixed = [list(np.round(corners * 2**bits).astype(np.int32)) for corners in pixels]
    shade = filled.copy()
    for corners in fixed:
        cv2.polylines(shade, corners, True, (0, 0, 0), 4, cv2.LINE_AA, bits)
    filled[:] = cv2.addWeighted(shade, 0.5, filled, 0.5, 0)
    for corners, level in zip(fixed, levels, strict=True):
        cv2.polylines(filled, corners, True, COLOURS[level], 2, cv2.LINE_AA, bits)


def _draw_panels(canvas: Image, left: int, top: int, image: Image, seen: _Seen, rank: int) -> None:
    for i, maps in enumerate(seen.maps):
        panel_left = left + (i + 1) * (CELL_WIDTH + PANEL_GAP)
        filled = framed(canvas, panel_left, top, image, LINE)
        size = filled.shape[0], filled.shape[1]
        values = over_image(maps[rank], seen.part_sizes[i], seen.preprocess, size)
        filled[:] = heat(filled, values, seen.scale(i))
        captioned(canvas, panel_left, top, f"up to {maps[rank].max():.3g}")


def _draw_bars(canvas: Image, top: int, left: int, seen: _Seen) -> None:
    """The colours' scale of each level in this row."""
    ramp = np.linspace(1, 0, CELL_HEIGHT, dtype=np.float32)
    colours = coloured(np.repeat(ramp[:, None], BAR_WIDTH, 1), (0.0, 1.0))
    for level in range(len(seen.maps)):
        x = left + level * BAR_COLUMN
        canvas[top : top + CELL_HEIGHT, x : x + BAR_WIDTH] = colours
        low, high = seen.scale(level)
        for value, y in ((high, top + 15), (low, top + CELL_HEIGHT - 3)):
            text(canvas, f"{value:.3g}", x + BAR_WIDTH + 6, y, colour=FAINT_INK, scale=0.5)
