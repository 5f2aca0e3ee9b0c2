"""The story on frames of coloured people, in one and in two cameras."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from reid.deploy.cameras.camera import Frame, News
from reid.deploy.cameras.cameras import Cameras
from reid.deploy.cameras.readers import Decoded, Frames, Lost
from reid.deploy.cameras.sources import CameraSource
from reid.deploy.people.boxes import People
from reid.deploy.watch.clock import RunClock
from reid.deploy.watch.events import TrackedFrame, person_event
from reid.deploy.watch.watching import Watcher, WatchReport, cut_out, watch
from reid.errors import DataError
from reid.types import Image
from tests.deploy.watch.conftest import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    ColourDetector,
    ColourMatcher,
    frame_of,
)

Scene = Sequence[Image | Exception | int]
"""Frames of one camera; a number is of lost ones, an error is raised where it stands."""


class Notebook:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.people: list[dict[str, Any]] = []
        self.said: list[News] = []

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        self.people += [
            person_event(one.frame, track, RunClock()) for one in seen for track in one.tracks
        ]

    def news(self, news: News) -> None:
        self.said.append(news)

    def of(self, camera: str, key: str) -> list[Any]:
        return [event[key] for event in self.people if event["camera"] == camera]


def look(
    scenes: Mapping[str, Scene], matcher: ColourMatcher | None = None, **options: Any
) -> tuple[WatchReport, Notebook, Watcher]:
    def read(source: CameraSource) -> Frames:
        for number, item in enumerate(scenes[source.name]):
            if isinstance(item, Exception):
                raise item
            yield Lost(item) if isinstance(item, int) else Decoded(item, number / 8)

    sources = [CameraSource(name, "video", name, name, live=False) for name in scenes]
    notebook = Notebook()
    watcher = Watcher(ColourDetector(), matcher or ColourMatcher())
    report = watch(Cameras(sources, read), watcher, [notebook], **options)
    return report, notebook, watcher


def walk(*people: tuple[tuple[int, int, int], Callable[[int], int]]) -> list[Image]:
    """Twelve frames of people, colour and left edge by the frame's number."""
    return [frame_of({colour: left(n) for colour, left in people}) for n in range(12)]


def test_people_are_tracked_and_known_again_in_the_other_camera() -> None:
    scenes = {
        "door": walk((RED, lambda n: 4 * n), (BLUE, lambda n: 100 - n)),
        "yard": walk((GREEN, lambda n: 30), (BLUE, lambda n: 5 + 5 * n)),
    }
    report, notebook, _ = look(scenes)
    door, yard = (notebook.of(camera, "identity") for camera in ("door", "yard"))
    assert set(door[-2:]) == {1, 2}
    assert set(yard[-2:]) == {3, next(iter(set(door[-2:]) & set(yard[-2:])))}
    blue = [event["identity"] for event in notebook.people if event["box"][0] in (89, 60)]
    assert blue[0] == blue[1]  # the last frames: at 100 - 11 by the door, at 5 + 55 in the yard
    assert (report.frames, report.rounds, report.tracks, report.identities) == (24, 12, 4, 3)
    assert report.people == len(notebook.people)


def test_the_people_of_all_cameras_are_described_by_one_call() -> None:
    matcher = ColourMatcher()
    scenes = {"a": walk((RED, lambda n: n)), "b": walk((BLUE, lambda n: n), (GREEN, lambda n: 90))}
    report, _, watcher = look(scenes, matcher)
    assert matcher.batches[:2] == [1, 3]  # the grey one, and the first round's three people
    assert sum(matcher.batches[1:]) == report.described == watcher.described
    assert report.described < report.people


def test_a_person_at_the_border_is_cut_out_where_it_is_visible() -> None:
    _, notebook, _ = look({"a": [frame_of({RED: 145 + n // 4}) for n in range(12)]})
    left, top, width, height = notebook.people[-1]["box"]
    assert (left + width, top, height) == (160, 20, 50)
    assert width == 13


def test_crops_are_what_lies_in_the_box() -> None:
    image = np.arange(20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)
    crop = cut_out(image, np.array([3.6, 2.2, 9.1, 20.0], np.float32))
    assert np.array_equal(crop, image[2:20, 3:10])


def test_what_a_detector_says_beyond_reason_reaches_no_network() -> None:
    class Odd(ColourDetector):
        def detect(self, frames: Sequence[Image]) -> list[People]:
            boxes = [[5, 5, 5, 60], [np.nan] * 4, [-50, -50, -10, -10], [10, 10, 30, 60]]
            return [
                People(np.array(boxes, np.float32), np.full(4, 0.9, np.float32)) for _ in frames
            ]

    matcher = ColourMatcher()
    watcher = Watcher(Odd(), matcher)
    watcher.look_at([Frame("a", 0, 0.0, frame_of({WHITE: 10}), 0.0)])
    assert matcher.batches == [1, 1]


def test_frames_without_people_are_frames() -> None:
    report, notebook, _ = look({"a": [frame_of({})] * 3})
    assert (report.frames, report.people, report.identities) == (3, 0, 0)
    assert notebook.people == []


def test_a_source_that_fails_is_news_and_the_others_go_on() -> None:
    scenes = {"a": [frame_of({}), DataError("a broke")], "b": walk((RED, lambda n: n))}
    report, notebook, _ = look(scenes)
    assert report.frames == 13
    assert {(news.camera, news.state) for news in notebook.said} == {
        ("a", "failed"),
        ("b", "ended"),
    }
    assert len(notebook.of("b", "frame")) == 10


def test_a_source_that_fails_beside_one_without_a_frame_is_news() -> None:
    report, notebook, _ = look({"a": [DataError("a is gone")], "b": [3]})
    assert report.frames == 0
    assert {(news.camera, news.state) for news in notebook.said} == {
        ("a", "failed"),
        ("b", "ended"),
    }


def test_what_happens_to_a_source_is_reported_after_its_frames() -> None:
    class Diary(Notebook):
        """Remembers the order."""

        def __init__(self) -> None:
            super().__init__()
            self.order: list[str] = []

        def frames(self, seen: Sequence[TrackedFrame]) -> None:
            self.order += ["frame"] * len(seen)

        def news(self, news: News) -> None:
            self.order.append(news.state)

    diary = Diary()

    def read(source: CameraSource) -> Frames:
        yield from [Decoded(frame_of({}), 0.0)] * 3

    source = CameraSource("a", "video", "a", "a", live=False)
    watch(Cameras([source], read), Watcher(ColourDetector(), ColourMatcher()), [diary])
    assert diary.order == ["frame"] * 3 + ["ended"]


def test_if_every_source_fails_at_once_that_is_the_error() -> None:
    with pytest.raises(DataError, match=r"^a is gone; b is gone$|^b is gone; a is gone$"):
        look({"a": [DataError("a is gone")], "b": [DataError("b is gone")]})


def test_watching_stops_when_asked_and_after_so_many_frames() -> None:
    scenes = {"a": [frame_of({})] * 100}
    assert look(scenes, max_rounds=7)[0].rounds == 7
    calls = iter(range(1000))
    report, _, _ = look(scenes, stop=lambda: next(calls) >= 3)
    assert report.interrupted
    assert report.frames <= 4


def test_the_report_counts_what_became_of_the_frames() -> None:
    report, _, _ = look({"a": [frame_of({}), 3, frame_of({}), 4]})
    counts = report.cameras["a"]
    assert (counts.frames, counts.lost, counts.dropped, counts.breaks) == (2, 7, 0, 0)
    body = report.to_json()
    assert body["cameras"]["a"] == {"frames": 2, "dropped": 0, "lost": 7, "breaks": 0}
    assert 0 < body["latency_p50_ms"] <= body["latency_p99_ms"] < 60_000
    assert body["frames_per_s"] == pytest.approx(2 / body["seconds"])
    shown = "a: 2 frames, 0 dropped for newer ones, 7 undecodable, connection lost 0 times"
    assert shown in report.to_text()


def test_a_report_of_nothing_has_no_latency() -> None:
    report, _, _ = look({"a": [5]})
    assert (report.frames, report.frames_per_s, report.latency_p50_ms) == (0, 0.0, None)
    assert "0 frames" in report.to_text()
