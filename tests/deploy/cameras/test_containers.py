"""Clocks that restart or leap, and frame counts that a container stores or only estimates."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.deploy.cameras.containers import (
    LONG_LEAP_S,
    SHORT_LEAP_S,
    Clock,
    container_of,
    missing_at_end,
)
from reid.deploy.cameras.readers import Decoded, Lost, read_source
from reid.deploy.cameras.sources import CameraSource

NUM_FRAMES = 20


def write(path: Path, code: str, count: int = NUM_FRAMES, fps: float = 10) -> Path:
    """Noise, so that frames have bytes, and a brightness that says their number."""
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (64, 48))
    assert writer.isOpened()
    for number in range(count):
        noise = rng.integers(0, 40, (48, 64, 3))
        writer.write((noise + 2 * number).astype(np.uint8))
    writer.release()
    return path


def read(path: Path) -> tuple[list[float], int]:
    """The times of the decoded frames, and how many were lost."""
    source = CameraSource("a", "video", str(path), str(path), live=False)
    items = list(read_source(source))
    times_s = [item.time_s for item in items if isinstance(item, Decoded)]
    return times_s, sum(item.frames for item in items if isinstance(item, Lost))


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([0, 0.1, 0.2, 0, 0.1], [0, 0.1, 0.2, 0.3, 0.4]),
        ([0, 0.1, 95443.7, 95443.8, 0.2], [0, 0.1, 0.2, 0.3, 0.4]),
        ([0, 0.1, 9, 9.1], [0, 0.1, 9, 9.1]),
        ([0, 0, 0, 0], [0, 0.04, 0.08, 0.12]),
        ([-1e14, -1e14, -1e14], [0, 0.04, 0.08]),
        ([0, 0.1, math.nan, 0.2], [0, 0.1, 0.2, 0.3]),
        ([7000, 7000.1, 7000.2], [0, 0.1, 0.2]),
    ],
)
def test_time_goes_on_where_the_file_s_clock_restarts_leaps_or_stands(
    own: list[float], expected: list[float]
) -> None:
    clock = Clock(25, SHORT_LEAP_S)
    assert [clock.time_s(one) for one in own] == pytest.approx(expected)


def test_a_long_pause_in_a_file_with_an_index_is_kept_and_lost_frames_take_their_time() -> None:
    clock = Clock(10, LONG_LEAP_S)
    assert [clock.time_s(0), clock.time_s(3600), clock.time_s(3600.5, 4)] == [0, 3600, 3600.5]
    assert clock.time_s(0, 2) == pytest.approx(3600.8)


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_joined_recordings_lose_no_frame_and_their_time_goes_on(
    tmp_path: Path, suffix: str
) -> None:
    part = write(tmp_path / f"part{suffix}", "MPG2", fps=25)
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(2 * part.read_bytes())
    times_s, lost = read(joined)
    assert (len(times_s), lost) == (2 * NUM_FRAMES, 0)
    assert np.diff(times_s) == pytest.approx(1 / 25)


def test_frames_behind_a_long_damaged_part_are_read(tmp_path: Path) -> None:
    video = write(tmp_path / "a.avi", "MJPG", count=100)
    data = bytearray(video.read_bytes())
    starts, at = [], data.find(b"\xff\xd8\xff")
    while at >= 0:
        starts.append(at)
        at = data.find(b"\xff\xd8\xff", at + 1)
    for start in starts[30:70]:
        data[start : start + 400] = bytes(400)
    video.write_bytes(data)
    times_s, lost = read(video)
    assert (len(times_s), lost) == (60, 40)


def test_the_frames_of_a_whole_file_with_pauses_are_not_called_undecodable(tmp_path: Path) -> None:
    # An AVI stores a pause as frames without bytes, which OpenCV's count includes.
    data = write(tmp_path / "a.avi", "MJPG").read_bytes()
    head, place = data.index(b"movi") + 4, data.index(b"movi") + 4
    chunks: list[bytes] = []
    while len(chunks) < NUM_FRAMES:
        kind, length = struct.unpack_from("<4sI", data, place)
        end = place + 8 + length + length % 2
        if kind == b"00dc":
            paused = 5 <= len(chunks) < 15
            chunks.append(b"00dc" + bytes(4) if paused else data[place:end])
        place = end
    index, at = b"", 4
    for chunk in chunks:
        index += b"00dc" + struct.pack("<III", 16, at, struct.unpack_from("<I", chunk, 4)[0])
        at += len(chunk)
    body = bytearray(
        data[:head] + b"".join(chunks) + b"idx1" + struct.pack("<I", len(index)) + index
    )
    struct.pack_into("<I", body, 4, len(body) - 8)
    struct.pack_into("<I", body, head - 8, at)
    (tmp_path / "a.avi").write_bytes(body)
    times_s, lost = read(tmp_path / "a.avi")
    assert (len(times_s), lost) == (10, 0)
    assert times_s[-1] == pytest.approx(1.9)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def mp4(seconds: float, tail: int = 0) -> bytes:
    header = box(b"mvhd", bytes(12) + struct.pack(">II", 1000, int(1000 * seconds)) + bytes(80))
    return box(b"ftyp", b"isom0000") + box(b"moov", header) + box(b"mdat", bytes(100))[: 108 - tail]


def matroska(length: int, held: int) -> bytes:
    size = b"\x01" + length.to_bytes(7, "big") if length else b"\x01" + 7 * b"\xff"
    return b"\x1a\x45\xdf\xa3\x84abcd\x18\x53\x80\x67" + size + bytes(held)


def riff(length: int, held: int) -> bytes:
    return b"RIFF" + struct.pack("<I", length + 4) + b"AVI " + bytes(held)


@pytest.mark.parametrize(
    ("content", "kind", "constant", "varying"),
    [
        (mp4(4.0), "mp4", 10, 0),
        (mp4(3.0), "mp4", 0, 0),  # trimmed: it stores 40 frames and shows 30
        (mp4(4.0, tail=9), "mp4", 10, 5),
        (matroska(90, 90), "matroska", 0, 0),  # its sound may be longer
        (matroska(90, 50), "matroska", 10, 5),
        (matroska(0, 50), "matroska", 0, 0),
        (riff(90, 90), "avi", 10, 0),
        (riff(90, 50), "avi", 10, 5),
        (b"\x47" + bytes(187), "", 0, 0),
        (b"", "", 0, 0),
    ],
)
def test_frames_are_missing_where_the_file_was_cut_or_kept_to_its_frame_rate(
    tmp_path: Path, content: bytes, kind: str, constant: int, varying: int
) -> None:
    """40 frames are announced for 4 s; 30 came, up to 2.9 s (constant), or up to 3.4 s."""
    path = tmp_path / "a"
    path.write_bytes(content)
    assert container_of(path) == kind
    assert missing_at_end(path, 40, 10, 30, 2.9) == constant
    assert missing_at_end(path, 40, 10, 30, 3.4) == varying


@pytest.mark.parametrize("announced", [-1.9e14, math.nan, math.inf, 0.0])
def test_an_announced_count_that_is_no_count_says_nothing(tmp_path: Path, announced: float) -> None:
    (tmp_path / "a").write_bytes(matroska(90, 50))
    assert missing_at_end(tmp_path / "a", announced, 10, 30, 2.9) == 0
