"""YOLOX's output -> boxes, as its project decodes it outside the graph.

Anchor-free: each cell of three grids (strides 8, 16, 32, row by row; four with 64 in a P6 model)
gives its box's centre in cells from its corner, the logarithms of width and height in cells, an
objectness score, and class scores (Ge et al., "YOLOX", 2021, section 2.1, "Anchor-free"). A file
exported with ``--decode_in_inference`` gives centre, width and height in pixels of the input.
"""

from __future__ import annotations

import numpy as np

from reid.types import FloatArray

from .boxes import People

STRIDES = (8, 16, 32)
_STRIDES_P6 = (*STRIDES, 64)
_LARGEST_LOG = 10.0
"""Limit of a box's size in cells: e^10 cells are larger than any input."""


def num_cells(height: int, width: int, strides: tuple[int, ...] = STRIDES) -> int:
    """Rows of the output for an input of this size."""
    return sum((height // stride) * (width // stride) for stride in strides)


def cell_counts(height: int, width: int) -> tuple[int, ...]:
    """The possible numbers of rows: of three grids, and of four."""
    return num_cells(height, width), num_cells(height, width, _STRIDES_P6)


def is_decoded(output: FloatArray, height: int, width: int) -> bool:
    """Whether (A, 5 + classes) values are pixels already.

    Every cell's centre lies near the cell, so the grid's own middle decides: in pixels the centres
    are spread over the input, in cells from the corner they are all alike.
    """
    corners, strides = _grid(height, width, len(output))
    middles = (corners + 0.5) * strides[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        in_pixels = np.abs(output[:, :2] - middles) / strides[:, None]
        in_cells = np.abs(output[:, :2] - 0.5)
        return bool(np.nanmedian(in_pixels) < np.nanmedian(in_cells))


def people_from_yolox(
    output: FloatArray,
    height: int,
    width: int,
    person: int,
    min_score: float,
    decoded: bool = False,
) -> People:
    """(A, 5 + classes) of an input (height, width) -> people in its pixels, not suppressed."""
    scores = output[:, 4] * output[:, 5 + person]
    (likely,) = np.nonzero(scores >= min_score)
    places = output[likely, :4]
    if not decoded:
        corners, every_stride = _grid(height, width, len(output))
        strides = every_stride[likely, None]
        sizes = np.exp(np.minimum(places[:, 2:], _LARGEST_LOG)) * strides
        places = np.concatenate([(places[:, :2] + corners[likely]) * strides, sizes], axis=1)
    return People(corners_of(places), scores[likely].astype(np.float32))


def corners_of(centred: FloatArray) -> FloatArray:
    """(n, 4) centre, width and height -> left, top, right, bottom."""
    halves = centred[:, 2:] / 2
    boxes = np.concatenate([centred[:, :2] - halves, centred[:, :2] + halves], axis=1)
    return boxes.astype(np.float32)


def _grid(height: int, width: int, cells: int) -> tuple[FloatArray, FloatArray]:
    """(A, 2) corners of the cells, x and y in cells of their own grid; (A,) strides."""
    corners, strides = [], []
    for stride in STRIDES if cells == num_cells(height, width) else _STRIDES_P6:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        corners.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full(rows.size, stride))
    return (
        np.concatenate(corners).astype(np.float32),
        np.concatenate(strides).astype(np.float32),
    )
