"""Zones: named polygons of a camera's picture, in which people stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..cameras.camera import Frame
from ..cameras.polygons import Polygon, contains
from .track import Track


class Zones:
    """Camera -> zone -> polygon; a person stands where the middle of the box's lower edge is.

    It is a ``ZonesOf`` for ``TrackEvents``.
    """

    def __init__(self, zones: Mapping[str, Mapping[str, Polygon]]) -> None:
        self._zones = zones

    def __call__(self, frame: Frame, track: Track) -> Sequence[str]:
        """The names of the zones in which a track's person stands, in the order of the zones."""
        zones = self._zones.get(frame.camera)
        if not zones:
            return ()
        height, width = frame.image.shape[:2]
        left, _, right, bottom = (float(edge) for edge in track.box)
        # The lower edge of the picture belongs to it.
        x, y = (left + right) / 2 / width, min(1.0, bottom / height)
        return [name for name, polygon in zones.items() if contains(polygon, x, y)]
