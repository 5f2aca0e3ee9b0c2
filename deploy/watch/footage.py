"""Pairs of people in footage without labels, for the thresholds of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reid.types import FloatArray, IntArray

from ..people.boxes import overlaps
from .appearance import AppearanceModel, PersonAppearance
from .events import TrackedFrame
from .track import Track
from .tracker import USUAL
from .watching import cut_out

MOST_IN_A_FRAME = 20
"""People of one frame that are compared: the first ones, so that a crowd does not outweigh all else
and a network that compares pairs keeps up."""

MOST_PAIRS = 5_000_000
"""Pairs that are kept; the footage beyond them is not needed for any rate."""


class FootagePairs:
    """A sink that compares the people of a frame every ``every_s`` seconds.

    Two people in one frame are different people, unless their boxes overlap: one may be the other
    again, or show both. Two images of one track are of one person: an image is compared with the
    track's first and with the one before.
    """

    def __init__(self, model: AppearanceModel, every_s: float) -> None:
        self._model, self._every_s = model, every_s
        self._next_s: dict[str, float] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        self._kept: dict[int, tuple[PersonAppearance, PersonAppearance]] = {}
        self._different: list[FloatArray] = []
        self._tracks: list[IntArray] = []
        self._same: list[float] = []
        self._count = 0

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """One round."""
        for one in seen:
            camera, now_s = one.frame.camera, one.frame.time_s
            if now_s >= self._next_s.get(camera, -np.inf) and self._count < MOST_PAIRS:
                self._next_s[camera] = now_s + self._every_s
                self._compare(one)

    def news(self, news: object) -> None:
        """Changes of a source do not matter."""

    def pairs(self) -> tuple[FloatArray, IntArray, FloatArray]:
        """(D,) distances in one frame, (D, 2) numbers of their tracks, (S,) within a track."""
        none = np.zeros(0, np.float32)
        return (
            np.concatenate([none, *self._different]).astype(np.float32),
            np.concatenate([np.zeros((0, 2), np.int64), *self._tracks]),
            np.array(self._same, np.float32),
        )

    def _compare(self, seen: TrackedFrame) -> None:
        tracks = [track for track in seen.tracks if _apart(track, seen.tracks)][:MOST_IN_A_FRAME]
        crops = [cut_out(seen.frame.image, track.box) for track in tracks]
        described = self._model.describe(crops, [track.score for track in tracks])
        found = [
            (self._number(seen.frame.camera, track), appearance)
            for track, appearance in zip(tracks, described, strict=True)
            if appearance is not None
        ]
        if not found:
            return
        numbers = np.array([number for number, _ in found], np.int64)
        table = self._model.distances([one for _, one in found], [one for _, one in found])
        first, second = np.triu_indices(len(found), 1)
        self._different.append(table[first, second])
        self._tracks.append(np.stack([numbers[first], numbers[second]], axis=1))
        self._count += len(first)
        for number, appearance in found:
            earlier = self._kept.get(number)
            if earlier is not None:
                self._same += self._model.distances([appearance], earlier)[0].tolist()
            self._kept[number] = (earlier[0] if earlier else appearance, appearance)

    def _number(self, camera: str, track: Track) -> int:
        return self._numbers.setdefault((camera, track.number), len(self._numbers))


def _apart(track: Track, others: Sequence[Track]) -> bool:
    """Whether no other person is near."""
    boxes = np.array([other.box for other in others if other is not track]).reshape(-1, 4)
    return not (overlaps(track.box[None], boxes) > USUAL.near_overlap).any()
