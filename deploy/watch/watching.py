"""The main loop: frames of all cameras -> people -> features -> tracks -> identities -> events."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reid.errors import DataError
from reid.matching import Matcher
from reid.model_file.thresholds import Limit
from reid.printing import printable
from reid.types import FloatArray, Image

from ..cameras.camera import GONE, Counts, Frame
from ..cameras.cameras import Cameras
from ..gallery import GalleryStore
from ..gallery.limits import gallery_limit
from ..people.boxes import MIN_HEIGHT, People, tidy
from ..people.detector import PeopleDetector
from .appearance import AppearanceModel, PersonAppearance
from .events import Sink, TrackedFrame
from .identities import Identities
from .naming import NAMED, USUAL_NAMING, Namer, NamingSettings
from .tracker import USUAL, CameraTracker, TrackSettings

LATENCIES_KEPT = 100_000
"""Newest frames whose latencies are kept for the percentiles: a camera runs for months."""


class Watcher:
    """Tracks people through rounds of frames, over all cameras.

    ``limit`` is the largest distance of one person. By default it is the model's measured one, for
    pairs to follow people, for a search of ``gallery`` to name them (see ``gallery.limits``).
    ``limits`` says which are used, and where they come from. People under ``min_height`` pixels are
    ignored.
    """

    def __init__(
        self,
        detector: PeopleDetector,
        matcher: Matcher[Any],
        *,
        settings: TrackSettings = USUAL,
        limit: float | None = None,
        gallery: GalleryStore | None = None,
        naming: NamingSettings = USUAL_NAMING,
        min_height: int = MIN_HEIGHT,
    ) -> None:
        self.described = 0
        self._detector, self._settings, self._min_height = detector, settings, min_height
        self._model = AppearanceModel(matcher, limit)
        self.identities = Identities(self._model)
        self.limits: dict[str, Limit] = {"people are followed up to": self._model.pairs}
        self._namer: Namer | None = None
        if gallery is not None:
            measured = matcher.manifest.thresholds
            names = gallery_limit(measured, self._model.usual, gallery.count(NAMED), limit)
            self.limits["people are named up to"] = names
            self._namer = Namer(self._model, gallery, names.distance, naming)
        self.trackers: dict[str, CameraTracker] = {}

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
            if self._namer is not None:
                self._namer.name(tracks)
            seen.append(TrackedFrame(frame, tracks, tracker.ended))
        return seen

    def end(self, camera: str) -> None:
        """End a camera's tracks: it is lost, or its file is over. Later ones have new numbers."""
        if camera in self.trackers:
            self.trackers[camera].end()

    def _describe(
        self, frames: Sequence[Frame], people: Sequence[People], wanted: Sequence[Sequence[int]]
    ) -> list[dict[int, PersonAppearance]]:
        """Appearances of the wanted boxes of all cameras, with one call of the model."""
        places = [(index, box) for index, boxes in enumerate(wanted) for box in boxes]
        crops = [cut_out(frames[index].image, people[index].boxes[box]) for index, box in places]
        scores = [float(people[index].scores[box]) for index, box in places]
        found: list[dict[int, PersonAppearance]] = [{} for _ in frames]
        for (index, box), appearance in zip(
            places, self._model.describe(crops, scores), strict=True
        ):
            if appearance is not None:
                found[index][box] = appearance
        self.described += len(crops)
        return found

    def _tracker(self, camera: str) -> CameraTracker:
        if camera not in self.trackers:
            self.trackers[camera] = CameraTracker(self._model, self._settings)
        return self.trackers[camera]


@dataclass(frozen=True, slots=True)
class WatchReport:
    """Counts and speed of a run.

    ``frames_per_s`` is for all cameras together, from the first frame. Latency is from a frame's
    arrival (live sources) or hand-over (files) until its events are written; None without frames.
    ``people`` counts boxes with a track, ``described`` the crops that the network ran on.
    """

    rounds: int
    frames: int
    seconds: float
    frames_per_s: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    people: int
    described: int
    tracks: int
    identities: int
    cameras: dict[str, Counts]
    interrupted: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the fields' order."""
        return dataclasses.asdict(self)

    def to_text(self) -> str:
        """The lines for the terminal."""
        lines = [
            f"{self.frames} frames in {self.seconds:.1f} s: {self.frames_per_s:.1f} frames/s; "
            f"latency p50 {self.latency_p50_ms or 0:.0f} ms, p99 {self.latency_p99_ms or 0:.0f} ms",
            f"{self.people} boxes of people, features of {self.described} of them; {self.tracks} "
            f"tracks, {self.identities} identities",
        ]
        for name, counts in self.cameras.items():
            lines.append(
                f"{printable(name)}: {counts.frames} frames, {counts.dropped} dropped for newer "
                f"ones, {counts.lost} undecodable, connection lost {counts.breaks} times"
            )
        return "\n".join(lines)


def watch(
    cameras: Cameras,
    watcher: Watcher,
    sinks: Sequence[Sink] = (),
    *,
    max_rounds: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> WatchReport:
    """Watch until all sources end, for ``max_rounds`` (0: no limit), or until ``stop()`` is true.

    If one source fails, the sinks get the news and the others continue. Raises DataError if all
    fail before the first frame, and what the detector, the matcher, the gallery or a sink raises.
    """
    latencies_s: deque[float] = deque(maxlen=LATENCIES_KEPT)
    rounds = frames = people = 0
    began_s = ended_s = time.monotonic()
    failures: list[str] = []
    with cameras:
        for found in cameras.rounds():
            if found:
                began_s = began_s if rounds else time.monotonic()
                seen = watcher.look_at(found)
                for sink in sinks:
                    sink.frames(seen)
                ended_s = time.monotonic()
                latencies_s += [ended_s - frame.ready_s for frame in found]
                rounds, frames = rounds + 1, frames + len(found)
                people += sum(len(one.tracks) for one in seen)
            for news in cameras.news():
                if news.state in GONE:
                    watcher.end(news.camera)
                failures += [news.words] if news.state == "failed" else []
                for sink in sinks:
                    sink.news(news)
            if rounds == max_rounds > 0 or stop():
                break
    if len(failures) == len(cameras.counts) and not frames:
        raise DataError("; ".join(failures))
    p50_s, p99_s = np.percentile(latencies_s, (50, 99)) if latencies_s else (None, None)
    return WatchReport(
        rounds=rounds,
        frames=frames,
        seconds=ended_s - began_s,
        frames_per_s=frames / (ended_s - began_s) if frames else 0.0,
        latency_p50_ms=None if p50_s is None else 1000 * float(p50_s),
        latency_p99_ms=None if p99_s is None else 1000 * float(p99_s),
        people=people,
        described=watcher.described,
        tracks=sum(tracker.num_tracks for tracker in watcher.trackers.values()),
        identities=watcher.identities.num_given,
        cameras=cameras.counts,
        interrupted=stop(),
    )


def cut_out(image: Image, box: FloatArray) -> Image:
    """The part of a frame in a box inside it, rounded outwards."""
    left, top = (int(np.floor(edge)) for edge in box[:2])
    right, bottom = (int(np.ceil(edge)) for edge in box[2:])
    return image[top:bottom, left:right]
