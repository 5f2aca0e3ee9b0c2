"""One camera's people over time: boxes become tracks by motion and appearance.

Of our own making, because none that was looked at fits: ByteTrack of ``supervision`` and
``trackers`` (MIT, Apache) knows no appearance and brings SciPy, Matplotlib and a second OpenCV;
``norfair`` (BSD) holds NumPy below 2; ``motpy`` rests since 2021; BoxMOT is AGPL. What it does
is DeepSORT's and ByteTrack's idea (Wojke et al., ICIP 2017; Zhang et al., ECCV 2022): people
whose way is clear are followed by their boxes alone, and the network is asked for the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reid.types import BoolArray, FloatArray, IntArray

from ..people.boxes import People, overlaps
from .appearance import Appearance, AppearanceModel
from .assignment import assign
from .motion import GATE, Motion
from .track import Track


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """How boxes become tracks. All inferred, and checked with tests/benchmarks/bench_watch.py."""

    high_score: float = 0.5
    """From here on a box may begin a track; weaker ones may only carry one on."""
    min_hits: int = 3
    """Boxes in a row that make a track of a first one."""
    keep_s: float = 3.0
    """How long someone may be out of sight in the picture's middle and be the same track."""
    tolerance: float = 1.25
    """What looks may differ in units of the limit: motion is a second witness."""
    sure_overlap: float = 0.6
    """A box over a track's expected one by this much, with nobody else near, is its."""
    forgive_s: float = 0.5
    """Whoever was out of sight for longer must look the same, however well the place fits."""
    near_overlap: float = 0.1
    """From here on somebody is near."""
    refresh_s: float = 0.5
    """A person whose way is clear is described this often."""
    weak_overlap: float = 0.5
    """What a weak box must have in common with a track's expected one."""


USUAL = TrackSettings()


@dataclass(frozen=True, slots=True)
class FramePlan:
    """What a frame asks for. ``sure`` are pairs of a track and a box's number."""

    people: People
    time_s: float
    sure: list[tuple[Track, int]]
    crowded: BoolArray
    """(n,): whether another box is near, so that looks may be partly somebody else's."""
    wanted: list[int]
    """Numbers of the boxes whose looks are to be described."""


class Tracker:
    """Tracks of one camera. For each frame call ``plan``, describe what it wants, ``update``."""

    def __init__(self, model: AppearanceModel, settings: TrackSettings = USUAL) -> None:
        self.tracks: list[Track] = []
        self.num_tracks = 0
        """How many were confirmed so far."""
        self._model, self._settings = model, settings
        self._numbers = itertools.count(1)
        self._time_s: float | None = None

    def plan(self, people: People, time_s: float) -> FramePlan:
        """Expect the tracks at ``time_s``; find who is where beyond doubt, and whom to describe."""
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
        self, plan: FramePlan, appearance: Mapping[int, Appearance], width: int, height: int
    ) -> list[Track]:
        """Link the plan's boxes, of which ``looks`` has the described ones.

        Returns the confirmed tracks that were found in this frame of ``width`` x ``height``.
        """
        found = {track.number: box for track, box in plan.sure}
        found |= self._by_appearance(plan, appearance, found)
        found |= self._by_overlap(plan, found)
        for track in self.tracks:
            box = found.get(track.number)
            if box is None:
                track.missed = True
                continue
            self._follow(track, plan, box, appearance.get(box))
        self.tracks = [track for track in self.tracks if self._goes_on(track, width, height)]
        for box in sorted(appearance.keys() - set(found.values())):
            self._begin(plan, box, appearance[box])
        return [track for track in self.tracks if track.confirmed and not track.missed]

    def _by_appearance(
        self, plan: FramePlan, appearance: Mapping[int, Appearance], found: Mapping[int, int]
    ) -> dict[int, int]:
        """All others and the strong boxes, by motion and appearance: track number -> box.

        The cost of a pair is half of what its boxes do not have in common plus half of what its
        looks have of the tolerance, at most 1: without overlap the looks must agree, and a
        perfect one forgives twice the tolerance, as of somebody half hidden. It forgives
        nothing to a track that was out of sight for a while: that may be somebody else.
        """
        tracks = [track for track in self.tracks if track.number not in found]
        strong = plan.people.scores >= self._settings.high_score
        boxes = [int(box) for box in np.flatnonzero(strong) if box not in found.values()]
        if not (tracks and boxes):
            return {}
        places = plan.people.boxes[boxes]
        costs = np.asarray((1 - overlaps(self._boxes(tracks), places)) / 2, np.float32)
        allowed = np.array([track.motion.distances(places) for track in tracks]) <= GATE
        described = [column for column, box in enumerate(boxes) if box in appearance]
        relative_distances = np.ones_like(costs)
        relative_distances[:, described] = (
            self._model.relative_distances(
                [track.appearance for track in tracks],
                [appearance[boxes[column]] for column in described],
            )
            / self._settings.tolerance
        )
        costs += relative_distances / 2
        away_s = plan.time_s - np.array([track.seen_s for track in tracks])
        lost = away_s[:, None] > self._settings.forgive_s
        costs[~allowed | (lost & (relative_distances > 1))] = np.inf
        return {tracks[row].number: boxes[column] for row, column in assign(costs, 1.0)}

    def _by_overlap(self, plan: FramePlan, found: Mapping[int, int]) -> dict[int, int]:
        """Tracks that were found in the last frame, and the weak boxes: track number -> box."""
        tracks = [t for t in self.tracks if t.number not in found and not t.missed]
        boxes: IntArray = np.flatnonzero(plan.people.scores < self._settings.high_score)
        costs = 1 - overlaps(self._boxes(tracks), plan.people.boxes[boxes])
        pairs = assign(costs, 1 - self._settings.weak_overlap)
        return {tracks[row].number: int(boxes[column]) for row, column in pairs}

    def _follow(
        self, track: Track, plan: FramePlan, box: int, appearance: Appearance | None
    ) -> None:
        track.box, track.score = plan.people.boxes[box], float(plan.people.scores[box])
        track.motion.correct(track.box)
        track.seen_s, track.missed = plan.time_s, False
        track.hits += 1
        self._confirm(track)
        if appearance is None:
            return
        track.described_s = plan.time_s
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

    def _begin(self, plan: FramePlan, box: int, appearance: Appearance) -> None:
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
        """(T, 4): where they are expected."""
        none = np.zeros((0, 4), np.float32)
        return np.concatenate([none, *(track.motion.box[None] for track in tracks)])
