"""Frames of a source, decoded by OpenCV; undecodable frames are counted.

FFmpeg and OpenCV print URLs with their passwords in their own messages. Importing this module
silences both for the whole process: FFmpeg reads its log level once, from
OPENCV_FFMPEG_LOGLEVEL, when the first video is opened.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from reid.data.images import IMAGE_SUFFIXES, read_image
from reid.errors import DataError
from reid.types import Image

from .sources import CameraSource, is_text

os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # AV_LOG_QUIET
os.environ.pop("OPENCV_FFMPEG_DEBUG", None)
# RTSP over TCP is OpenCV's default, and must be repeated with any other option. The other one
# drops the frames of damaged packets, which would be smeared.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp|fflags;discardcorrupt")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

FOLDER_FPS = 10.0
"""Frame rate of an image folder, and of a video without one (a choice)."""

STREAM_TIMEOUT_MS = 5000
"""Time limit for opening a network stream and for each frame (a choice)."""

MAX_MISSED = 25
"""Undecodable frames in a row that end a source (a choice: one second of them)."""

MAX_PIXELS = 1 << 26
"""The largest frame, twice an 8K camera's. A larger video is refused; a larger image of a folder
counts as lost."""


class Decoded(NamedTuple):
    """One frame, (height, width, 3) uint8 BGR.

    ``time_s`` is its time in the file, or for a device or stream the Unix time of its arrival.
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
    """Images in the order of their names."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
    if not files:
        raise DataError(f"{folder}: no image in it; expected {', '.join(IMAGE_SUFFIXES)}")
    for number, path in enumerate(files):
        try:
            item: Decoded | Lost = Decoded(read_image(path, MAX_PIXELS), number / FOLDER_FPS)
        except DataError:
            item = Lost(1)
        yield item


def _video(source: CameraSource) -> Frames:
    """A video file; frames that its container announces and that did not come are lost."""
    capture = _opened(source, _stream_backend())
    try:
        announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        fps = _fps(capture)
        number = 0
        for item in _read(capture):
            if isinstance(item, Lost):
                number += item.frames
                yield item
            else:
                yield Decoded(item, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 or number / fps)
                number += 1
        if np.isfinite(announced) and announced > number:
            yield Lost(int(announced) - number)
    finally:
        capture.release()


def _live(source: CameraSource) -> Frames:
    """A device or a network stream, until it breaks."""
    backend = cv2.CAP_V4L2 if source.kind == "device" else _stream_backend()
    capture = _opened(source, backend)
    try:
        for item in _read(capture):
            yield item if isinstance(item, Lost) else Decoded(item, time.time())
    finally:
        capture.release()


def _read(capture: Any) -> Generator[Image | Lost, None, None]:
    """Frames until MAX_MISSED in a row fail, or a stream sends none for STREAM_TIMEOUT_MS.

    OpenCV reports a damaged frame and the end in the same way; the next frames show which.
    """
    missed, newest_s = 0, time.monotonic()
    while missed < MAX_MISSED and time.monotonic() - newest_s < STREAM_TIMEOUT_MS / 1000:
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
    options: list[int] = []
    if source.kind == "stream" and backend == cv2.CAP_FFMPEG:
        timeouts = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
        options = [value for key in timeouts for value in (int(key), STREAM_TIMEOUT_MS)]
    capture = cv2.VideoCapture(source.url, backend, options)
    if not capture.isOpened():
        remedy = {
            "video": "expected a complete video that OpenCV's FFmpeg can decode",
            "device": "is a camera plugged in, and may this user read it (group video)?",
        }.get(source.kind, "check the URL, the user and password, and that the camera is on")
        raise DataError(f"{source.name} ({source.shown}) cannot be opened; {remedy}")
    size = [int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
    if size[0] * size[1] > MAX_PIXELS:
        capture.release()
        raise DataError(
            f"{source.name} ({source.shown}) has frames of {size[0]}x{size[1]}; at most "
            f"{MAX_PIXELS} pixels are supported"
        )
    return capture


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
    return fps if 0 < fps < 1000 else FOLDER_FPS
