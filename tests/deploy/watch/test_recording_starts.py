"""The start of a recording, from its container."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from reid.deploy.cameras.containers import created_s
from reid.deploy.cameras.sources import CameraSource
from reid.deploy.watch.clock import starts_from

NOON_S = 1777636800.0
"""2026-05-01T12:00:00Z."""


def source(name: str, kind: str = "video", url: str = "/absent.avi") -> CameraSource:
    return CameraSource(name, kind, url, url, live=kind in ("device", "stream"))


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
