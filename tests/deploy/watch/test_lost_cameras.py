"""Events by track when cameras are lost and come back, and clocks are put back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from reid.deploy.cameras import camera as camera_module
from reid.deploy.cameras.camera import Frame, News
from reid.deploy.cameras.cameras import Cameras
from reid.deploy.cameras.readers import Decoded, Frames
from reid.deploy.cameras.sources import CameraSource
from reid.deploy.watch.clock import RunClock
from reid.deploy.watch.events import TrackedFrame
from reid.deploy.watch.motion import Motion
from reid.deploy.watch.track import Identity, Track
from reid.deploy.watch.track_events import TrackEvents
from reid.deploy.watch.watching import Watcher, watch
from reid.errors import DataError
from tests.deploy.watch.conftest import (
    BLUE,
    GREEN,
    RED,
    ColourDetector,
    ColourMatcher,
    appearance_of,
    frame_of,
)

IMAGE = np.zeros((50, 50, 3), np.uint8)
BOX = np.array([9.6, 20.2, 30.4, 44.9], np.float32)


class Diary:
    """A sink of events by track that remembers."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.said: list[News] = []

    def tracks(self, events: Sequence[dict[str, Any]]) -> None:
        self.events += events

    def news(self, news: News) -> None:
        self.said.append(news)

    def states(self, track: int = 1) -> list[tuple[str, float]]:
        return [(one["state"], one["time"]) for one in self.events if one["track"] == track]


def track(number: int = 1) -> Track:
    return Track(number, Motion(BOX), appearance_of(1, 0, 0), BOX, 0.9, 0.0, 0.0)


def at(time_s: float, *tracks: Track, ended: Sequence[Track] = (), camera: str = "door") -> Any:
    return [TrackedFrame(Frame(camera, round(8 * time_s), time_s, IMAGE, 0.0), tracks, ended)]


def events_of(diary: Diary, **options: Any) -> TrackEvents:
    return TrackEvents(RunClock({"door": 1e9}, "run"), [diary], **options)


def test_a_new_identity_is_seen_at_once() -> None:
    diary, one = Diary(), track()
    events = events_of(diary)
    events.frames(at(0.0, one))
    one.identity = Identity(5)
    events.frames(at(0.125, one))
    events.frames(at(0.25, one))
    assert diary.states() == [("entered", 0.0), ("seen", 0.125)]
    assert [event["identity"] for event in diary.events] == [None, 5]


def test_everyone_leaves_a_lost_camera_before_its_loss_is_news() -> None:
    diary, order = Diary(), []
    diary.news = lambda news: order.append((news.state, len(diary.events)))  # type: ignore[method-assign]
    events = events_of(diary)
    events.frames(at(0.0, track(1), track(2)))
    events.frames(at(0.0, track(1), camera="yard"))
    events.news(News("door", "lost", "no more frames"))
    assert [one["track"] for one in diary.events if one["state"] == "left"] == [1, 2]
    assert order == [("lost", 5)]
    assert events.left == 2
    events.news(News("door", "back", ""))
    events.finish()
    assert (events.entered, events.left) == (3, 3)
    events.finish()
    assert events.left == 3


def test_a_clock_that_is_put_back_does_not_silence_a_track() -> None:
    diary, one = Diary(), track()
    events = events_of(diary, seen_every_s=2.0)
    for time_s in (1000.0, 1001.0, 10.0, 11.0, 12.0):
        events.frames(at(time_s, one))
    assert diary.states() == [("entered", 1000.0), ("seen", 10.0), ("seen", 12.0)]


class Streams:
    """Cameras that are lost after each scene, and come back; a frame comes when the last is used.

    As a sink it counts frames.
    """

    def __init__(self, scenes: dict[str, list[list[Any]]]) -> None:
        self._scenes, self._calls = scenes, Counter[str]()
        self._used = {name: threading.Semaphore(0) for name in scenes}
        self.frames_of: Counter[str] = Counter()
        self.over: set[str] = set()

    def read(self, source: CameraSource) -> Frames:
        call = self._calls[source.name]
        self._calls[source.name] += 1
        if call >= len(self._scenes[source.name]):
            self.over.add(source.name)
            raise DataError(f"{source.name} is gone")
        for n, image in enumerate(self._scenes[source.name][call]):
            yield Decoded(image, 1e9 + 100 * call + n / 8)
            assert self._used[source.name].acquire(timeout=60)

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        for one in seen:
            self.frames_of[one.frame.camera] += 1
            self._used[one.frame.camera].release()

    def news(self, news: News) -> None:
        """Nothing to do."""


def test_all_is_accounted_for_when_cameras_are_lost_and_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(camera_module, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(camera_module, "LONGEST_DELAY_S", 0.001)
    one = [frame_of({RED: 4 * n}) for n in range(12)]
    two = [frame_of({RED: 60, BLUE: 100 - n}) for n in range(12)]
    leaves = [*one, *([frame_of({})] * 40)]
    scenes = {
        "door": [two, one, [frame_of({GREEN: 50})] * 2, two, leaves],
        "yard": [one, two, [], one],
        "hall": [[frame_of({})] * 3, two],
    }
    streams, diary = Streams(scenes), Diary()
    events = TrackEvents(RunClock(), [diary])
    sources = [CameraSource(name, "stream", name, name, live=True) for name in scenes]
    watcher = Watcher(ColourDetector(), ColourMatcher())
    report = watch(
        Cameras(sources, streams.read),
        watcher,
        [events, streams],
        stop=lambda: len(streams.over) == len(scenes),
    )
    events.finish()
    expected = {name: sum(map(len, some)) for name, some in scenes.items()}
    assert dict(streams.frames_of) == expected
    assert {name: one.frames for name, one in report.cameras.items()} == expected
    assert [one.dropped for one in report.cameras.values()] == [0, 0, 0]
    keys = [(event["camera"], event["track"]) for event in diary.events]
    entered, left = (
        Counter(key for key, one in zip(keys, diary.events, strict=True) if one["state"] == state)
        for state in ("entered", "left")
    )
    assert entered == left  # every track once: a camera that is back begins new ones
    assert set(entered.values()) == {1}
    assert len(entered) == report.tracks == events.entered == events.left
    assert Counter(camera for camera, _ in entered) == {"door": 6, "yard": 4, "hall": 2}
    assert all(tracker.tracks == [] for tracker in watcher.trackers.values())
