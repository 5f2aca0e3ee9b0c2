"""Threads, rounds and reconnecting, on sources that are made of lists."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from reid.deploy.cameras import camera as camera_module
from reid.deploy.cameras.camera import (
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    LONGEST_PAUSE_S,
    CameraThread,
    Frame,
    News,
    backoff_delays,
)
from reid.deploy.cameras.cameras import Cameras
from reid.deploy.cameras.readers import Decoded, Frames, Lost
from reid.deploy.cameras.sources import CameraSource
from reid.errors import DataError

IMAGE = np.zeros((4, 4, 3), np.uint8)


def decoded(count: int) -> list[Decoded | Lost]:
    return [Decoded(IMAGE, number / 10) for number in range(count)]


def file(name: str) -> CameraSource:
    return CameraSource(name, "video", name, name, live=False)


def stream(name: str) -> CameraSource:
    return CameraSource(name, "stream", name, name, live=True)


def reading(
    items: dict[str, Sequence[Decoded | Lost | Exception]],
) -> Callable[[CameraSource], Frames]:
    """A reader of lists; an error in a list is raised where it stands."""

    def read(source: CameraSource) -> Generator[Decoded | Lost, None, None]:
        for item in items[source.name]:
            if isinstance(item, Exception):
                raise item
            yield item

    return read


def watch(cameras: Cameras) -> tuple[list[list[Frame]], list[News]]:
    """All rounds that are not empty, and all news."""
    rounds, news = [], []
    with cameras:
        for frames in cameras.rounds():
            news += list(cameras.news())
            rounds += [frames] if frames else []
    return rounds, news


def test_files_are_read_in_step_and_no_frame_is_left_out() -> None:
    items = {"a": decoded(40), "b": decoded(25)}
    rounds, news = watch(Cameras([file("a"), file("b")], reading(items)))
    assert [[(f.camera, f.number) for f in frames] for frames in rounds] == [
        [("a", n), ("b", n)] if n < 25 else [("a", n)] for n in range(40)
    ]
    assert {(one.camera, one.state) for one in news} == {("a", "ended"), ("b", "ended")}


def test_lost_frames_are_counted_and_keep_their_numbers() -> None:
    one, two, three = decoded(3)
    cameras = Cameras([file("a")], reading({"a": [one, Lost(2), two, Lost(1), three, Lost(4)]}))
    rounds, _ = watch(cameras)
    assert [frame.number for (frame,) in rounds] == [0, 3, 5]
    counts = cameras.counts["a"]
    assert (counts.frames, counts.lost, counts.dropped) == (3, 7, 0)


@pytest.mark.parametrize("error", [DataError("a cannot be opened"), cv2.error("bad")])
def test_a_file_that_fails_is_named_and_the_others_go_on(error: Exception) -> None:
    rounds, news = watch(Cameras([file("a"), file("b")], reading({"a": [error], "b": decoded(5)})))
    assert [frame.camera for (frame,) in rounds] == ["b"] * 5
    assert [(one.camera, one.state) for one in news if one.state == "failed"] == [("a", "failed")]


def test_an_unexpected_error_in_a_thread_is_raised_by_the_rounds() -> None:
    with pytest.raises(ZeroDivisionError):
        watch(Cameras([file("a"), stream("b")], reading({"a": [ZeroDivisionError()], "b": []})))


def test_an_unexpected_error_is_raised_though_all_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = CameraThread.run

    def slowly(camera: CameraThread) -> None:
        try:
            run(camera)
        finally:
            threading.Event().wait(0.1)  # the camera has ended, and its thread not yet

    monkeypatch.setattr(CameraThread, "run", slowly)
    with pytest.raises(ZeroDivisionError):
        watch(Cameras([file("a")], reading({"a": [ZeroDivisionError()]})))


def test_files_stay_in_step_beside_a_live_source() -> None:
    waiting, hold = threading.Event(), threading.Event()

    def read(source: CameraSource) -> Frames:
        if source.name == "slow":
            hold.wait(10)
        if source.name == "live":
            waiting.wait(10)
        for item in decoded(3):
            yield item
            if source.name == "fast":
                waiting.set()  # the first frame is there to be taken

    rounds = []
    with Cameras([file("fast"), file("slow"), stream("live")], read) as cameras:
        for frames in cameras.rounds():
            rounds.append([(f.camera, f.number) for f in frames if f.camera != "live"])
            if frames:
                hold.set()
            if ("slow", 2) in rounds[-1]:
                break
    assert [one for one in rounds if one] == [[("fast", n), ("slow", n)] for n in range(3)]


def test_the_end_of_a_file_is_reported_after_its_last_frame_was_taken() -> None:
    arrived, news = threading.Condition(), deque[News]()
    camera = CameraThread(file("a"), arrived, news, reading({"a": decoded(1)}))
    thread = threading.Thread(target=camera.run)
    thread.start()
    thread.join(0.1)
    assert not news
    with arrived:
        arrived.wait_for(lambda: camera.waiting, 10)
        camera.take()
        arrived.notify_all()
    thread.join(10)
    assert [one.state for one in news] == ["ended"]


def test_a_live_source_keeps_its_newest_frame_and_counts_the_others() -> None:
    arrived = threading.Condition()
    camera = CameraThread(
        stream("a"), arrived, deque(), reading({"a": decoded(10)}), wait=lambda seconds: True
    )
    camera.run()  # no frame is taken meanwhile; the first wait stops it
    frame = camera.take()
    assert frame is not None
    assert frame.number == 9
    assert (camera.counts.frames, camera.counts.dropped) == (1, 9)
    assert camera.finished


def test_the_numbers_of_a_stream_go_on_after_it_broke() -> None:
    waits: list[float] = []
    news: deque[News] = deque()
    connections = iter([decoded(3), [DataError("off")], [DataError("off")], decoded(2), decoded(2)])

    def read(source: CameraSource) -> Frames:
        return reading({"a": next(connections)})(source)

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 5

    camera = CameraThread(stream("a"), threading.Condition(), news, read, wait)
    camera.run()
    frame = camera.take()
    assert frame is not None
    assert frame.number == 3 + 2 + 2 - 1
    assert [one.state for one in news] == ["lost", "back", "lost", "back", "lost"]
    assert camera.counts.breaks == 3
    # Three attempts in vain, each later than the one before; the first frame begins anew.
    limits = [FIRST_DELAY_S * factor for factor in (1, 2, 4, 1, 1)]
    assert all(limit / 2 <= found <= limit for limit, found in zip(limits, waits, strict=True))


def test_a_stream_that_never_opens_is_named_once_however_often_it_is_tried() -> None:
    news: deque[News] = deque()
    attempts = itertools.count(1)
    camera = CameraThread(
        stream("a"),
        threading.Condition(),
        news,
        reading({"a": [DataError("a (rtsp://cam) cannot be opened")]}),
        wait=lambda seconds: next(attempts) == 20,
    )
    camera.run()
    assert [(one.state, one.words) for one in news] == [
        ("lost", "a (rtsp://cam) cannot be opened; reconnecting")
    ]


def test_delays_double_to_the_longest_and_differ_between_cameras() -> None:
    delays = list(itertools.islice(backoff_delays("a"), 12))
    limits = [min(FIRST_DELAY_S * 2**n, LONGEST_DELAY_S) for n in range(12)]
    assert all(limit / 2 <= delay <= limit for limit, delay in zip(limits, delays, strict=True))
    assert delays == list(itertools.islice(backoff_delays("a"), 12))
    assert delays != list(itertools.islice(backoff_delays("b"), 12))


def test_a_file_that_is_played_live_waits_until_its_frames_are_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(camera_module, "time", SimpleNamespace(monotonic=lambda: 100.0))
    camera = CameraThread(
        CameraSource("a", "video", "a", "a", live=True),
        threading.Condition(),
        deque(),
        reading({"a": decoded(4)}),
        wait=lambda seconds: bool(waits.append(seconds)),
    )
    camera.run()
    # The clock stands still meanwhile: frames of 0.1 s are ever further ahead.
    assert waits == pytest.approx([0.1, 0.2, 0.3])


def test_a_pause_of_an_hour_in_a_live_file_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(camera_module, "time", SimpleNamespace(monotonic=lambda: 100.0))
    times_s = (0.0, 3600.0, 3600.1)
    camera = CameraThread(
        CameraSource("a", "video", "a", "a", live=True),
        threading.Condition(),
        deque(),
        reading({"a": [Decoded(IMAGE, time_s) for time_s in times_s]}),
        wait=lambda seconds: bool(waits.append(seconds)),
    )
    camera.run()
    assert waits == pytest.approx([LONGEST_PAUSE_S, LONGEST_PAUSE_S])
    assert camera.counts.dropped == 2


def test_a_live_source_waits_for_no_file() -> None:
    hold = threading.Event()

    def read(source: CameraSource) -> Frames:
        if source.name == "slow":
            hold.wait(10)
        yield from decoded(3)

    with Cameras([file("slow"), stream("a")], read) as cameras:
        first = next(frames for frames in cameras.rounds() if frames)
        hold.set()
    assert [frame.camera for frame in first] == ["a"]


def test_stopping_does_not_wait_for_frames_that_are_not_taken() -> None:
    with Cameras([file("a")], reading({"a": decoded(1000)})) as cameras:
        next(cameras.rounds())
    assert cameras.counts["a"].frames <= 1
