"""The time of a frame: a recording's start is given, or its container's; a camera has its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid.deploy.cameras.camera import Frame
from reid.deploy.cameras.sources import CameraSource
from reid.deploy.watch.clock import RunClock, run_name, starts_from
from reid.errors import ConfigError, DataError
from tests.deploy.watch.conftest import frame_of

NOON = "2026-05-01T12:00:00Z"
NOON_S = 1_777_636_800.0


def source(name: str, kind: str, url: str = "") -> CameraSource:
    return CameraSource(name, kind, url, url, live=kind in ("device", "stream"))


def frame(camera: str, time_s: float) -> Frame:
    return Frame(camera, 3, time_s, frame_of({}), 0.0)


def test_a_recording_begins_when_it_is_said_to_and_a_camera_has_the_time_of_day() -> None:
    sources = [source("door", "folder"), source("yard", "folder"), source("gate", "stream")]
    clock = RunClock(starts_from([f"door={NOON}"], sources), "r")
    assert clock.unix_s(frame("door", 2.5)) == NOON_S + 2.5
    assert clock.unix_s(frame("yard", 2.5)) is None
    assert clock.unix_s(frame("gate", NOON_S)) == NOON_S
    assert [clock.seconds(frame("gate", NOON_S + n)) for n in (0, 4)] == [0.0, 4.0]
    assert clock.seconds(frame("door", 2.5)) == 2.5


def test_one_time_is_for_all_recordings_but_those_with_their_own() -> None:
    sources = [source("door", "folder"), source("yard", "video", "/no/file"), source("a", "device")]
    given = starts_from([NOON, "yard=2026-05-01T14:00:00+01:00"], sources)
    assert given == {"door": NOON_S, "yard": NOON_S + 3600}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["gate=" + NOON], ConfigError),
        (["door=yesterday"], DataError),
        ([NOON, NOON], ConfigError),
        (["door=" + NOON, "door=" + NOON], ConfigError),
    ],
)
def test_a_time_of_no_recording_or_that_is_no_time_is_refused(
    words: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        starts_from(words, [source("door", "folder"), source("gate", "stream")])


def test_a_time_without_any_recording_is_refused() -> None:
    with pytest.raises(ConfigError):
        starts_from([NOON], [source("gate", "stream")])


def test_a_video_without_a_given_time_has_that_of_its_container(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert starts_from([], [source("a", "video", str(tmp_path / "a.mp4"))]) == {"a": None}


def test_no_two_runs_have_one_name() -> None:
    assert len({run_name() for _ in range(100)}) == 100
