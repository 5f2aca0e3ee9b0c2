"""Frames with boxes drawn in, all cameras side by side, in a video file or a window."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from reid.closing import Closeable
from reid.errors import ConfigError
from reid.progress import Say
from reid.types import Image

from ..cameras.camera import News
from ..cameras.sources import is_text
from .events import TrackedFrame
from .mp4 import Mp4Writer
from .track import Track

TILE_WIDTH = 960
"""Largest width of a camera's picture if there are several."""

LONGEST_STILL_S = 10.0
"""Longest time that a live video repeats one picture: a night without frames is not written."""

_WINDOW = "reid watch"


class Wall:
    """The newest picture of each camera, in a grid with cells of the first picture's size."""

    def __init__(self, cameras: Sequence[str]) -> None:
        across = math.ceil(math.sqrt(len(cameras)))
        self._grid = (math.ceil(len(cameras) / across), across)
        self._places = {name: divmod(index, across) for index, name in enumerate(cameras)}
        self._canvas: Image = np.zeros((0, 0, 3), np.uint8)

    def show(self, seen: Sequence[TrackedFrame]) -> Image:
        """The whole picture after a round; the next call overwrites it."""
        for one in seen:
            picture = drawn(one)
            if not self._canvas.size:
                self._canvas = self._empty(picture)
            height, width = (self._canvas.shape[axis] // self._grid[axis] for axis in (0, 1))
            row, column = self._places[one.frame.camera]
            cell = self._canvas[row * height :, column * width :][:height, :width]
            scale = min(width / picture.shape[1], height / picture.shape[0])
            size = (max(1, int(picture.shape[1] * scale)), max(1, int(picture.shape[0] * scale)))
            cell[:] = 0
            cell[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return self._canvas

    def _empty(self, picture: Image) -> Image:
        height, width = picture.shape[:2]
        scale = 1.0 if len(self._places) == 1 else min(1.0, TILE_WIDTH / width)
        # Video codecs want even sizes.
        cell = [max(2, int(edge * scale) // 2 * 2) for edge in (height, width)]
        return np.zeros((cell[0] * self._grid[0], cell[1] * self._grid[1], 3), np.uint8)


def drawn(seen: TrackedFrame) -> Image:
    """A copy of the frame with a box for each track in the colour of its identity."""
    picture: Image = seen.frame.image.copy()
    cv2.putText(picture, seen.frame.camera, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255,) * 3)
    for track in seen.tracks:
        left, top, right, bottom = (round(float(edge)) for edge in track.box)
        colour = _colour(track)
        cv2.rectangle(picture, (left, top), (right, bottom), colour, 2)
        place = (left, max(12, top - 4))
        cv2.putText(picture, _label(track), place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 2)
    return picture


def _label(track: Track) -> str:
    if track.identity is None:
        return "?"
    name = f" {track.candidate.person}?" if track.candidate is not None else ""
    return f"{track.identity.number}{name}"


def _colour(track: Track) -> tuple[int, int, int]:
    """Grey without an identity; otherwise far from the colours of neighbouring numbers."""
    if track.identity is None:
        return (160, 160, 160)
    hue = int(track.identity.number * 0.618034 * 180) % 180
    blue, green, red = cv2.cvtColor(np.array([[[hue, 200, 255]]], np.uint8), cv2.COLOR_HSV2BGR)[
        0, 0
    ]
    return int(blue), int(green), int(red)


class VideoSink(Closeable):
    """An MP4 file of the wall.

    ``fps`` is the file's frame rate: files give one frame per round; if a source is ``live``,
    frames are repeated to keep real time, for LONGEST_STILL_S at most. The file is there from the
    first frame on, and can be played up to where its writer was killed. A full disk ends nothing:
    ``say`` gets a line, and ``lost`` counts. Raises OutputError if the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        cameras: Sequence[str],
        fps: float,
        live: bool,
        say: Say = lambda line: None,
    ) -> None:
        self._path, self._fps, self._live, self._say = path, fps, live, say
        self._wall = Wall(cameras)
        self._writer: Mp4Writer | None = None
        self._began_s = 0.0
        if path.suffix.lower() != ".mp4" or not is_text(str(path)):
            raise ConfigError(f"{path}: --video needs an .mp4 file whose name is valid UTF-8")

    @property
    def lost(self) -> int:
        """Frames that found no room."""
        return self._writer.lost if self._writer else 0

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """One round."""
        wall = self._wall.show(seen)
        if self._writer is None:
            height, width = wall.shape[:2]
            self._writer = Mp4Writer(self._path, width, height, self._fps, self._say)
            self._began_s = time.monotonic()
        due = 1
        if self._live:
            now_s = time.monotonic()
            still_s = now_s - self._began_s - self._writer.written / self._fps
            self._began_s += max(0.0, still_s - LONGEST_STILL_S)
            due = int((now_s - self._began_s) * self._fps) + 1 - self._writer.written
        for _ in range(due):
            self._writer.write(wall)

    def news(self, news: News) -> None:
        """Draws nothing."""

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()


class WindowSink(Closeable):
    """A window on this machine's screen. A context manager. Raises ConfigError without a screen."""

    def __init__(self, cameras: Sequence[str]) -> None:
        self._wall = Wall(cameras)
        try:
            if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
                raise ConfigError("--window needs a screen (DISPLAY is not set); use --video")
            cv2.namedWindow(_WINDOW, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise ConfigError(
                "--window needs an OpenCV with windows; this one is headless: use --video, or "
                "install opencv-python in place of opencv-python-headless"
            ) from error

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """Show one round."""
        cv2.imshow(_WINDOW, self._wall.show(seen))
        cv2.waitKey(1)

    def news(self, news: News) -> None:
        """Draws nothing."""

    def close(self) -> None:
        """Close the window."""
        cv2.destroyWindow(_WINDOW)
