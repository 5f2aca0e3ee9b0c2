"""Pictures of ranked lists of gallery images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from reid.data import read_image
from reid.report.chosen import queries_to_show
from reid.report.drawing import (
    CAPTION_HEIGHT,
    CELL_HEIGHT,
    CELL_WIDTH,
    FRAME_OF_QUERY,
    GAP,
    HEADER_HEIGHT,
    INK,
    LEGEND,
    LINE,
    MARGIN,
    QUERY_GAP,
    RIGHT,
    TITLE_HEIGHT,
    WRONG,
    captioned,
    centred,
    framed,
    heading,
    save_png,
)
from reid.types import Image, ImageRecord, Ranking, Split


def write_ranked_list(
    png: Path,
    split: Split,
    ranking: Ranking,
    *,
    num_queries: int = 6,
    k: int = 10,
    worst_first: bool = False,
    limit: float | None = None,
) -> None:
    """Draw a split's ranking into a PNG file; see ``ranked_list_picture``."""
    picture = ranked_list_picture(
        split.query,
        split.gallery,
        ranking,
        num_queries=num_queries,
        k=k,
        worst_first=worst_first,
        limit=limit,
    )
    save_png(picture, png)


def ranked_list_picture(
    query: Sequence[ImageRecord],
    gallery: Sequence[ImageRecord],
    ranking: Ranking,
    *,
    num_queries: int = 6,
    k: int = 10,
    worst_first: bool = False,
    title: str = "",
    limit: float | None = None,
) -> Image:
    """Queries at the left, the nearest gallery images beside them, correct matches framed green.

    ``ranking`` is from ``rank_distances`` on the same query and gallery; ``k`` is at most its
    width. A match farther than ``limit`` is marked as beyond it. Rows are spread evenly over the
    answerable queries or, with ``worst_first``, begin with the most confident mistakes. Returns
    (H, W, 3) uint8 BGR. Raises DataError if no query is answerable or an image cannot be read, and
    ValueError for a ranking of other queries.
    """
    k = min(k, ranking.indices.shape[1])
    chosen = queries_to_show(query, gallery, ranking, num_queries, worst_first)
    width = 2 * MARGIN + CELL_WIDTH + QUERY_GAP + k * CELL_WIDTH + (k - 1) * GAP
    row_height = CELL_HEIGHT + CAPTION_HEIGHT
    top = MARGIN + TITLE_HEIGHT + HEADER_HEIGHT
    height = top + len(chosen) * row_height + (len(chosen) - 1) * GAP + MARGIN // 2
    canvas: Image = np.full((height, width, 3), 255, np.uint8)
    heading(canvas, title or ("Most confident mistakes" if worst_first else "Ranked lists"), LEGEND)
    centred(canvas, "query", MARGIN, top - 12, INK)
    for rank in range(k):
        centred(canvas, f"{rank + 1}", _column(rank), top - 12, INK)
    for i, q in enumerate(chosen):
        place = top + i * (row_height + GAP)
        _draw_row(canvas, place, query[q], gallery, ranking, q, k, limit)
    return canvas


def closeness(distance: float) -> str:
    """A distance as text: ``d 0.512``, or ``score 1.687`` for a network that compares pairs.

    Such a network's distance is minus its score, and a vector's distance is never below 0.
    """
    return f"score {-distance:.3f}" if distance < 0 else f"d {distance:.3f}"


def draw_query(canvas: Image, top: int, query: ImageRecord) -> Image:
    """A row's query at its left, and a line beside it; returns its image's part of the canvas."""
    filled = framed(canvas, MARGIN, top, read_image(query.path), FRAME_OF_QUERY)
    captioned(canvas, MARGIN, top, f"id {query.person_id}", f"camera {query.camera_id}")
    line = MARGIN + CELL_WIDTH + QUERY_GAP // 2
    cv2.line(canvas, (line, top), (line, top + CELL_HEIGHT), LINE, 2)
    return filled


def draw_match(
    canvas: Image,
    left: int,
    top: int,
    record: ImageRecord,
    distance: float,
    correct: bool,
    limit: float | None = None,
) -> Image:
    """A gallery image, its distance and whether it matches; returns its part of the canvas."""
    filled = framed(canvas, left, top, read_image(record.path), RIGHT if correct else WRONG)
    mark = " beyond" if limit is not None and distance > limit else ""
    captioned(canvas, left, top, f"{closeness(distance)}{mark}", f"camera {record.camera_id}")
    return filled


def _column(rank: int) -> int:
    """The left edge of the cell of a 0-based rank."""
    return MARGIN + CELL_WIDTH + QUERY_GAP + rank * (CELL_WIDTH + GAP)


def _draw_row(
    canvas: Image,
    top: int,
    query: ImageRecord,
    gallery: Sequence[ImageRecord],
    ranking: Ranking,
    q: int,
    k: int,
    limit: float | None,
) -> None:
    draw_query(canvas, top, query)
    for rank in range(k):
        index = int(ranking.indices[q, rank])
        if index < 0:
            break
        distance, correct = float(ranking.distances[q, rank]), bool(ranking.correct[q, rank])
        draw_match(canvas, _column(rank), top, gallery[index], distance, correct, limit)
