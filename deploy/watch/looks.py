"""Which images of a track are worth keeping: the best few, at moments that differ.

All numbers are inferred, and checked with tests/benchmarks/bench_enrol.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from reid.types import FloatArray, Image

from .appearance import PersonAppearance


@dataclass(frozen=True, slots=True)
class LookSettings:
    """How many looks of a track are kept, and when they are handed over."""

    most: int = 3
    """Looks of a track, at most."""
    apart_s: float = 3.0
    """Least time between two of them: successive frames show the same."""
    least_s: float = 0.5
    """A track that is shorter gives none: most are flickers of the detector."""
    due_s: tuple[float, ...] = (2.0, 20.0, 60.0)
    """Ages of a track at which its first, second and later looks are handed over, so that someone
    who stays can be searched; what is left is handed over at its end."""


USUAL_LOOKS = LookSettings()

SHARPNESS_SIZE = (64, 128)
"""Width and height at which sharpness is measured, so that people of all sizes compare."""

LEAST_SHARPNESS = 80.0
"""Variance of the Laplacian below which an image is blurred. Above it more is no better: the edges
of a sign in front of a person are the sharpest of all."""

LEAST_HEIGHT = 48
"""Height in pixels below which a person is too small for the network. More is no better: who is
near a camera is hidden by others more often."""

POOR = 0.3
"""The share that an image cut by the frame's edge, or of several people, is worth."""

EDGE = 2.0
"""Pixels from the frame's edge within which a box is cut by it."""


@dataclass(frozen=True, slots=True, eq=False)
class PersonLook:
    """One image of a track. ``poor``: it is cut, or shows someone else too."""

    quality: float
    time_s: float
    poor: bool
    box: tuple[int, int, int, int]
    appearance: PersonAppearance
    crop: Image
    """(H, W, 3) uint8 BGR, a copy."""
    place: dict[str, Any]
    """Camera, times, frame and run: see ``events.place_of``."""
    frame: Callable[[], bytes] | None = None
    """The whole frame as JPEG, where it is kept."""


def sharpness(crop: Image) -> float:
    """Variance of the Laplacian of an image (H, W, 3) uint8 BGR, at SHARPNESS_SIZE."""
    grey = cv2.cvtColor(cv2.resize(crop, SHARPNESS_SIZE), cv2.COLOR_BGR2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def is_cut(box: FloatArray, width: int, height: int) -> bool:
    """Whether a box touches the edge of its frame of ``width`` x ``height`` pixels."""
    low, high = box[:2], np.array([width, height]) - box[2:]
    return bool(min(*low, *high) < EDGE)


def quality_of(crop: Image, score: float, poor: bool) -> float:
    """How good an image of a person is, from 0 to 1: sharp, large, surely a person."""
    sharp = min(1.0, sharpness(crop) / LEAST_SHARPNESS)
    size = min(1.0, crop.shape[0] / LEAST_HEIGHT)
    return float(sharp * size * score * (POOR if poor else 1.0))


@dataclass
class TrackLooks:
    """The best looks of one track so far. ``began_s`` is its first frame's time."""

    began_s: float
    settings: LookSettings = USUAL_LOOKS
    kept: list[PersonLook] = field(default_factory=list)
    given_s: list[float] = field(default_factory=list)
    """Times of the looks that were handed over."""
    seen_s: float = -math.inf
    """The time of the newest frame with the track."""

    def wants(self, quality: float, poor: bool, time_s: float) -> bool:
        """Whether a look of this quality would be kept."""
        return self._replaced(quality, poor, time_s) is not None

    def add(self, look: PersonLook) -> None:
        """Keep a look if it is better than what it replaces."""
        replaced = self._replaced(look.quality, look.poor, look.time_s)
        if replaced is not None:
            self.kept = [one for one in self.kept if one not in replaced] + [look]

    def due(self, now_s: float) -> list[PersonLook]:
        """The looks to hand over at a frame with the track: the best one, each time that it is old
        enough."""
        self.seen_s = now_s
        given: list[PersonLook] = []
        while (
            len(self.given_s) < len(self.settings.due_s)
            and now_s - self.began_s >= self.settings.due_s[len(self.given_s)]
            and (good := [one for one in self.kept if not one.poor])
        ):
            given.append(self._give(max(good, key=lambda one: one.quality)))
        return given

    def rest(self) -> list[PersonLook]:
        """All that are left, at the track's end; poor ones only if there was no other."""
        if self.seen_s - self.began_s < self.settings.least_s:
            return []
        good = [one for one in self.kept if not one.poor]
        if not (good or self.given_s):
            good = sorted(self.kept, key=lambda one: -one.quality)[:1]
        return [self._give(one) for one in sorted(good, key=lambda one: one.time_s)]

    def _give(self, look: PersonLook) -> PersonLook:
        self.given_s.append(look.time_s)
        self.kept.remove(look)
        return look

    def _replaced(self, quality: float, poor: bool, time_s: float) -> list[PersonLook] | None:
        """The looks that one of this quality would replace; None if it would not be kept."""
        apart_s, room = self.settings.apart_s, self.settings.most - len(self.given_s)
        if room <= 0 or any(abs(time_s - given_s) < apart_s for given_s in self.given_s):
            return None
        if poor and (self.given_s or any(not one.poor for one in self.kept)):
            return None
        poorer = [one for one in self.kept if one.poor and not poor]
        others = [one for one in self.kept if one not in poorer]
        near = [one for one in others if abs(time_s - one.time_s) < apart_s]
        if not near and len(others) >= room:
            near = [min(others, key=lambda one: one.quality)]
        return None if any(one.quality >= quality for one in near) else [*poorer, *near]
