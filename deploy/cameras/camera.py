"""One source in its own thread: read, hand over, and open again what broke."""

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

from .readers import Decoded, Frames, Lost
from .sources import CameraSource

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
"""Between two attempts to open a stream that broke: doubled from the first to the longest."""

Read = Callable[[CameraSource], Frames]
Wait = Callable[[float], bool]
"""Waits so many seconds; true if the camera was stopped meanwhile."""


class Frame(NamedTuple):
    """A frame on its way through the toolkit.

    ``number`` is its place among all that its source gave, those that were lost or superseded
    included. ``time_s``: see ``Decoded``. ``ready_s`` is the monotonic time at which it arrived
    (live sources) or was handed over (files), from which latency is counted.
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
    """What became of a source's frames: handed over, superseded by a newer one, undecodable."""

    frames: int = 0
    dropped: int = 0
    lost: int = 0
    breaks: int = 0
    """How often a device or stream was lost."""


class CameraThread:
    """Reads ``source`` in a thread that runs ``run``.

    ``arrived`` guards what the thread and its reader share, and wakes both. A live source keeps
    its newest frame; any other waits until its frame was taken. ``wait`` is for tests.
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
        """A frame is there to be taken."""
        return self._slot is not None

    @property
    def finished(self) -> bool:
        """Nothing more will come."""
        return self._over and self._slot is None

    def take(self) -> Frame | None:
        """The frame that is there; called with ``arrived`` held."""
        frame, self._slot = self._slot, None
        if frame is None:
            return None
        self.counts.frames += 1
        return frame if self.source.live else frame._replace(ready_s=time.monotonic())

    def stop(self) -> None:
        """Ask the thread to end; it does so after the frame that it is reading."""
        self._stopped.set()

    def run(self) -> None:
        """Until the file ends, or for a device or stream until ``stop``."""
        try:
            if self.source.kind in ("video", "folder"):
                problem = self._read_once()
                with self._arrived:  # its end is told after its last frame
                    self._arrived.wait_for(self._accepts)
                if not self._stopped.is_set():
                    self._tell("failed" if problem else "ended", problem or "its end was reached")
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
            problem = self._read_once() or f"{self.source.name} gives no more frames"
            if self._position > before:
                delays = backoff_delays(self.source.name)
            if self._stopped.is_set():
                return
            if not self._broken:
                self._broken = True
                self.counts.breaks += 1
                self._tell("lost", f"{problem}; it is opened again and again")
            if self._wait(next(delays)):
                return

    def _read_once(self) -> str:
        """Open, and hand over what comes; what went wrong, in words, or nothing."""
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
            self._tell("back", "it gives frames again")
        number, self._position = self._position, self._position + 1
        if self.source.live and self.source.kind in ("video", "folder"):
            self._keep_pace(item.time_s)
        with self._arrived:
            self._arrived.wait_for(self._accepts)
            self.counts.dropped += self.waiting
            frame = Frame(self.source.name, number, item.time_s, item.image, time.monotonic())
            self._slot = frame
            self._arrived.notify_all()

    def _accepts(self) -> bool:
        """The place of the newest frame is free, or may be taken."""
        return self.source.live or not self.waiting or self._stopped.is_set()

    def _keep_pace(self, time_s: float) -> None:
        """Wait until a file that is played live would have come to ``time_s``."""
        now = time.monotonic()
        self._began_s = self._began_s or now - time_s
        if (ahead_s := self._began_s + time_s - now) > 0:
            self._wait(ahead_s)

    def _tell(self, state: str, words: str) -> None:
        self._news.append(News(self.source.name, state, words))


def backoff_delays(name: str) -> Iterator[float]:
    """Seconds until the next attempt: doubled each time to the longest, shortened at random.

    By up to a half, so that many cameras of one switch do not come back in step; the numbers
    are each camera's own and the same in every run.
    """
    rng = random.Random(name)
    delay_s = FIRST_DELAY_S
    while True:
        yield delay_s * rng.uniform(0.5, 1)
        delay_s = min(2 * delay_s, LONGEST_DELAY_S)
