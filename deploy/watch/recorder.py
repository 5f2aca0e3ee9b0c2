"""Recording cameras into segments, each camera in a thread, which no camera waits for."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from reid.closing import Closeable
from reid.errors import ConfigError, OutputError, output_errors
from reid.files import open_private
from reid.locks import locked
from reid.progress import Say
from reid.types import Image

from ..cameras.camera import Frame, News
from .encoders import AUTO, open_encoder, usable_codec
from .events import TrackedFrame
from .recordings import (
    Segment,
    beside,
    mend,
    remove_older_than_days,
    segment_path,
)

QUEUE_FRAMES = 10
"""Frames of a camera that wait for the encoder; beyond them new ones are dropped (a choice)."""

LONGEST_STILL_S = 5.0
"""How long a picture stands in a recording when no new one comes; then the segment ends."""

LOST_S = 2.0
"""How long the last picture says that the camera was lost, before the segment ends."""

ROOM_BYTES = 256 << 20
"""Room that recordings leave on the disk, for events and galleries (a choice)."""

CHECK_S = 1.0
"""How often the room on the disk is looked at."""

STALLED_S = 30.0
"""A file that has not grown for so long cannot be written: encoders do not say so themselves."""


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """How cameras are recorded into ``folder``.

    Segments end after ``segment_minutes`` and are removed ``keep_days`` after that (None: never).
    ``fps`` and ``width`` are the most frames a second and pixels across; ``codec`` is ``auto`` or
    one of ``encoders.CODECS``.
    """

    folder: Path
    segment_minutes: float = 10.0
    keep_days: float | None = None
    fps: float = 5.0
    width: int = 640
    codec: str = AUTO

    def check(self) -> None:
        """Raises ConfigError for a value out of range."""
        ranges = (
            ("segment_minutes", self.segment_minutes, 0.05, 1440),
            ("fps", self.fps, 0.1, 60),
            ("width", self.width, 64, 7680),
            ("keep_days", 1 if self.keep_days is None else self.keep_days, 0.001, 36_500),
        )
        for name, value, least, most in ranges:
            if not least <= value <= most:
                raise ConfigError(
                    f"recordings: {name} must be from {least:g} to {most:g}, found {value:g}"
                )


class _Item(NamedTuple):
    """A picture at a Unix time, or None: the camera was lost."""

    time_s: float
    image: Image | None


class Recorder(Closeable):
    """A sink that records every camera into segments. A context manager.

    The pictures are the cameras' own, without boxes or names; the time (UTC) is drawn in. When a
    camera is lost, the last picture says since when, and the segment ends: the gap stands in its
    JSON file. A camera waits for the encoder only if ``wait`` (files that are not played live).
    ``unix_s`` gives a frame's Unix time. A full disk is said once, counted, and tried again.

    One process records into a folder. Raises OutputError if another does, or the folder cannot be
    written, and ConfigError without an encoder.
    """

    def __init__(
        self,
        settings: RecordSettings,
        say: Say,
        unix_s: Callable[[Frame], float],
        *,
        wait: bool = False,
    ) -> None:
        settings.check()
        self._settings = replace(settings, codec=usable_codec(settings.codec))
        self._say, self._unix_s, self._wait = say, unix_s, wait
        self._cameras: dict[str, _CameraRecorder] = {}
        self._stack = ExitStack()
        folder = settings.folder
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(locked(folder / ".lock", patience_s=0.0))
        mend(folder, say)
        if settings.keep_days is not None:
            remove_older_than_days(folder, settings.keep_days, time.time())

    @property
    def lost(self) -> int:
        """Frames that were not recorded: the encoder was too slow, or the disk full."""
        return sum(camera.lost for camera in self._cameras.values())

    @property
    def waiting(self) -> Mapping[str, int]:
        """Camera -> frames that wait for the encoder."""
        return {name: camera.waiting for name, camera in self._cameras.items()}

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """Hand over one round; the frames must not be changed afterwards."""
        for one in seen:
            name = one.frame.camera
            if name not in self._cameras:
                self._cameras[name] = _CameraRecorder(name, self._settings, self._say)
            camera = self._cameras[name]
            camera.add(_Item(self._unix_s(one.frame), one.frame.image), self._wait)

    def news(self, news: News) -> None:
        """A lost camera's segment is marked and ends."""
        if news.camera in self._cameras and news.state in ("lost", "failed"):
            self._cameras[news.camera].add(_Item(time.time(), None), True)

    def close(self) -> None:
        """Finish all files."""
        for camera in self._cameras.values():
            camera.close()
        self._stack.close()


class _CameraRecorder:
    """One camera's segments, written in a thread."""

    def __init__(self, name: str, settings: RecordSettings, say: Say) -> None:
        self._name, self._settings, self._say = name, settings, say
        self.lost = self._lost_before = 0
        self._slot = -1
        self._queue: queue.Queue[_Item | None] = queue.Queue(QUEUE_FRAMES)
        self._writing: _Writing | None = None
        self._failed = ""
        self._checked_s = 0.0
        self._room = True
        self._thread = threading.Thread(target=self._run, name=f"record {name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def add(self, item: _Item, wait: bool) -> None:
        """Queue a picture if its turn has come; counts it if there is no room and no ``wait``."""
        if item.image is not None:
            slot = _slot(item.time_s, self._settings.fps)
            if slot == self._slot:
                return
            self._slot = slot
        try:
            self._queue.put(item, block=wait)
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._take(item)
            except (OSError, OutputError, cv2.error) as error:
                self._fail(item, str(error))
        self._end()

    def _take(self, item: _Item) -> None:
        if item.image is None:
            if self._writing is not None:
                self._writing.mark_lost()
                self._end()
            return
        if not self._has_room():
            self._end()
            self.lost += 1
            return
        if self._writing is not None and self._writing.is_over(item.time_s, item.image):
            self._end()
        if self._writing is None:
            self._writing = self._begin(item.time_s, item.image)
        self._writing.add(item.time_s, item.image)

    def _begin(self, time_s: float, image: Image) -> _Writing:
        settings = self._settings
        if settings.keep_days is not None:
            remove_older_than_days(settings.folder, settings.keep_days, time.time())
        writing = _Writing(self._name, settings, time_s, image)
        if self._failed:
            self._failed = ""
            self._say(f"reid: {self._name}: recording again; {self.lost} frames are missing")
        return writing

    def _end(self) -> None:
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.close(self._newly_lost())
        except (OSError, OutputError) as error:
            self._fail(None, str(error))

    def _newly_lost(self) -> int:
        """Frames lost since the segment before ended."""
        before, self._lost_before = self._lost_before, self.lost
        return self._lost_before - before

    def _has_room(self) -> bool:
        """Whether the disk has room, as seen within the last second."""
        now_s = time.monotonic()
        if now_s - self._checked_s >= CHECK_S:
            self._checked_s = now_s
            status = os.statvfs(self._settings.folder)
            free = status.f_bavail * status.f_frsize
            # Once the disk was full, a little more is asked for, so that it does not flicker.
            self._room = free >= (ROOM_BYTES if self._room else ROOM_BYTES + ROOM_BYTES // 8)
            if not self._room:
                self._note(
                    f"the disk of {self._settings.folder} has {free >> 20} MB left, and recordings "
                    f"leave {ROOM_BYTES >> 20} MB"
                )
            elif self._writing is not None and self._writing.stalled(now_s):
                raise OutputError(f"cannot write {self._writing.path}: it does not grow")
        return self._room

    def _fail(self, item: _Item | None, words: str) -> None:
        self._note(words)
        self.lost += item is not None and item.image is not None
        writing, self._writing = self._writing, None
        if writing is not None:
            with suppress(OSError, OutputError):  # was said
                writing.close(self._newly_lost())

    def _note(self, words: str) -> None:
        if not self._failed:
            self._failed = words
            self._say(f"reid: {self._name} is not recorded: {words}; the cameras go on")


class _Writing:
    """The segment that is being written."""

    def __init__(
        self,
        camera: str,
        settings: RecordSettings,
        start_s: float,
        image: Image,
    ) -> None:
        self._settings = settings
        self._given = image.shape[:2]
        height, width = self._given
        scale = min(1.0, settings.width / width)
        # Video codecs want even sizes.
        self._size = tuple(max(2, int(edge * scale) // 2 * 2) for edge in (width, height))
        codec = settings.codec
        self.path = segment_path(settings.folder, camera, start_s, codec)
        self.segment = Segment(
            camera, start_s, None, settings.fps, 0, self._size[0], self._size[1], codec
        )
        self._picture: Image | None = None
        self._grew_s, self._bytes = time.monotonic(), 0
        with output_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(open_private(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        self.segment.write(self.path)
        self._encoder: Any = open_encoder(self.path, codec, settings.fps, *self._size)
        if self._encoder is None:
            raise OutputError(f"cannot write {self.path}: the encoder did not start")

    def is_over(self, time_s: float, image: Image) -> bool:
        """Whether a picture belongs to the next segment."""
        start_s = self.segment.start
        written_s = self.segment.frames / self.segment.fps
        late = time_s - start_s > written_s + LONGEST_STILL_S
        long = time_s - start_s >= 60 * self._settings.segment_minutes
        return late or long or time_s < start_s or image.shape[:2] != self._given

    def add(self, time_s: float, image: Image) -> None:
        """Add a picture at its time; the one before stands until then."""
        due = _slot(time_s - self.segment.start, self.segment.fps) + 1 - self.segment.frames
        if due < 1:
            return
        if self._picture is not None:
            for _ in range(due - 1):
                self._write(self._picture)
        picture = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        self._picture = np.asarray(picture, np.uint8)
        self._write(self._picture)

    def mark_lost(self) -> None:
        """Let the last picture say that the camera was lost, and since when."""
        if self._picture is None:
            return
        self.segment = replace(self.segment, lost_since=self._now_s)
        words = f"lost since {_clock(self._now_s)}"
        picture = self._picture // 2
        for _ in range(max(1, round(LOST_S * self.segment.fps))):
            self._write(picture, words)

    def stalled(self, now_s: float) -> bool:
        """Whether frames were given for long, and the file has not grown."""
        size = self.path.stat().st_size
        if size != self._bytes:
            self._grew_s, self._bytes = now_s, size
        return now_s - self._grew_s > STALLED_S

    def close(self, dropped: int) -> None:
        """Finish the file, and say so beside it. Raises OutputError."""
        self._encoder.release()
        self.segment = replace(self.segment, end=self._now_s, dropped=dropped)
        if not self.segment.frames:
            self.path.unlink(missing_ok=True)
            beside(self.path).unlink(missing_ok=True)
            return
        self.segment.write(self.path)

    @property
    def _now_s(self) -> float:
        """The Unix time of the next frame of the file."""
        return self.segment.start + self.segment.frames / self.segment.fps

    def _write(self, picture: Image, words: str = "") -> None:
        stamped = picture.copy()
        date = datetime.fromtimestamp(self._now_s, timezone.utc).strftime("%Y-%m-%d")
        _label(stamped, f"{date} {_clock(self._now_s)}", stamped.shape[0] - 8)
        if words:
            _label(stamped, words, stamped.shape[0] // 2)
        self._encoder.write(stamped)
        self.segment = replace(self.segment, frames=self.segment.frames + 1)


def _slot(time_s: float, fps: float) -> int:
    """The number of the frame that shows a time; a Unix time has errors of a microsecond."""
    return int(time_s * fps + 1e-3)


def _clock(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, timezone.utc).strftime("%H:%M:%S UTC")


def _label(picture: Image, words: str, bottom: int) -> None:
    """White letters with a black edge, readable on any picture."""
    size = max(0.35, picture.shape[1] / 1300)
    for colour, thickness in ((0, 3), (255, 1)):
        place, font = (6, bottom), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(picture, words, place, font, size, (colour,) * 3, thickness, cv2.LINE_AA)
