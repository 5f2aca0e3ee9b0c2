"""Frames of a source, decoded by OpenCV; undecodable frames are counted.

FFmpeg and OpenCV print URLs with their passwords in their own messages. Importing this module
silences both for the whole process: FFmpeg reads its log level once, from
OPENCV_FFMPEG_LOGLEVEL, when the first video is opened.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from reid.data.images import IMAGE_SUFFIXES, read_image
from reid.errors import DataError
from reid.files import is_regular
from reid.types import Image

from .containers import LONG_LEAP_S, SHORT_LEAP_S, Clock, container_of, missing_at_end
from .secrets import REMEDY
from .sources import CameraSource, is_text
from .tls import verified_options

os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # AV_LOG_QUIET
os.environ.pop("OPENCV_FFMPEG_DEBUG", None)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_USERS_OPTIONS = os.environ.get(_OPTIONS)
_STREAM_OPTIONS = "rtsp_transport;tcp|fflags;discardcorrupt"
"""RTSP over TCP is OpenCV's default, and must be repeated with any other option. The other one
drops the frames of damaged packets, which would be smeared. In a file it would also drop the last
frame before each place where recordings were joined."""
_FILE_OPTIONS = "rtsp_transport;tcp"
_OPENING = threading.Lock()
"""Held while a source is opened: OpenCV takes FFmpeg's options from the environment."""

FOLDER_FPS = 10.0
"""Frame rate of an image folder, and of a video without one or below 1 (a choice)."""

STREAM_TIMEOUT_MS = 5000
"""Time limit for opening a network stream and for each frame (a choice)."""

MAX_MISSED = 25
"""Undecodable frames in a row that end a device or stream (a choice: one second of them)."""

MAX_MISSED_IN_FILE = 10_000
"""The same for a file, behind whose damaged part more may follow (a choice: minutes of them; at the
end of a file as many attempts take a fifth of a second)."""

MAX_PIXELS = 1 << 26
"""The largest frame, twice an 8K camera's. A larger video is refused; a larger image of a folder
counts as lost."""


class Decoded(NamedTuple):
    """One frame, (height, width, 3) uint8 BGR.

    ``time_s`` is its time in the file, or for a device or stream the Unix time of its arrival. In
    a file it only goes on, even where the file's own clock restarts or leaps (see ``Clock``).
    """

    image: Image
    time_s: float


class Lost(NamedTuple):
    """Number of frames that could not be decoded."""

    frames: int


Frames = Generator[Decoded | Lost, None, None]
"""Ends with the file, or when the stream breaks; raises DataError if it cannot be opened."""


def read_source(source: CameraSource) -> Frames:
    """The frames of a source, which is opened for the first one."""
    if source.kind == "folder":
        return _folder(Path(source.url))
    if source.kind == "video":
        return _video(source)
    return _live(source)


def _folder(folder: Path) -> Frames:
    """Images in the order of their names, where 2 comes before 10."""
    try:
        files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
    if not files:
        raise DataError(f"{folder}: no image in it; expected {', '.join(IMAGE_SUFFIXES)}")
    for number, path in enumerate(sorted(files, key=_by_number)):
        try:
            item: Decoded | Lost = Decoded(read_image(path, MAX_PIXELS), number / FOLDER_FPS)
        except DataError:
            item = Lost(1)
        yield item


def _by_number(path: Path) -> tuple[list[tuple[str, int]], str]:
    """A key by which names are sorted as people count: digits as one number, other text as text."""
    parts = re.findall(r"([^0-9]*)([0-9]*)", path.name)
    return [(text, int(digits or -1)) for text, digits in parts], path.name


def _video(source: CameraSource) -> Frames:
    """A video file; frames that its container announces and that did not come are lost."""
    capture = _opened(source, _stream_backend())
    try:
        path = Path(source.url)
        announced, announced_fps = (
            capture.get(key) for key in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS)
        )
        clock = Clock(_fps(capture), LONG_LEAP_S if container_of(path) else SHORT_LEAP_S)
        number = lost = 0
        own_s = 0.0
        for item in _read(capture, MAX_MISSED_IN_FILE, math.inf):
            if isinstance(item, Lost):
                lost = item.frames
                number += lost
                yield item
            else:
                own_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                yield Decoded(item, clock.time_s(own_s, lost))
                number, lost = number + 1, 0
        if missing := missing_at_end(path, announced, announced_fps, number, own_s):
            yield Lost(missing)
    finally:
        capture.release()


def _live(source: CameraSource) -> Frames:
    """A device or a network stream, until it breaks."""
    backend = cv2.CAP_V4L2 if source.kind == "device" else _stream_backend()
    capture = _opened(source, backend)
    try:
        for item in _read(capture, MAX_MISSED, STREAM_TIMEOUT_MS / 1000):
            yield item if isinstance(item, Lost) else Decoded(item, time.time())
    finally:
        capture.release()


def _read(capture: Any, max_missed: int, timeout_s: float) -> Generator[Image | Lost, None, None]:
    """Frames until ``max_missed`` in a row fail, or none comes for ``timeout_s``.

    OpenCV reports a damaged frame and the end in the same way; the next frames show which.
    """
    missed, newest_s = 0, time.monotonic()
    while missed < max_missed and time.monotonic() - newest_s < timeout_s:
        decoded, image = capture.read()
        if not decoded:
            missed += 1
            continue
        if missed:
            yield Lost(missed)
        yield np.asarray(image, np.uint8)
        missed, newest_s = 0, time.monotonic()


def _stream_backend() -> int:
    """FFmpeg, or any other backend if OpenCV has no FFmpeg."""
    built_in = cv2.videoio_registry.getStreamBackends()
    return cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in built_in else cv2.CAP_ANY


def _opened(source: CameraSource, backend: int) -> Any:
    """An open capture. Raises DataError, without the URL."""
    if not is_text(source.url):
        raise DataError(f"{source.name} ({source.shown}): its path is not valid UTF-8; rename it")
    if source.kind == "video" and not _is_file(source.url):
        raise DataError(f"{source.name} ({source.shown}) is not there, or is not a regular file")
    options: list[int] = []
    if source.kind == "stream" and backend == cv2.CAP_FFMPEG:
        timeouts = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
        options = [value for key in timeouts for value in (int(key), STREAM_TIMEOUT_MS)]
    wanted = _STREAM_OPTIONS if source.kind == "stream" else _FILE_OPTIONS
    wanted = wanted if _USERS_OPTIONS is None else _USERS_OPTIONS
    if source.kind == "stream":
        shown = f"{source.name} ({source.shown})"
        wanted += verified_options(source.url, shown, source.tls, STREAM_TIMEOUT_MS / 1000)
    with _OPENING:
        os.environ[_OPTIONS] = wanted
        capture = cv2.VideoCapture(source.url, backend, options)
    if not capture.isOpened():
        remedy = {
            "video": "expected a complete video that OpenCV's FFmpeg can decode",
            "device": "is a camera plugged in, and may this user read it (group video)?",
        }.get(source.kind, f"check the URL, that the camera is on, user and password; {REMEDY}")
        raise DataError(f"{source.name} ({source.shown}) cannot be opened; {remedy}")
    size = [int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
    if size[0] * size[1] > MAX_PIXELS:
        capture.release()
        raise DataError(
            f"{source.name} ({source.shown}) has frames of {size[0]}x{size[1]}; at most "
            f"{MAX_PIXELS} pixels are supported"
        )
    return capture


def _is_file(path: str) -> bool:
    try:
        return is_regular(Path(path))
    except OSError:
        return False


def frame_rate(source: CameraSource) -> float:
    """Frames per second of a video file; FOLDER_FPS for anything else.

    0 for a file that cannot be opened: reading it raises the error.
    """
    if source.kind != "video":
        return FOLDER_FPS
    try:
        capture = _opened(source, _stream_backend())
    except DataError:
        return 0.0
    try:
        return _fps(capture)
    finally:
        capture.release()


def _fps(capture: Any) -> float:
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if 1 <= fps < 1000 else FOLDER_FPS
