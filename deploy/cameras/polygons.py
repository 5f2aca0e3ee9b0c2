"""Polygons of a camera's picture: masks, which nothing behind the decoder sees, and zones.

A polygon is a list of (x, y), shares of the picture's width and height from 0 to 1, so that it
holds for any size that the camera sends.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import cast

import cv2
import numpy as np

from reid.errors import ConfigError
from reid.types import BoolArray, Image

from .readers import Decoded, Frames, Lost, read_source
from .sources import CameraSource

Polygon = tuple[tuple[float, float], ...]

_LEAST_CORNERS, _MOST_CORNERS = 3, 1000
_SUBPIXEL_BITS = 4


def checked_polygon(corners: Sequence[Sequence[float]], what: str) -> Polygon:
    """A polygon, checked. Raises ConfigError, which begins with ``what``."""
    if not _LEAST_CORNERS <= len(corners) <= _MOST_CORNERS:
        raise ConfigError(
            f"{what}: a polygon has {_LEAST_CORNERS} to {_MOST_CORNERS} corners, found "
            f"{len(corners)}"
        )
    for corner in corners:
        if len(corner) != 2 or not all(0 <= share <= 1 for share in corner):
            raise ConfigError(
                f"{what}: a corner is [x, y], shares of width and height from 0 to 1; found "
                f"{list(corner)}"
            )
    polygon = tuple((float(x), float(y)) for x, y in corners)
    if not _area(polygon) > 0:
        raise ConfigError(f"{what}: the polygon has no area; its corners lie on a line")
    return polygon


def contains(polygon: Polygon, x: float, y: float) -> bool:
    """Whether a place, in shares, lies in the polygon or on its edge."""
    corners = np.array(polygon, np.float32)
    return bool(cv2.pointPolygonTest(corners, (float(x), float(y)), False) >= 0)


def covered(polygons: Sequence[Polygon], height: int, width: int) -> BoolArray:
    """(height, width): the pixels that a polygon touches."""
    canvas = np.zeros((height, width), np.uint8)
    scale = 1 << _SUBPIXEL_BITS
    for polygon in polygons:
        # A pixel's centre is at half: the first one's is 0.5 / width.
        corners = np.array(polygon) * (width, height) - 0.5
        points = np.round(corners * scale).astype(np.int32)
        cv2.fillPoly(canvas, [points], 1, shift=_SUBPIXEL_BITS)
    # The edge's own pixels too, however little of them is inside.
    return np.asarray(cv2.dilate(canvas, np.ones((3, 3), np.uint8)) > 0)


class MaskedReader:
    """Reads sources with the polygons of ``masks`` blackened in every frame, by camera.

    It is a ``Read`` for ``Cameras``: what is masked reaches no detector, file or network. A camera
    without masks is read as it is.
    """

    def __init__(self, masks: Mapping[str, Sequence[Polygon]]) -> None:
        self._masks = {name: tuple(polygons) for name, polygons in masks.items() if polygons}

    def __call__(self, source: CameraSource) -> Frames:
        """The frames of ``source``."""
        frames = read_source(source)
        polygons = self._masks.get(source.name)
        return _masked(frames, polygons) if polygons else frames


def _masked(frames: Frames, polygons: Sequence[Polygon]) -> Generator[Decoded | Lost, None, None]:
    mask = np.zeros((0, 0), np.bool_)
    with closing(frames):
        for item in frames:
            if isinstance(item, Decoded):
                height, width = item.image.shape[:2]
                if mask.shape != (height, width):
                    mask = covered(polygons, height, width)
                image = item.image if item.image.flags.writeable else item.image.copy()
                image[mask] = 0
                item = item._replace(image=cast("Image", image))
            yield item


def _area(polygon: Polygon) -> float:
    """The shoelace formula."""
    xs, ys = np.array(polygon).T
    return abs(float(np.dot(xs, np.roll(ys, -1)) - np.dot(ys, np.roll(xs, -1)))) / 2
