"""People as boxes with scores, and operations on boxes.

A box is left, top, right, bottom in pixels of its frame; right and bottom are exclusive.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reid.types import FloatArray, IntArray

MAX_PEOPLE = 300
"""The most people of a frame, those with the highest scores."""
MIN_WIDTH, MIN_HEIGHT = 8, 24
"""The smallest person in pixels (a choice)."""
_MOST_CANDIDATES = 10 * MAX_PEOPLE
"""The most boxes to compare: a detector outputs about ten per person."""


class People(NamedTuple):
    """(n, 4) boxes and their (n,) scores in [0, 1], both float32."""

    boxes: FloatArray
    scores: FloatArray

    def of(self, chosen: IntArray) -> People:
        """The chosen people, in that order."""
        return People(self.boxes[chosen], self.scores[chosen])


def no_people() -> People:
    """No people."""
    return People(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def overlaps(first: FloatArray, second: FloatArray) -> FloatArray:
    """Intersection over union of (n, 4) with (m, 4) boxes: (n, m), in [0, 1]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    union = _areas(first)[:, None] + _areas(second)[None, :] - common
    return np.asarray(common / np.maximum(union, 1e-9), np.float32)


def suppress(people: People, max_overlap: float) -> People:
    """Greedy non-maximum suppression: the best of boxes that overlap by more than ``max_overlap``.

    Highest scores first, MAX_PEOPLE at most.
    """
    left = np.argsort(-people.scores, kind="stable")[:_MOST_CANDIDATES]
    kept: list[int] = []
    while len(left) and len(kept) < MAX_PEOPLE:
        kept.append(int(left[0]))
        common = overlaps(people.boxes[left[:1]], people.boxes[left[1:]])[0]
        left = left[1:][~(common > max_overlap)]
    return people.of(np.array(kept, np.int64))


def tidy(people: People, width: int, height: int, min_height: int = MIN_HEIGHT) -> People:
    """Boxes that can be cut out of a frame: clipped at its border, and large enough after that.

    Boxes that are not finite, empty or inverted are dropped, and all after the first MAX_PEOPLE.
    """
    finite = np.isfinite(people.boxes).all(axis=1) & np.isfinite(people.scores)
    boxes = np.where(finite[:, None], people.boxes, 0)
    limits = np.array([width, height, width, height], np.float32)
    boxes = np.clip(boxes, 0, limits).astype(np.float32)
    sizes = boxes[:, 2:] - boxes[:, :2]
    large = (sizes[:, 0] >= MIN_WIDTH) & (sizes[:, 1] >= max(min_height, 1))
    (chosen,) = np.nonzero(finite & large)
    best = chosen[np.argsort(-people.scores[chosen], kind="stable")[:MAX_PEOPLE]]
    return People(boxes, people.scores).of(best)


def whole_pixels(box: FloatArray) -> tuple[int, int, int, int]:
    """Left, top, width, height of a box inside its frame, rounded outwards, at least 1x1."""
    left, top = (int(edge) for edge in np.floor(box[:2]))
    right, bottom = (int(edge) for edge in np.ceil(box[2:]))
    return left, top, max(1, right - left), max(1, bottom - top)


def _areas(boxes: FloatArray) -> FloatArray:
    sizes: FloatArray = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    return sizes
