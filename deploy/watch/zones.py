"""Named parts of a camera's picture; a person is in a zone if the feet are."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from ..cameras.camera import Frame
from ..cameras.masks import Polygon
from .track import Track


class Zones:
    """Camera -> zone -> polygon, as ``TrackEvents`` asks for them."""

    def __init__(self, zones: Mapping[str, Mapping[str, Polygon]]) -> None:
        self._zones = {
            camera: {name: np.array(one, np.float32) for name, one in named.items()}
            for camera, named in zones.items()
        }

    def __call__(self, frame: Frame, track: Track) -> list[str]:
        """The zones that the middle of the box's lower edge is in."""
        named = self._zones.get(frame.camera)
        if not named:
            return []
        height, width = frame.image.shape[:2]
        left, _, right, bottom = (float(edge) for edge in track.box)
        foot = ((left + right) / 2 / width, bottom / height)
        return [name for name, one in named.items() if cv2.pointPolygonTest(one, foot, False) >= 0]
