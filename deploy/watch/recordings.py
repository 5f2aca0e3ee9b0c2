"""Recordings in segments: DIR/CAMERA/2026-05-01T12-30-00Z.webm with a JSON file beside each.

    {"camera": "door", "start": 1777638600.0, "end": 1777639200.0, "fps": 5.0, "frames": 3000,
     "width": 640, "height": 360, "codec": "vp8", "dropped": 0, "lost_since": null, "cut": false}

``start`` and ``end`` are Unix times; ``end`` is null while the segment is being written. A second
of the file is a second of time, so that ``time - start`` is the place in it. ``dropped`` counts
frames that the encoder had no time for, ``lost_since`` is the Unix time since when the camera was
lost when the segment ended, and ``cut`` says that the process was killed: the file plays up to
there.
"""

from __future__ import annotations

import heapq
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2

from reid.files import is_regular, write_text
from reid.progress import Say

from .encoders import CODECS

_NAME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)Z(-\d+)?\.(webm|mp4)")
_TIME = "%Y-%m-%dT%H-%M-%S"
_LARGEST_JSON = 1 << 16
_DAY_S = 86_400.0
_MOST_BESIDE = 5
"""Segments that may begin within the seconds before a time, of which the newest counts."""
_LATE_S = 30.0
"""How long after its last frame a segment is written to the disk, at most (a choice)."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What the JSON file beside a recording says: see the module's text."""

    camera: str
    start: float
    end: float | None
    fps: float
    frames: int
    width: int
    height: int
    codec: str
    dropped: int = 0
    lost_since: float | None = None
    cut: bool = False

    def write(self, video: Path) -> None:
        """Write it beside the video. Raises OutputError."""
        write_text(beside(video), json.dumps(asdict(self)) + "\n", private=True)


def camera_folder(folder: Path, camera: str) -> Path:
    """The folder of a camera's segments; a name of any characters stays inside ``folder``."""
    name = quote(camera, safe="")
    return folder / (f"%2E{name[1:]}" if name.startswith(".") else name)


def segment_path(folder: Path, camera: str, start_s: float, codec: str) -> Path:
    """A new segment's path; a second one of the same second gets a number."""
    stem = _text_of(start_s) + "Z"
    suffix = CODECS[codec].suffix
    path = camera_folder(folder, camera) / (stem + suffix)
    number = 1
    while path.exists() or beside(path).exists():
        number += 1
        path = path.with_name(f"{stem}-{number}{suffix}")
    return path


def beside(video: Path) -> Path:
    """The JSON file of a segment."""
    return video.with_suffix(".json")


def find_recording(folder: Path, camera: str, time_s: float) -> tuple[Path, float] | None:
    """The segment that shows ``camera`` at a Unix time, and how many seconds into it that is.

    None where nothing was recorded. An MP4 that is still being written cannot be played, and is not
    found. Damaged and foreign files in the folder are left out.
    """
    for video in reversed(list(segments(camera_folder(folder, camera), time_s))):
        segment = read_segment(video)
        if segment is None or segment.camera != camera or segment.start > time_s:
            continue
        ends_s = segment.end
        if ends_s is None:
            ends_s = _changed_s(video) + _LATE_S if video.suffix == ".webm" else 0.0
        if time_s < ends_s:
            return video, time_s - segment.start
    return None


def segments(folder: Path, time_s: float | None = None) -> Iterator[Path]:
    """The videos in a camera's folder, in the order of time; links and other files are left out.

    With ``time_s`` only the last few that began by then: a search asks for each of its matches.
    """
    try:
        names = os.listdir(folder)
        # The times in the names are in the order of their characters.
        latest = "" if time_s is None else _text_of(time_s)
    except (OSError, ValueError, OverflowError):  # no folder, a time outside the calendar
        return
    if time_s is None:
        chosen = sorted(filter(_NAME.fullmatch, names), key=_by_time)
    else:
        begun = filter(_NAME.fullmatch, (name for name in names if name[:19] <= latest))
        chosen = heapq.nlargest(_MOST_BESIDE, begun, key=_by_time)[::-1]
    for name in chosen:
        path = folder / name
        if path.is_file() and not path.is_symlink():
            yield path


def read_segment(video: Path) -> Segment | None:
    """What stands beside a video; None where it is missing or damaged."""
    path = beside(video)
    try:
        if not is_regular(path) or path.stat().st_size > _LARGEST_JSON:
            return None
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        fields = {name: found[name] for name in Segment.__slots__ if name in found}
        segment = Segment(**fields)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    numbers = [segment.start, segment.fps] + ([] if segment.end is None else [segment.end])
    right = all(isinstance(one, (int, float)) and abs(one) < 1e11 for one in numbers)
    return segment if right and isinstance(segment.camera, str) else None


def remove_old(folder: Path, older_than_s: float) -> int:
    """Remove the segments that ended before this Unix time, and empty folders; returns how many.

    Only files with a segment's name in a camera's folder are touched.
    """
    removed = 0
    for camera in _folders(folder):
        for video in list(segments(camera)):
            segment = read_segment(video)
            ended_s = segment.end if segment and segment.end is not None else _changed_s(video)
            if ended_s < older_than_s:
                video.unlink(missing_ok=True)
                beside(video).unlink(missing_ok=True)
                removed += 1
        for lonely in camera.glob("*Z*.json"):  # its video was removed, and the process killed
            video_gone = not any(lonely.with_suffix(one.suffix).exists() for one in CODECS.values())
            if video_gone and _changed_s(lonely) < older_than_s:
                lonely.unlink(missing_ok=True)
    return removed


def remove_older_than_days(folder: Path, keep_days: float, now_s: float) -> int:
    """``remove_old`` for segments that ended more than ``keep_days`` ago."""
    return remove_old(folder, now_s - keep_days * _DAY_S)


def mend(folder: Path, say: Say) -> None:
    """End the segments that a killed process left open; those that cannot be played are removed.

    Call it while no process records into ``folder``. ``say`` gets a line for each.
    """
    for camera in _folders(folder):
        for video in list(segments(camera)):
            segment = read_segment(video)
            if segment is None or segment.end is not None:
                continue
            frames = _frames_in(video)
            if frames:
                ended = asdict(segment) | {
                    "end": segment.start + frames / segment.fps,
                    "frames": frames,
                    "cut": True,
                }
                Segment(**ended).write(video)
                say(f"reid: {video}: its recording was cut short; it plays up to there")
            else:
                video.unlink(missing_ok=True)
                beside(video).unlink(missing_ok=True)
                say(f"reid: {video}: its recording was cut short and cannot be played; removed")


def _frames_in(video: Path) -> int:
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    frames = 0
    try:
        while capture.grab():
            frames += 1
    finally:
        capture.release()
    return frames


def _folders(folder: Path) -> list[Path]:
    try:
        return [one for one in folder.iterdir() if one.is_dir() and not one.is_symlink()]
    except OSError:
        return []


def _changed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")


def _by_time(name: str) -> tuple[str, int]:
    found = _NAME.fullmatch(name)
    return (found[1], int((found[2] or "-1")[1:])) if found else (name, 0)


def _text_of(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, timezone.utc).strftime(_TIME)
