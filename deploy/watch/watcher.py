"""One round of frames: detect people, compute features where needed, link tracks, re-identify."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from reid.matching import Matcher
from reid.types import FloatArray, Image

from ..cameras.camera import Frame
from ..gallery import Gallery
from ..people.boxes import MIN_HEIGHT, People, tidy
from ..people.detector import PeopleDetector
from .appearance import Appearance, AppearanceModel
from .events import TrackedFrame
from .identities import Identities
from .tracker import USUAL, Tracker, TrackSettings


class Watcher:
    """Tracks people through rounds of frames, over all cameras.

    ``limit`` is the largest distance of one person (default: see ``AppearanceModel``); people
    under ``min_height`` pixels are ignored.
    """

    def __init__(
        self,
        detector: PeopleDetector,
        matcher: Matcher[Any],
        *,
        settings: TrackSettings = USUAL,
        limit: float | None = None,
        gallery: Gallery | None = None,
        min_height: int = MIN_HEIGHT,
    ) -> None:
        self.described = 0
        self._detector, self._settings, self._min_height = detector, settings, min_height
        self._model = AppearanceModel(matcher, limit)
        self.identities = Identities(self._model, gallery)
        self.trackers: dict[str, Tracker] = {}

    def look_at(self, frames: Sequence[Frame]) -> list[TrackedFrame]:
        """One round, with at most one frame of each camera."""
        people = [
            tidy(found, frame.image.shape[1], frame.image.shape[0], self._min_height)
            for frame, found in zip(
                frames, self._detector.detect([frame.image for frame in frames]), strict=True
            )
        ]
        trackers = [self._tracker(frame.camera) for frame in frames]
        plans = [
            tracker.plan(found, frame.time_s)
            for tracker, found, frame in zip(trackers, people, frames, strict=True)
        ]
        appearances = self._describe(frames, people, [plan.wanted for plan in plans])
        self.identities.begin_round()
        seen = []
        for frame, tracker, plan, known in zip(frames, trackers, plans, appearances, strict=True):
            height, width = frame.image.shape[:2]
            tracks = tracker.update(plan, known, width, height)
            self.identities.name(tracks)
            seen.append(TrackedFrame(frame, tracks))
        return seen

    def _describe(
        self, frames: Sequence[Frame], people: Sequence[People], wanted: Sequence[Sequence[int]]
    ) -> list[dict[int, Appearance]]:
        """Appearances of the wanted boxes of all cameras, with one call of the model."""
        places = [(index, box) for index, boxes in enumerate(wanted) for box in boxes]
        crops = [cut_out(frames[index].image, people[index].boxes[box]) for index, box in places]
        scores = [float(people[index].scores[box]) for index, box in places]
        found: list[dict[int, Appearance]] = [{} for _ in frames]
        for (index, box), appearance in zip(
            places, self._model.describe(crops, scores), strict=True
        ):
            if appearance is not None:
                found[index][box] = appearance
        self.described += len(crops)
        return found

    def _tracker(self, camera: str) -> Tracker:
        if camera not in self.trackers:
            self.trackers[camera] = Tracker(self._model, self._settings)
        return self.trackers[camera]


def cut_out(image: Image, box: FloatArray) -> Image:
    """The part of a frame in a box inside it, rounded outwards."""
    left, top = (int(np.floor(edge)) for edge in box[:2])
    right, bottom = (int(np.ceil(edge)) for edge in box[2:])
    return image[top:bottom, left:right]
