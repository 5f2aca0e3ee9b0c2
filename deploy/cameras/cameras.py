"""Several cameras at once; their frames come in rounds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from reid.closing import Closeable

from .camera import CameraThread, Counts, Frame, News, Read
from .readers import read_source
from .sources import CameraSource

POLL_S = 0.1
"""How long a round waits for a frame before it is returned empty."""


class Cameras(Closeable):
    """All sources, each in its thread. A context manager.

    Files are read in step: a round has the next frame of every file or of none, so that the
    result does not depend on the speed of the threads. A live source's frame is in a round if it
    is new.
    """

    def __init__(self, sources: Sequence[CameraSource], read: Read = read_source) -> None:
        self._arrived = threading.Condition()
        self._news: deque[News] = deque()
        self._cameras = [
            CameraThread(source, self._arrived, self._news, read) for source in sources
        ]
        self._threads = ThreadPoolExecutor(max(1, len(sources)), thread_name_prefix="camera")
        self._running: list[Future[None]] = []

    @property
    def counts(self) -> dict[str, Counts]:
        """Camera -> its frame counts."""
        return {camera.source.name: camera.counts for camera in self._cameras}

    def rounds(self) -> Iterator[list[Frame]]:
        """At most one frame of each camera, until all have ended.

        A round is empty if nothing arrived for POLL_S, so that the caller can read ``news`` and
        decide whether to continue.
        """
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._ready() or self._over(), POLL_S)
                frames = [camera.take() for camera in self._ready()]
                over = self._over()
                self._arrived.notify_all()
            for thread in self._running:
                if over or thread.done():
                    thread.result()  # raises a thread's unexpected error
            yield [frame for frame in frames if frame is not None]
            if over:
                return

    def news(self) -> Iterator[News]:
        """Changes of the sources' state since the last call."""
        while self._news:
            yield self._news.popleft()

    def _over(self) -> bool:
        return all(camera.finished for camera in self._cameras)

    def _ready(self) -> list[CameraThread]:
        """Cameras of the next round: live sources with a new frame; files if all have one."""
        files = [c for c in self._cameras if not (c.source.live or c.finished)]
        in_step = all(camera.waiting for camera in files)
        return [c for c in self._cameras if c.waiting and (c.source.live or in_step)]

    def __enter__(self) -> Cameras:
        self._running = [self._threads.submit(camera.run) for camera in self._cameras]
        return self

    def close(self) -> None:
        """Stop the threads."""
        for camera in self._cameras:
            camera.stop()
        with self._arrived:
            self._arrived.notify_all()
        self._threads.shutdown()
