"""The annotated video: whole or not there, one picture for each round, all cameras on it."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.deploy.cameras.camera import Frame, News
from reid.deploy.watch import screen
from reid.deploy.watch.events import TrackedFrame
from reid.deploy.watch.motion import Motion
from reid.deploy.watch.screen import VideoSink, Wall, WindowSink, drawn
from reid.deploy.watch.track import Identity, Track
from reid.errors import ConfigError, OutputError
from tests.deploy.watch.conftest import appearance_of

BOX = np.array([30, 40, 60, 90], np.float32)


def seen(camera: str = "a", grey: int = 0, size: tuple[int, int] = (100, 160)) -> TrackedFrame:
    return TrackedFrame(Frame(camera, 0, 0.0, np.full((*size, 3), grey, np.uint8), 0.0), [])


def track(number: int | None) -> Track:
    identity = None if number is None else Identity(number)
    return Track(1, Motion(BOX), appearance_of(1, 0, 0), BOX, 0.9, 0, 0, 5, True, False, identity)


def frames_of(path: Path) -> list[np.ndarray]:  # type: ignore[type-arg]
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (found := capture.read())[0]:
        frames.append(found[1])
    return frames


def test_a_track_has_its_box_in_the_colour_of_its_identity() -> None:
    frame = seen().frame
    pictures = [drawn(TrackedFrame(frame, [track(number)])) for number in (None, 1, 2, 1)]
    corners = [tuple(picture[90, 45].tolist()) for picture in pictures]
    assert corners[0] == (160, 160, 160)
    assert len({*corners}) == 3
    assert corners[1] == corners[3]
    assert not frame.image.any()  # a copy is drawn on


def test_the_wall_shows_each_camera_s_newest_picture_in_its_place() -> None:
    wall = Wall(["a", "b", "c"])
    picture = wall.show([seen("a", 50), seen("b", 100)]).copy()
    assert picture.shape == (200, 320, 3)
    middles = [(60, 100), (60, 260), (160, 100), (160, 260)]
    assert [int(picture[place][0]) for place in middles] == [50, 100, 0, 0]
    # Another size is fitted in; the others stay as they were.
    picture = wall.show([seen("c", 150, (400, 160))])
    assert [int(picture[place][0]) for place in middles] == [50, 100, 0, 0]
    assert int(picture[160, 20][0]) == 150
    assert wall.show([]) is not None


def test_large_pictures_of_several_cameras_are_made_smaller_and_even() -> None:
    assert Wall(["a"]).show([seen("a", size=(101, 2001))]).shape == (100, 2000, 3)
    assert Wall(["a", "b"]).show([seen("a", size=(1080, 1920))]).shape == (540, 1920, 3)


def test_a_video_has_a_picture_for_each_round_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.mp4"
    with VideoSink(path, ["a"], fps=5, live=False) as sink:
        for grey in (20, 120, 220):
            sink.frames([seen("a", grey)])
        sink.news(News("a", "ended", ""))
    assert [path.name for path in path.parent.iterdir()] == ["out.mp4"]
    assert [frame[60, 100].mean() for frame in frames_of(path)] == pytest.approx(
        [20, 120, 220], abs=6
    )


def test_a_live_video_keeps_to_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 100.0, 100.05, 100.5])
    monkeypatch.setattr(screen.time, "monotonic", lambda: next(clock))
    with VideoSink(tmp_path / "out.mp4", ["a"], fps=10, live=True) as sink:
        for grey in (20, 120, 220):
            sink.frames([seen("a", grey)])
    # At once, not within the same tenth, and four tenths late: the newest stands for them.
    greys = [round(frame[60, 100].mean() / 100) for frame in frames_of(tmp_path / "out.mp4")]
    assert greys == [0, 2, 2, 2, 2, 2]


def test_a_night_without_any_camera_is_shortened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 100.0, 30_000.0, 30_000.5])
    monkeypatch.setattr(screen.time, "monotonic", lambda: next(clock))
    with VideoSink(tmp_path / "out.mp4", ["a"], fps=4, live=True) as sink:
        for grey in (20, 120, 220):
            sink.frames([seen("a", grey)])
    frames = len(frames_of(tmp_path / "out.mp4"))
    assert frames == 1 + screen.LONGEST_STILL_S * 4 + 1 + 2


def test_a_video_may_be_called_after_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoSink(Path("watch-10:30.mp4"), ["a"], fps=10, live=False) as sink:
        sink.frames([seen()])
    assert len(frames_of(tmp_path / "watch-10:30.mp4")) == 1


def test_without_a_frame_there_is_no_video(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", ["a"], fps=10, live=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_video_of_another_kind_or_in_no_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs an \.mp4 file"):
        VideoSink(tmp_path / "out.avi", ["a"], 10, False)
    with pytest.raises(ConfigError, match=r"UTF-8"):
        VideoSink(tmp_path / os.fsdecode(b"\xff.mp4"), ["a"], 10, False)
    (tmp_path / "file").touch()
    with (
        VideoSink(tmp_path / "file" / "out.mp4", ["a"], 10, False) as sink,
        pytest.raises(OutputError),
    ):
        sink.frames([seen()])


def test_a_window_without_a_screen_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="needs a screen"):
        WindowSink(["a"])


def test_a_window_with_a_headless_opencv_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_window(name: str, flags: int) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", no_window)
    with pytest.raises(ConfigError, match="install opencv-python in place of"):
        WindowSink(["a"])


def test_a_window_shows_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[int, ...]] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda name, flags: None)
    monkeypatch.setattr(cv2, "imshow", lambda name, picture: shown.append(picture.shape))
    monkeypatch.setattr(cv2, "waitKey", lambda wait: -1)
    monkeypatch.setattr(cv2, "destroyWindow", lambda name: shown.append(()))
    with WindowSink(["a"]) as window:
        window.frames([seen()])
        window.news(News("a", "ended", ""))
    assert shown == [(100, 160, 3), ()]
