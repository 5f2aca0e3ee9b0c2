"""Parts of a picture that no one looks at: polygons, black as soon as a frame is decoded."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from reid.types import Image

Polygon = tuple[tuple[float, float], ...]
"""Corners as shares (0 to 1) of the picture's width and height."""


def blackened(image: Image, mask: Sequence[Polygon]) -> Image:
    """The picture with the polygons black, edges included; changed in place where that is possible.

    ``image`` is (height, width, 3) uint8.
    """
    if not mask:
        return image
    if not (image.flags.writeable and image.flags.c_contiguous):
        image = np.array(image, np.uint8)
    for polygon in mask:  # one by one: where two of them overlap, both count
        cv2.fillPoly(image, [in_pixels(polygon, image.shape[1], image.shape[0])], (0, 0, 0))
    return image


def in_pixels(
    polygon: Polygon, width: int, height: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """(corners, 2) pixels."""
    return np.round(np.array(polygon) * (width, height)).astype(np.int32)


def crosses_itself(polygon: Polygon) -> bool:
    """Whether two sides cross: which parts are inside is then not clear."""
    sides = list(zip(polygon, polygon[1:] + polygon[:1], strict=True))
    return any(
        _cross(sides[one], sides[two])
        for one in range(len(sides))
        for two in range(one + 2, len(sides))
        if (one, two) != (0, len(sides) - 1)
    )


_Side = tuple[tuple[float, float], tuple[float, float]]


def _cross(one: _Side, two: _Side) -> bool:
    def turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    return (
        turn(*one, two[0]) * turn(*one, two[1]) < 0 and turn(*two, one[0]) * turn(*two, one[1]) < 0
    )
