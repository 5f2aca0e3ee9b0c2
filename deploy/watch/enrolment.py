"""What cameras see goes into a gallery: the best looks of each track, without a name.

The machine names no one: ``person`` of these entries is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import cv2
import numpy as np

from reid.types import Image

from ..cameras.camera import GONE, Frame, News
from ..people.boxes import whole_pixels
from .clock import RunClock
from .events import TrackedFrame, place_of
from .looks import USUAL_LOOKS, LookSettings, PersonLook, TrackLooks, is_cut, quality_of
from .track import Track

FRAME_QUALITY = 90
"""JPEG quality of a frame that is kept (a choice)."""


CROPS_KNOWN = 10_000
"""Newest tracks whose best picture is known: far more than are in sight at once."""


class TakesLooks(Protocol):
    """Takes the looks that were chosen; never waits."""

    def put(self, look: PersonLook, track: int) -> str | None:
        """One look of a track. Returns the file of its picture, where pictures are kept in files;
        it is there soon."""
        ...


class Enrolment:
    """A sink that chooses the best looks of each track, and hands them to ``taker``.

    ``keep_frames``: with each look its whole frame. Call ``finish`` at the end of the run.
    """

    def __init__(
        self,
        clock: RunClock,
        taker: TakesLooks,
        *,
        settings: LookSettings = USUAL_LOOKS,
        keep_frames: bool = False,
    ) -> None:
        self._clock, self._taker = clock, taker
        self._settings, self._keep_frames = settings, keep_frames
        self._tracks: dict[tuple[str, int], TrackLooks] = {}
        self._crops: dict[tuple[str, int], tuple[float, str]] = {}

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """One round."""
        for one in seen:
            place = place_of(one.frame, self._clock)
            content = _jpeg_of(one.frame) if self._keep_frames else None
            for track in one.tracks:
                self._consider(one.frame, track, place, content)
            self._end([(one.frame.camera, track.number) for track in one.ended])

    def news(self, news: News) -> None:
        """The tracks of a camera that is lost or over have ended."""
        if news.state in GONE:
            self._end([key for key in self._tracks if key[0] == news.camera])

    def finish(self) -> None:
        """All tracks end."""
        self._end([*self._tracks])

    def crop(self, camera: str, track: int) -> str | None:
        """The file of the best picture of a track so far, where pictures are kept in files."""
        return self._crops.get((camera, track), (0.0, None))[1]

    def _consider(
        self,
        frame: Frame,
        track: Track,
        place: dict[str, Any],
        content: Callable[[], bytes] | None,
    ) -> None:
        key = (frame.camera, track.number)
        if key not in self._tracks:
            self._tracks[key] = TrackLooks(frame.time_s, self._settings)
        looks = self._tracks[key]
        if track.described is not None:
            self._offer(looks, frame, track, place, content)
        for look in looks.due(frame.time_s):
            self._put(key, look)

    @staticmethod
    def _offer(
        looks: TrackLooks,
        frame: Frame,
        track: Track,
        place: dict[str, Any],
        content: Callable[[], bytes] | None,
    ) -> None:
        """Keep the newest image of a track if it is among the best."""
        if track.described is None:
            return
        box = left, top, width, height = whole_pixels(track.box)
        crop = frame.image[top : top + height, left : left + width]
        poor = track.look is None or is_cut(track.box, frame.image.shape[1], frame.image.shape[0])
        quality = quality_of(crop, track.score, poor)
        if looks.wants(quality, poor, frame.time_s):
            if content is not None:
                content()  # now, as the frame itself is not kept
            kept = np.array(crop)
            looks.add(
                PersonLook(quality, frame.time_s, poor, box, track.described, kept, place, content)
            )

    def _end(self, keys: Sequence[tuple[str, int]]) -> None:
        for key in keys:
            looks = self._tracks.pop(key, None)
            for look in looks.rest() if looks else ():
                self._put(key, look)

    def _put(self, key: tuple[str, int], look: PersonLook) -> None:
        crop = self._taker.put(look, key[1])
        if crop is not None and look.quality > self._crops.get(key, (-1.0, ""))[0]:
            self._crops[key] = (look.quality, crop)
            if len(self._crops) > CROPS_KNOWN:
                del self._crops[next(iter(self._crops))]


def _jpeg_of(frame: Frame) -> Callable[[], bytes]:
    """The frame's JPEG, made once, when it is first asked for."""
    waiting: list[Image] = [frame.image]

    @lru_cache(1)
    def content() -> bytes:
        done, found = cv2.imencode(".jpg", waiting.pop(), [cv2.IMWRITE_JPEG_QUALITY, FRAME_QUALITY])
        return found.tobytes() if done else b""

    return content
