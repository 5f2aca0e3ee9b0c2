"""What the container of a video file says: frames that are missing at its end, and its clock.

OpenCV reports a frame count that some containers store and others only estimate, from a length and
a frame rate. Here a file that was cut short is distinguished from one whose count is an estimate.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

SHORT_LEAP_S = 10.0
"""A step of the clock above this is not a pause in a container without an index (MPEG-TS, ...):
recordings are joined there end to end. It is the limit of FFmpeg's own programs
(``-dts_delta_threshold``)."""

LONG_LEAP_S = 30 * 3600.0
"""The same in a container with an index, where a long pause can be real (``-dts_error_threshold``
of FFmpeg's programs)."""

_LONGEST_S = 1e9
"""A place further into a file is not valid: OpenCV gives one for a frame without a time."""

_UNIX_FROM_1904_S = 2_082_844_800
"""Seconds from 1904, where the clock of MP4 begins, to 1970."""

_YEAR_2000_S, _YEAR_2100_S = 946_684_800, 4_102_444_800

_MATROSKA, _SEGMENT = 0x1A45DFA3, 0x18538067
_LARGEST_HEAD = 1 << 12
"""More bytes of an EBML header than any writer's."""


class Clock:
    """Seconds into a file that never go back and never leap, whatever the file's own clock does.

    Joined recordings begin again at 0, or go on somewhere else: there the time continues by the
    step between the frames before. ``leap_s`` is the longest step that is a pause.
    """

    def __init__(self, fps: float, leap_s: float) -> None:
        self._leap_s, self._usual_s = leap_s, 1 / fps
        self._own_s: float | None = None
        self._offset_s = 0.0

    def time_s(self, own_s: float, lost: int = 0) -> float:
        """The time of the next frame, behind ``lost`` undecodable ones; ``own_s`` is the file's."""
        if not abs(own_s) < _LONGEST_S:
            own_s = self._own_s or 0.0
        if self._own_s is None:
            self._offset_s = -own_s if not 0 <= own_s <= self._leap_s else 0.0
        elif 0 < (step_s := own_s - self._own_s) <= self._leap_s:
            self._usual_s = step_s / (1 + lost)
        else:
            self._offset_s += self._usual_s * (1 + lost) - step_s
        self._own_s = own_s
        return own_s + self._offset_s


def container_of(path: Path) -> str:
    """``mp4``, ``matroska`` or ``avi``, which have an index and store a length, or empty."""
    with open(path, "rb") as file:
        head = file.read(12)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return "matroska" if head[:4] == _MATROSKA.to_bytes(4, "big") else ""


def missing_at_end(path: Path, announced: float, fps: float, read: int, last_s: float) -> int:
    """How many frames of a file did not come after the ``read`` ones, the last at ``last_s``.

    0 where ``announced``, OpenCV's frame count, is an estimate that proves nothing: only a file
    that ends before its container says so is known to lack some, or an MP4 or AVI, which count
    their frames, if those so far came at the frame rate.
    """
    container = container_of(path)
    if not (container and read and np.isfinite(announced) and 0 < fps < 1000):
        return 0
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if container == "mp4":  # a trimmed one stores more frames than it shows
            announced = min(announced, round(_movie_s(file, size) * fps) or announced)
        by_time = round(last_s * fps) + 1
        missing = int(announced) - max(read, by_time)
        # Matroska stores a length only, which may be that of a longer sound.
        counted = container != "matroska" and abs(by_time - read) <= 1
        if missing > 0 and (counted or _ENDS[container](file) > size):
            return missing
    return 0


def _end_of_boxes(file: BinaryIO) -> int:
    """Where an MP4's last box says that it ends."""
    position = 0
    for _, start, length in _boxes(file, 0, os.fstat(file.fileno()).st_size):
        position = start + length
    return position


def _boxes(file: BinaryIO, position: int, end: int) -> list[tuple[bytes, int, int]]:
    """Type, start and length of an MP4's boxes between two places; the last may go beyond."""
    found = []
    while position + 8 <= end:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8:  # 0: up to the end
            length = end - position
        found.append((kind, position, length))
        position += length
    return found


def created_s(path: Path) -> float | None:
    """The Unix time that an MP4 gives as its creation, which is when it begins; None without one.

    Times before 2000 are those of clocks that were never set.
    """
    try:
        if container_of(path) != "mp4":
            return None
        with open(path, "rb") as file:
            body = _movie_header(file, os.fstat(file.fileno()).st_size)
    except OSError:
        return None
    (since_1904,) = struct.unpack_from(">Q" if body[0] else ">I", body, 4)
    unix_s = float(since_1904) - _UNIX_FROM_1904_S
    return unix_s if _YEAR_2000_S <= unix_s < _YEAR_2100_S else None


def _movie_s(file: BinaryIO, size: int) -> float:
    """The length of an MP4 as it is played, from its movie header; 0 without one."""
    body = _movie_header(file, size)
    form, at = (">IQ", 20) if body[0] else (">II", 12)
    scale, duration = struct.unpack_from(form, body, at)
    return duration / scale if scale else 0.0


def _movie_header(file: BinaryIO, size: int) -> bytes:
    """The first 32 bytes of an MP4's movie header; zeros without one."""
    for kind, start, length in _boxes(file, 0, size):
        end = min(start + length, size) if kind == b"moov" else 0
        for inner, place, _ in _boxes(file, start + 8, end):
            if inner == b"mvhd":
                file.seek(place + 8)
                return file.read(32).ljust(32, b"\0")
    return bytes(32)


def _end_of_riff(file: BinaryIO) -> int:
    """Where an AVI's last RIFF chunk says that it ends; large files have several."""
    position = 0
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            return position
        position += 8 + int.from_bytes(head[4:], "little")


def _end_of_segment(file: BinaryIO) -> int:
    """Where a Matroska file's segment says that it ends; 0 if it leaves that open."""
    file.seek(4)
    head = file.read(_LARGEST_HEAD)
    length, used = _ebml_number(head)
    start = used + length
    if head[start : start + 4] != _SEGMENT.to_bytes(4, "big"):
        return 0
    length, used = _ebml_number(head[start + 4 :])
    return 4 + start + 4 + used + length if length else 0


def _ebml_number(data: bytes) -> tuple[int, int]:
    """A length and how many bytes it takes; 0 for an unknown length (all bits set)."""
    used = 9 - data[0].bit_length() if data and data[0] else 0
    bits = 7 * used
    value = int.from_bytes(data[:used], "big") & ((1 << bits) - 1)
    return (0 if value == (1 << bits) - 1 else value), used


_ENDS = {"mp4": _end_of_boxes, "avi": _end_of_riff, "matroska": _end_of_segment}
