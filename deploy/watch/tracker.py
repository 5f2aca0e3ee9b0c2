"""One camera's people over time: boxes become tracks by motion and appearance.

Our own, because no library fits: ByteTrack in ``supervision`` and ``trackers`` (MIT, Apache) uses
no appearance and needs Matplotlib and a second OpenCV; ``norfair`` (BSD) needs NumPy below 2;
``motpy`` has had no release since 2021; BoxMOT is AGPL. It combines DeepSORT and ByteTrack (Wojke
et al., ICIP 2017; Zhang et al., ECCV 2022): unambiguous people are tracked by their boxes alone,
and the network runs only for the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reid.types import BoolArray, FloatArray, IntArray

from ..people.boxes import People, overlaps
from .appearance import AppearanceModel, PersonAppearance
from .assignment import assign
from .motion import GATE, Motion
from .track import Track


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """Settings of the tracker. All inferred, and checked with tests/benchmarks/bench_watch.py."""

    high_score: float = 0.5
    """From this score a box can start a track; weaker boxes can only continue one."""
    min_hits: int = 3
    """Boxes until a track is confirmed."""
    keep_s: float = 3.0
    """How long a track is kept while it has no box."""
    tolerance: float = 1.25
    """Largest distance relative to the limit: above 1, because the motion agrees too."""
    sure_overlap: float = 0.6
    """Overlap from which a box belongs to a track without the network, if no one else is near."""
    forgive_s: float = 0.5
    """After this time without a box the appearance must match, however well the position fits."""
    near_overlap: float = 0.1
    """Overlap from which two people are near each other."""
    refresh_s: float = 0.5
    """How often the features of an unambiguous person are computed."""
    weak_overlap: float = 0.5
    """Least overlap of a weak box with a track's predicted one."""


USUAL = TrackSettings()


@dataclass(frozen=True, slots=True)
class FramePlan:
    """One frame before the network runs. ``sure`` holds pairs of a track and a box's number."""

    people: People
    time_s: float
    sure: list[tuple[Track, int]]
    crowded: BoolArray
    """(n,): whether another box is near, so that the crop may show someone else too."""
    wanted: list[int]
    """Numbers of the boxes whose features are needed."""


class CameraTracker:
    """Tracks of one camera. For each frame: ``plan``, compute the wanted features, ``update``."""

    def __init__(self, model: AppearanceModel, settings: TrackSettings = USUAL) -> None:
        self.tracks: list[Track] = []
        self.num_tracks = 0
        """How many tracks were confirmed so far."""
        self.ended: list[Track] = []
        """Confirmed tracks that ended with the newest frame."""
        self._model, self._settings = model, settings
        self._numbers = itertools.count(1)
        self._time_s: float | None = None

    def plan(self, people: People, time_s: float) -> FramePlan:
        """Predict the tracks to ``time_s``, link unambiguous boxes, list which need features."""
        settings = self._settings
        since_s = 0.0 if self._time_s is None else time_s - self._time_s
        self._time_s = time_s
        for track in self.tracks:
            track.motion.predict(since_s, seen=not track.missed)
        common = overlaps(self._boxes(self.tracks), people.boxes)
        near = common > settings.near_overlap
        sure, strong = [], people.scores >= settings.high_score
        for row, track in enumerate(self.tracks):
            boxes = np.flatnonzero(near[row])
            if len(boxes) != 1 or track.missed or not track.confirmed:
                continue
            box = int(boxes[0])
            alone = near[:, box].sum() == 1
            if alone and strong[box] and common[row, box] >= settings.sure_overlap:
                sure.append((track, box))
        fresh = {box for track, box in sure if 0 <= time_s - track.described_s < settings.refresh_s}
        wanted = [int(box) for box in np.flatnonzero(strong) if box not in fresh]
        among = overlaps(people.boxes, people.boxes) > settings.near_overlap
        return FramePlan(people, time_s, sure, among.sum(axis=1) > 1, wanted)

    def update(
        self, plan: FramePlan, appearances: Mapping[int, PersonAppearance], width: int, height: int
    ) -> list[Track]:
        """Link the plan's boxes to tracks; ``appearances`` has those of the wanted boxes.

        Returns the confirmed tracks with a box in this frame of ``width`` x ``height`` pixels.
        """
        found = {track.number: box for track, box in plan.sure}
        found |= self._by_appearance(plan, appearances, found)
        found |= self._by_overlap(plan, found)
        for track in self.tracks:
            track.look = track.described = None
            box = found.get(track.number)
            if box is None:
                track.missed = True
                continue
            self._follow(track, plan, box, appearances.get(box))
        going_on = [track for track in self.tracks if self._goes_on(track, width, height)]
        numbers = {track.number for track in going_on}
        self.ended = [t for t in self.tracks if t.confirmed and t.number not in numbers]
        self.tracks = going_on
        for box in sorted(appearances.keys() - set(found.values())):
            self._begin(plan, box, appearances[box])
        return [track for track in self.tracks if track.confirmed and not track.missed]

    def end(self) -> None:
        """End all tracks, as the camera was lost or its file is over."""
        self.tracks, self.ended = [], [track for track in self.tracks if track.confirmed]

    def _by_appearance(
        self, plan: FramePlan, appearances: Mapping[int, PersonAppearance], found: Mapping[int, int]
    ) -> dict[int, int]:
        """Link the other tracks and strong boxes by motion and appearance: track number -> box.

        The cost of a pair is (1 - overlap) / 2 + distance / (2 tolerance), at most 1: without
        overlap the distance must be within the tolerance, with full overlap it may be twice
        that, as for someone half hidden. A track without a box for a while gets no such
        allowance: the box may be someone else's.
        """
        tracks = [track for track in self.tracks if track.number not in found]
        strong = plan.people.scores >= self._settings.high_score
        boxes = [int(box) for box in np.flatnonzero(strong) if box not in found.values()]
        if not (tracks and boxes):
            return {}
        places = plan.people.boxes[boxes]
        costs = np.asarray((1 - overlaps(self._boxes(tracks), places)) / 2, np.float32)
        allowed = np.array([track.motion.distances(places) for track in tracks]) <= GATE
        described = [column for column, box in enumerate(boxes) if box in appearances]
        relative_distances = np.ones_like(costs)
        relative_distances[:, described] = (
            self._model.relative_distances(
                [track.appearance for track in tracks],
                [appearances[boxes[column]] for column in described],
            )
            / self._settings.tolerance
        )
        costs += relative_distances / 2
        away_s = plan.time_s - np.array([track.seen_s for track in tracks])
        lost = away_s[:, None] > self._settings.forgive_s
        costs[~allowed | (lost & (relative_distances > 1))] = np.inf
        return {tracks[row].number: boxes[column] for row, column in assign(costs, 1.0)}

    def _by_overlap(self, plan: FramePlan, found: Mapping[int, int]) -> dict[int, int]:
        """Link tracks of the last frame to weak boxes by overlap: track number -> box."""
        tracks = [t for t in self.tracks if t.number not in found and not t.missed]
        boxes: IntArray = np.flatnonzero(plan.people.scores < self._settings.high_score)
        costs = 1 - overlaps(self._boxes(tracks), plan.people.boxes[boxes])
        pairs = assign(costs, 1 - self._settings.weak_overlap)
        return {tracks[row].number: int(boxes[column]) for row, column in pairs}

    def _follow(
        self, track: Track, plan: FramePlan, box: int, appearance: PersonAppearance | None
    ) -> None:
        track.box, track.score = plan.people.boxes[box], float(plan.people.scores[box])
        track.motion.correct(track.box)
        track.seen_s, track.missed = plan.time_s, False
        track.hits += 1
        self._confirm(track)
        if appearance is None:
            return
        track.described_s = plan.time_s
        track.described = appearance
        track.look = None if plan.crowded[box] else appearance
        relative_distances = (
            self._model.relative_distances([track.appearance], [appearance])[0, 0]
            if plan.crowded[box]
            else 0
        )
        if relative_distances <= self._settings.tolerance:
            track.appearance.add(appearance)

    def _goes_on(self, track: Track, width: int, height: int) -> bool:
        if not track.missed:
            return True
        left, top, right, bottom = track.motion.box
        gone = right <= 0 or bottom <= 0 or left >= width or top >= height
        out_of_sight_s = (self._time_s or 0.0) - track.seen_s
        return track.confirmed and not gone and 0 <= out_of_sight_s <= self._settings.keep_s

    def _begin(self, plan: FramePlan, box: int, appearance: PersonAppearance) -> None:
        place = plan.people.boxes[box]
        track = Track(
            number=next(self._numbers),
            motion=Motion(place),
            appearance=appearance,
            box=place,
            score=float(plan.people.scores[box]),
            seen_s=plan.time_s,
            described_s=plan.time_s,
        )
        self._confirm(track)
        self.tracks.append(track)

    def _confirm(self, track: Track) -> None:
        if not track.confirmed and track.hits >= self._settings.min_hits:
            track.confirmed = True
            self.num_tracks += 1

    @staticmethod
    def _boxes(tracks: list[Track]) -> FloatArray:
        """(T, 4): predicted boxes."""
        none = np.zeros((0, 4), np.float32)
        return np.concatenate([none, *(track.motion.box[None] for track in tracks)])
