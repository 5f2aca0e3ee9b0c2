"""A few events for each track, from its entrance to its end, whatever ends it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from reid.deploy.cameras.camera import Frame, News
from reid.deploy.cameras.cameras import Cameras
from reid.deploy.cameras.readers import Decoded, Frames
from reid.deploy.cameras.sources import CameraSource
from reid.deploy.watch.clock import RunClock
from reid.deploy.watch.events import TrackedFrame, person_event
from reid.deploy.watch.track import Candidate, Track
from reid.deploy.watch.track_events import TrackEvents
from reid.deploy.watch.watching import Watcher, watch
from reid.errors import DataError
from tests.deploy.watch.conftest import BLUE, RED, ColourDetector, ColourMatcher, frame_of
from tests.deploy.watch.test_identities import BOX, track_of

CLOCK = RunClock({"door": 1000.0, "yard": None}, "run7")


class Taker:
    """Remembers what it gets."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.said: list[News] = []

    def tracks(self, events: Sequence[dict[str, Any]]) -> None:
        self.events += events

    def news(self, news: News) -> None:
        self.said.append(news)

    def states(self, camera: str = "door") -> list[str]:
        return [event["state"] for event in self.events if event["camera"] == camera]


def track(number: int = 1) -> Track:
    one = track_of(1, 0, 0)
    one.number = number
    return one


def frame(number: int, camera: str = "door") -> Frame:
    return Frame(camera, number, number / 10, frame_of({}), 0.0)


def feed(made: TrackEvents, number: int, *tracks: Track, ended: Sequence[Track] = ()) -> None:
    made.frames([TrackedFrame(frame(number), tracks, ended)])


def test_a_track_enters_is_seen_now_and_then_and_leaves_where_it_was_last_seen() -> None:
    taker, one = Taker(), track()
    made = TrackEvents(CLOCK, [taker], seen_every_s=2.0)
    for number in range(51):
        feed(made, number, one)
    feed(made, 80, ended=[one])
    assert taker.states() == ["entered", "seen", "seen", "left"]
    assert [event["seconds"] for event in taker.events] == [0.0, 2.0, 4.0, 5.0]
    left, top, right, bottom = (int(edge) for edge in BOX)
    assert taker.events[0] == {
        "event": "track",
        "state": "entered",
        "camera": "door",
        "time": 0.0,
        "unix_time": 1000.0,
        "frame": 0,
        "seconds": 0.0,
        "run": "run7",
        "track": 1,
        "identity": None,
        "box": [left, top, right - left, bottom - top],
        "score": 0.9,
        "distance": None,
        "candidate": None,
        "zones": [],
        "crop": None,
    }
    assert (made.entered, made.left) == (1, 1)


def test_a_recording_of_an_unknown_time_has_seconds_and_no_unix_time() -> None:
    taker = Taker()
    TrackEvents(CLOCK, [taker]).frames([TrackedFrame(frame(7, "yard"), [track()])])
    assert (taker.events[0]["seconds"], taker.events[0]["unix_time"]) == (0.7, None)


def test_a_name_is_given_changed_and_taken_back_and_no_event_says_who_someone_is() -> None:
    taker, one = Taker(), track()
    made = TrackEvents(CLOCK, [taker])
    names = ["", "anna", "anna", "bert", "", "bert"]
    for number, name in enumerate(names):
        one.candidate = Candidate(name, 0.5, None, 3) if name else None
        feed(made, number, one)
    assert taker.states() == ["entered", "named", "renamed", "renamed", "named"]
    proposed = [event["candidate"] and event["candidate"]["person"] for event in taker.events]
    assert proposed == [None, "anna", "bert", None, "bert"]
    assert not any("person" in event for event in taker.events)


def test_zones_and_the_best_picture_are_those_of_the_moment() -> None:
    taker, one, crops = Taker(), track(), [None, "a.jpg", "b.jpg"]
    made = TrackEvents(
        CLOCK,
        [taker],
        seen_every_s=0.1,
        zones=lambda frame, track: ["door step"] if frame.number else [],
        crop=lambda camera, number: crops[len(taker.events)],
    )
    feed(made, 0, one)
    feed(made, 1, one)
    made.finish()
    assert [event["zones"] for event in taker.events] == [[], ["door step"], ["door step"]]
    assert [event["crop"] for event in taker.events] == crops


@pytest.mark.parametrize("state", ["lost", "ended", "failed"])
def test_all_leave_a_camera_that_is_gone_and_those_of_other_cameras_stay(state: str) -> None:
    taker, first, second = Taker(), track(1), track(2)
    made = TrackEvents(CLOCK, [taker])
    made.frames([TrackedFrame(frame(0), [first]), TrackedFrame(frame(0, "yard"), [second])])
    made.news(News("door", state, ""))
    assert taker.states() == ["entered", "left"]
    assert taker.states("yard") == ["entered"]
    assert [news.state for news in taker.said] == [state]
    made.news(News("door", "back", ""))
    made.finish()
    made.finish()
    assert (made.entered, made.left) == (2, 2)


def run(scenes: dict[str, list[Any]], live: bool = False, **options: Any) -> tuple[Taker, Any, Any]:
    """A whole run; an error in a scene breaks the camera, which comes back with the rest."""
    places = dict.fromkeys(scenes, 0)
    handed: list[dict[str, Any]] = []

    class Handed:
        def frames(self, seen: Sequence[TrackedFrame]) -> None:
            for one in seen:
                handed.extend(person_event(one.frame, track, CLOCK) for track in one.tracks)

        def news(self, news: News) -> None:
            """Not needed."""

    def read(source: CameraSource) -> Frames:
        for number in range(places[source.name], len(scenes[source.name])):
            places[source.name] = number + 1
            item = scenes[source.name][number]
            if isinstance(item, Exception):
                raise item
            yield Decoded(item, number / 8)

    sources = [CameraSource(name, "video", name, name, live=live) for name in scenes]
    taker = Taker()
    made = TrackEvents(RunClock(dict.fromkeys(scenes, 1000.0)), [taker], seen_every_s=0.5)
    report = watch(
        Cameras(sources, read),
        Watcher(ColourDetector(), ColourMatcher()),
        [made, Handed()],
        **options,
    )
    made.finish()
    return taker, report, handed


@pytest.mark.parametrize(
    "options", [{}, {"max_rounds": 9}, {"stop": iter([False] * 8 + [True] * 99).__next__}]
)
def test_each_track_that_enters_leaves_once_however_the_run_ends(options: dict[str, Any]) -> None:
    walk = [frame_of({RED: 4 * n, BLUE: 100 - n}) for n in range(24)]
    scenes = {
        "door": [*walk, *[frame_of({})] * 30, *walk],
        "yard": walk,
        "gate": [*walk[:6], DataError("cut")],
    }
    taker, report, handed = run(scenes, **options)
    states = Counter((e["camera"], e["track"], e["state"]) for e in taker.events)
    entered, left = (
        {key[:2]: count for key, count in states.items() if key[2] == state}
        for state in ("entered", "left")
    )
    assert entered == left
    assert set(entered.values()) == {1}
    assert len(entered) == report.tracks
    assert report.people == len(handed)
    people = {(one["camera"], one["track"], one["frame"]) for one in handed}
    assert all((e["camera"], e["track"], e["frame"]) in people for e in taker.events)


def test_the_events_of_a_track_are_in_the_order_of_its_life() -> None:
    walk = [frame_of({RED: 4 * n}) for n in range(24)]
    taker, _, _ = run({"door": walk})
    states = taker.states()
    assert states[0] == "entered"
    assert states[-1] == "left"
    assert set(states[1:-1]) == {"seen"}
    times = [event["time"] for event in taker.events]
    assert times == sorted(times)
    assert taker.events[-1]["identity"] == 1
