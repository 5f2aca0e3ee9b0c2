"""Unix times of frames: a live camera's own, a recording's from its start."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from reid.deploy.cameras.camera import Frame
from reid.deploy.cameras.containers import created_s
from reid.deploy.cameras.sources import CameraSource
from reid.deploy.watch.clock import RunClock, run_name, starts_from
from reid.errors import ConfigError, DataError

NOON_S = 1777636800.0
"""2026-05-01T12:00:00Z."""


def frame(camera: str, time_s: float) -> Frame:
    return Frame(camera, 0, time_s, np.zeros((2, 2, 3), np.uint8), 0.0)


def source(name: str, kind: str = "video", url: str = "/absent.avi") -> CameraSource:
    return CameraSource(name, kind, url, url, live=kind in ("device", "stream"))


def test_a_recording_has_its_start_and_a_stream_the_time_of_day() -> None:
    clock = RunClock({"door": NOON_S, "yard": None})
    assert clock.unix_s(frame("door", 12.5)) == NOON_S + 12.5
    assert clock.seconds(frame("door", 12.5)) == 12.5
    assert clock.unix_s(frame("yard", 3.0)) is None
    assert [clock.unix_s(frame("hall", NOON_S + n)) for n in (0, 7)] == [NOON_S, NOON_S + 7]
    assert [clock.seconds(frame("hall", NOON_S + n)) for n in (0, 7)] == [0.0, 7.0]


def test_runs_have_names_of_their_own() -> None:
    assert len({run_name() for _ in range(50)}) == 50
    assert RunClock().run != RunClock().run


def test_starts_are_given_for_all_recordings_or_for_one() -> None:
    sources = [source("door"), source("yard"), source("hall", "stream")]
    assert starts_from([], sources) == {"door": None, "yard": None}
    words = ["2026-05-01T12:00:00Z", "yard=2026-05-01T14:00+01:00"]
    assert starts_from(words, sources) == {"door": NOON_S, "yard": NOON_S + 3600}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["hall=2026-05-01"], "hall"),
        (["2026-05-01", "2026-05-02"], "twice"),
        (["door=2026-05-01", "door=2026-05-01"], "door"),
    ],
)
def test_a_start_that_fits_no_recording_is_refused(words: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        starts_from(words, [source("door"), source("hall", "stream")])
    with pytest.raises(ConfigError, match="--start-time"):
        starts_from(words, [source("hall", "stream")])


def test_a_start_that_is_no_time_is_refused() -> None:
    with pytest.raises(DataError, match="20260501"):
        starts_from(["20260501"], [source("door")])


def mp4(path: Path, created: int, version: int = 0) -> Path:
    """An MP4's first box and its movie header."""
    form = ">IQQIQ" if version else ">IIIII"
    body = struct.pack(form, version << 24, created, created, 1000, 5000)
    header = struct.pack(">I4s", 8 + len(body), b"mvhd") + body
    movie = struct.pack(">I4s", 8 + len(header), b"moov") + header
    path.write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + movie)
    return path


@pytest.mark.parametrize("version", [0, 1])
def test_an_mp4_that_says_when_it_was_made_begins_then(version: int, tmp_path: Path) -> None:
    since_1904 = int(NOON_S) + 2_082_844_800
    path = mp4(tmp_path / "door.mp4", since_1904, version)
    assert created_s(path) == NOON_S
    one = source("door", url=str(path))
    assert starts_from([], [one]) == {"door": NOON_S}
    assert starts_from(["2026-05-01T13:00Z"], [one]) == {"door": NOON_S + 3600}


@pytest.mark.parametrize("created", [0, 1, 2_082_844_800])
def test_a_clock_that_was_never_set_says_nothing(created: int, tmp_path: Path) -> None:
    assert created_s(mp4(tmp_path / "door.mp4", created)) is None


def test_another_container_or_a_cut_one_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "door.avi"
    path.write_bytes(b"RIFF\0\0\0\0AVI LIST")
    assert created_s(path) is None
    path.write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + b"\0\0\1\0moov\0\0")
    assert created_s(path) is None
    assert created_s(tmp_path / "absent.mp4") is None
