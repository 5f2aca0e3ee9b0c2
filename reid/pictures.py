"""Pictures for people: ranked lists of gallery images, drawn and saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from reid.curves import curves_picture
from reid.data import read_image
from reid.errors import DataError
from reid.files import write_atomically
from reid.ranking import MarketRules, labels_from_records
from reid.types import Image, ImageRecord, Ranking, Split

# Ranked lists, in pixels and BGR. Text is drawn large: a page shows the picture at half size.
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
RIGHT = (84, 158, 46)
WRONG = (58, 52, 214)
FRAME_OF_QUERY = (96, 88, 80)

FONT = cv2.FONT_HERSHEY_DUPLEX


def png_bytes(image: Image) -> bytes:
    """An image (H, W, 3) uint8 BGR as a PNG file's bytes."""
    done, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not done:
        raise ValueError(f"OpenCV cannot encode an image of shape {image.shape} as PNG")
    return encoded.tobytes()


def save_png(image: Image, path: Path) -> None:
    """Write a picture in one step. Raises OutputError where the folder cannot be written."""
    write_atomically(path, lambda file: file.write(png_bytes(image)))


def write_curves(log_csv: Path, png: Path) -> None:
    """Draw a training log's curves into a PNG file.

    Raises DataError for a log that cannot be read, OutputError for a place that cannot be
    written.
    """
    save_png(curves_picture(log_csv), png)


def write_ranked_list(
    png: Path,
    split: Split,
    ranking: Ranking,
    *,
    num_queries: int = 6,
    k: int = 10,
    worst_first: bool = False,
) -> None:
    """Draw a split's ranking into a PNG file; see ``ranked_list_picture``."""
    picture = ranked_list_picture(
        split.query,
        split.gallery,
        ranking,
        num_queries=num_queries,
        k=k,
        worst_first=worst_first,
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
) -> Image:
    """Queries at the left, the nearest gallery images beside them, right ones framed green.

    ``ranking`` is ``rank_distances``'s of the same query and gallery; ``k`` is cut to its
    width. Rows are spread evenly over the queries that can be answered, or, with
    ``worst_first``, begin with the most confident mistakes. Returns (H, W, 3) uint8 BGR.
    Raises DataError where no query can be answered or an image cannot be read, and
    ValueError for a ranking of other queries.
    """
    if len(ranking.indices) != len(query):
        raise ValueError(
            f"a ranking of {len(query)} queries expected, found {len(ranking.indices)}"
        )
    k = min(k, ranking.indices.shape[1])
    chosen = _queries_to_show(query, gallery, ranking, num_queries, worst_first)
    width = 2 * MARGIN + CELL_WIDTH + QUERY_GAP + k * CELL_WIDTH + (k - 1) * GAP
    row_height = CELL_HEIGHT + CAPTION_HEIGHT
    top = MARGIN + TITLE_HEIGHT + HEADER_HEIGHT
    height = top + len(chosen) * row_height + (len(chosen) - 1) * GAP + MARGIN // 2
    canvas: Image = np.full((height, width, 3), 255, np.uint8)
    _draw_heading(
        canvas, k, title or ("Most confident mistakes" if worst_first else "Ranked lists")
    )
    for i, q in enumerate(chosen):
        _draw_row(canvas, top + i * (row_height + GAP), query[q], gallery, ranking, q, k)
    return canvas


def _queries_to_show(
    query: Sequence[ImageRecord],
    gallery: Sequence[ImageRecord],
    ranking: Ranking,
    num_queries: int,
    worst_first: bool,
) -> list[int]:
    rules = MarketRules(labels_from_records(gallery))
    answerable = [
        i
        for i, one in enumerate(query)
        if len(rules.good_and_skipped(one.person_id, one.camera_id)[0])
    ]
    if not answerable:
        raise DataError("no query has a right image in the gallery: there is no list to show")
    if not worst_first:
        spread = np.linspace(0, len(answerable) - 1, min(num_queries, len(answerable)))
        return [answerable[int(i)] for i in spread.round()]

    def badness(q: int) -> tuple[int, float]:
        hits = np.flatnonzero(ranking.correct[q])
        first = int(hits[0]) if len(hits) else ranking.correct.shape[1]
        return -first, float(ranking.distances[q, 0])

    return sorted(answerable, key=badness)[:num_queries]


def _column(rank: int) -> int:
    """The left edge of the cell of a 0-based rank."""
    return MARGIN + CELL_WIDTH + QUERY_GAP + rank * (CELL_WIDTH + GAP)


def _draw_heading(canvas: Image, k: int, title: str) -> None:
    _text(canvas, title, MARGIN, MARGIN + 32, scale=1.1, colour=INK)
    y = MARGIN + 68
    x = MARGIN
    legend = (("right identity", RIGHT), ("another identity", WRONG))
    for words, colour in legend:
        cv2.rectangle(canvas, (x, y - 15), (x + 18, y + 3), colour, FRAME // 2)
        _text(canvas, words, x + 30, y, colour=FAINT_INK)
        x += 30 + _text_width(words) + 36
    y = MARGIN + TITLE_HEIGHT + HEADER_HEIGHT - 12
    _centred(canvas, "query", MARGIN, y, INK)
    for rank in range(k):
        _centred(canvas, f"{rank + 1}", _column(rank), y, INK)


def _draw_row(
    canvas: Image,
    top: int,
    query: ImageRecord,
    gallery: Sequence[ImageRecord],
    ranking: Ranking,
    q: int,
    k: int,
) -> None:
    caption = f"id {query.person_id}", f"camera {query.camera_id}"
    _draw_cell(canvas, MARGIN, top, query, FRAME_OF_QUERY, caption)
    line = MARGIN + CELL_WIDTH + QUERY_GAP // 2
    cv2.line(canvas, (line, top), (line, top + CELL_HEIGHT), (220, 216, 212), 2)
    for rank in range(k):
        index = int(ranking.indices[q, rank])
        if index < 0:
            break
        record = gallery[index]
        colour = RIGHT if ranking.correct[q, rank] else WRONG
        caption = f"d {ranking.distances[q, rank]:.3f}", f"camera {record.camera_id}"
        _draw_cell(canvas, _column(rank), top, record, colour, caption)


def _draw_cell(
    canvas: Image,
    left: int,
    top: int,
    record: ImageRecord,
    colour: tuple[int, int, int],
    caption: tuple[str, str],
) -> None:
    """One framed image, its aspect kept on white, and two lines below it."""
    right, bottom = left + CELL_WIDTH, top + CELL_HEIGHT
    canvas[top:bottom, left:right] = colour
    inner = canvas[top + FRAME : bottom - FRAME, left + FRAME : right - FRAME]
    inner[:] = WHITE
    image = read_image(record.path)
    scale = min(inner.shape[0] / image.shape[0], inner.shape[1] / image.shape[1])
    height = max(1, min(inner.shape[0], round(image.shape[0] * scale)))
    width = max(1, min(inner.shape[1], round(image.shape[1] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    y, x = (inner.shape[0] - height) // 2, (inner.shape[1] - width) // 2
    inner[y : y + height, x : x + width] = cv2.resize(
        image, (width, height), interpolation=interpolation
    )
    _centred(canvas, caption[0], left, bottom + 22, INK)
    _centred(canvas, caption[1], left, bottom + 44, FAINT_INK)


def _text_width(words: str, scale: float = 0.6) -> int:
    return int(cv2.getTextSize(words, FONT, scale, 1)[0][0])


def _centred(canvas: Image, words: str, left: int, y: int, colour: tuple[int, int, int]) -> None:
    """Text centred over a cell, made smaller where it would not fit."""
    scale = 0.6 * min(1.0, CELL_WIDTH / max(1, _text_width(words)))
    x = left + (CELL_WIDTH - _text_width(words, scale)) // 2
    _text(canvas, words, x, y, scale=scale, colour=colour)


def _text(
    canvas: Image, words: str, x: int, y: int, *, colour: tuple[int, int, int], scale: float = 0.6
) -> None:
    cv2.putText(canvas, words, (x, y), FONT, scale, colour, 1, cv2.LINE_AA)
