"""YOLOX's output -> boxes, as its project decodes it outside the graph.

Anchor-free: each cell of three grids (strides 8, 16, 32, row by row) gives its box's centre in
cells from its corner, the logarithms of width and height in cells, an objectness score, and
class scores (Ge et al., "YOLOX", 2021, section 2.1, "Anchor-free").
"""

from __future__ import annotations

import numpy as np

from reid.types import FloatArray

from .boxes import People

STRIDES = (8, 16, 32)
_LARGEST_LOG = 10.0
"""Limit of a box's size in cells: e^10 cells are larger than any input."""


def num_cells(height: int, width: int) -> int:
    """Rows of the output for an input of this size."""
    return sum((height // stride) * (width // stride) for stride in STRIDES)


def people_from_yolox(
    output: FloatArray, height: int, width: int, person: int, min_score: float
) -> People:
    """(A, 5 + classes) of an input (height, width) -> people in its pixels, not suppressed."""
    scores = output[:, 4] * output[:, 5 + person]
    (likely,) = np.nonzero(scores >= min_score)
    corners, strides = _grid(height, width)
    strides = strides[likely, None]
    centres = (output[likely, :2] + corners[likely]) * strides
    halves = np.exp(np.minimum(output[likely, 2:4], _LARGEST_LOG)) * strides / 2
    boxes = np.concatenate([centres - halves, centres + halves], axis=1)
    return People(boxes.astype(np.float32), scores[likely].astype(np.float32))


def _grid(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """(A, 2) corners of the cells, x and y in cells of their own grid; (A,) strides."""
    corners, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        corners.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full(rows.size, stride))
    return (
        np.concatenate(corners).astype(np.float32),
        np.concatenate(strides).astype(np.float32),
    )
