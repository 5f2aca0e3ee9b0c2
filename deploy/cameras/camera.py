"""One source in its own thread: read it, hand over its frames, reconnect when it breaks."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import cv2

from reid.errors import DataError
from reid.types import Image

from .masks import blackened
from .readers import Decoded, Frames, Lost
from .sources import CameraSource

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
"""Delay before reconnecting to a stream: doubled from the first to the longest."""

LONGEST_PAUSE_S = 5.0
"""Longest pause between two frames of a file that is played at its own speed (a choice)."""

GONE = ("lost", "ended", "failed")
"""States of a source that gives no frames for now, or any more."""

Read = Callable[[CameraSource], Frames]
Wait = Callable[[float], bool]
"""Waits this many seconds; true if the camera was stopped meanwhile."""


class Frame(NamedTuple):
    """One frame of a camera.

    ``number`` counts all frames of its source, lost and dropped ones too. ``time_s``: see
    ``Decoded``. ``ready_s`` is the monotonic time at which it arrived (live sources) or was
    handed over (files); latency is counted from it.
    """

    camera: str
    number: int
    time_s: float
    image: Image
    ready_s: float


class News(NamedTuple):
    """``state`` is ``lost``, ``back``, ``ended``, or ``failed`` for a file that cannot be read."""

    camera: str
    state: str
    words: str


@dataclass
class Counts:
    """Frames of a source: handed over, dropped for a newer one, undecodable."""

    frames: int = 0
    dropped: int = 0
    lost: int = 0
    breaks: int = 0
    """How often the connection to a device or stream was lost."""


class CameraThread:
    """Reads ``source``; a thread runs ``run``.

    ``arrived`` guards what the thread and its consumer share, and wakes both. A live source keeps
    only its newest frame; any other waits until its frame is taken. ``wait`` is for tests.
    """

    def __init__(
        self,
        source: CameraSource,
        arrived: threading.Condition,
        news: deque[News],
        read: Read,
        wait: Wait | None = None,
    ) -> None:
        self.source = source
        self.counts = Counts()
        self._arrived, self._news, self._read = arrived, news, read
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait
        self._slot: Frame | None = None
        self._over = False
        self._broken = False
        self._position = 0
        self._began_s = 0.0

    @property
    def waiting(self) -> bool:
        """Whether a frame can be taken."""
        return self._slot is not None

    @property
    def finished(self) -> bool:
        """No more frames will come."""
        return self._over and self._slot is None

    def take(self) -> Frame | None:
        """The frame that is ready; call it with ``arrived`` held."""
        frame, self._slot = self._slot, None
        if frame is None:
            return None
        self.counts.frames += 1
        return frame if self.source.live else frame._replace(ready_s=time.monotonic())

    def stop(self) -> None:
        """Ask the thread to end, after the frame that it is reading."""
        self._stopped.set()

    def run(self) -> None:
        """Until the file ends, or for a device or stream until ``stop``."""
        try:
            if self.source.kind in ("video", "folder"):
                problem = self._read_once()
                with self._arrived:  # report the end after the last frame
                    self._arrived.wait_for(self._accepts)
                if not self._stopped.is_set():
                    self._report("failed" if problem else "ended", problem or "end of the file")
            else:
                self._keep_open()
        finally:
            with self._arrived:
                self._over = True
                self._arrived.notify_all()

    def _keep_open(self) -> None:
        delays = backoff_delays(self.source.name)
        while True:
            before = self._position
            problem = self._read_once() or f"{self.source.name} sends no more frames"
            if self._position > before:
                delays = backoff_delays(self.source.name)
            if self._stopped.is_set():
                return
            if not self._broken:
                self._broken = True
                self.counts.breaks += 1
                self._report("lost", f"{problem}; reconnecting")
            if self._wait(next(delays)):
                return

    def _read_once(self) -> str:
        """Open the source and hand over its frames; returns what went wrong, or an empty string."""
        try:
            with closing(self._read(self.source)) as frames:
                for item in frames:
                    if self._stopped.is_set():
                        break
                    self._accept(item)
        except DataError as error:
            return str(error)
        except cv2.error as error:
            return f"{self.source.name} cannot be decoded (OpenCV error {error.code})"
        return ""

    def _accept(self, item: Decoded | Lost) -> None:
        if isinstance(item, Lost):
            self.counts.lost += item.frames
            self._position += item.frames
            return
        if self._broken:
            self._broken = False
            self._report("back", "receiving frames again")
        image = blackened(item.image, self.source.mask)
        number, self._position = self._position, self._position + 1
        if self.source.live and self.source.kind in ("video", "folder"):
            self._keep_pace(item.time_s)
        with self._arrived:
            self._arrived.wait_for(self._accepts)
            self.counts.dropped += self.waiting
            frame = Frame(self.source.name, number, item.time_s, image, time.monotonic())
            self._slot = frame
            self._arrived.notify_all()

    def _accepts(self) -> bool:
        """Whether a new frame may be stored."""
        return self.source.live or not self.waiting or self._stopped.is_set()

    def _keep_pace(self, time_s: float) -> None:
        """Wait until ``time_s`` of a file that is played at its own speed."""
        now = time.monotonic()
        self._began_s = self._began_s or now - time_s
        ahead_s = self._began_s + time_s - now
        if ahead_s > LONGEST_PAUSE_S:  # an hour in which nothing was recorded is skipped
            self._began_s -= ahead_s - LONGEST_PAUSE_S
            ahead_s = LONGEST_PAUSE_S
        if ahead_s > 0:
            self._wait(ahead_s)

    def _report(self, state: str, words: str) -> None:
        self._news.append(News(self.source.name, state, words))


def backoff_delays(name: str) -> Iterator[float]:
    """Seconds until the next attempt: doubled up to the longest, then shortened at random.

    By up to a half, so that the cameras of one switch do not all reconnect at once. The random
    numbers depend on the camera's name only, so every run has the same.
    """
    rng = random.Random(name)
    delay_s = FIRST_DELAY_S
    while True:
        yield delay_s * rng.uniform(0.5, 1)
        delay_s = min(2 * delay_s, LONGEST_DELAY_S)
