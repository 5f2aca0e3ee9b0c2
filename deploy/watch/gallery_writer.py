"""A thread that puts looks into a gallery, so that the cameras never wait for it.

Looks wait in a queue of limited length. While the gallery cannot be written (a full disk, another
writer, a server that is down), they wait, and the worst are dropped and counted; afterwards it goes
on. What is older than ``keep_days`` is erased at the start and every hour.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from reid.closing import Closeable
from reid.errors import ReidError
from reid.progress import Say

from ..gallery import GalleryEntry, GalleryStore
from ..gallery.pictures import jpeg
from ..gallery.retention import crop_name, prune
from .appearance import PersonAppearance
from .frames import FrameFolder
from .looks import PersonLook

MOST_WAITING = 256
"""Looks that wait for the gallery (a choice: minutes of a busy camera)."""

BATCH_S = 1.0
"""How long looks are gathered for one transaction (a choice)."""

RETRY_S = 5.0
"""How often a gallery that cannot be written is tried (a choice)."""

EXPIRY_S = 3600.0
"""How often what is too old is erased."""

CLOSING_S = 10.0
"""How long the end of a run waits for a gallery that cannot be written (a choice)."""

DAY_S = 86_400.0

Erase = Callable[[float], object]
"""Erases everything from before a Unix time, in another place than the gallery."""


class Waiting(NamedTuple):
    """A look in the queue, with its picture."""

    look: PersonLook
    track: int
    picture: bytes


class GalleryWriter(Closeable):
    """Puts looks into ``gallery``. A context manager, which starts and ends the thread.

    ``describe`` makes the matcher's features of appearances. ``frames`` keeps whole frames,
    ``erase`` are further places that expire. ``enrolled``, ``dropped`` and ``erased`` count images
    of people.
    """

    def __init__(
        self,
        gallery: GalleryStore,
        describe: Callable[[Sequence[PersonAppearance]], Any],
        keep_days: float,
        say: Say,
        *,
        frames: FrameFolder | None = None,
        erase: Sequence[Erase] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.enrolled = self.dropped = self.erased = 0
        self._gallery, self._describe, self._say = gallery, describe, say
        self._keep_s, self._frames = keep_days * DAY_S, frames
        self._erase = [*erase, *([frames.erase_before] if frames else [])]
        self._now = now
        self._changed = threading.Condition()
        self._waiting: list[Waiting] = []
        self._closing = False
        self._problem = ""
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="gallery")
        self._running: Future[None] | None = None

    def put(self, look: PersonLook, track: int) -> str | None:
        """Queue a look; the worst of the queue is dropped if there is no room.

        Returns the file of its picture, where frames are kept and it was not dropped itself. Raises
        what ended the thread.
        """
        if self._running is not None and self._running.done():
            self._running.result()
        one = Waiting(look, track, jpeg(look.crop))
        with self._changed:
            self._waiting.append(one)
            self._make_room()
            kept = any(other is one for other in self._waiting)
        if self._frames is None or look.frame is None or not kept:
            return None
        return str(self._frames.folder / crop_name(self._name(self._frames, look), track))

    def close(self) -> None:
        """Write what waits, if that is possible within CLOSING_S; the rest is dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._threads.shutdown()
        if self._running is not None:
            self._running.result()

    def __enter__(self) -> GalleryWriter:
        self._running = self._threads.submit(self._run)
        return self

    def _run(self) -> None:
        expiry_s = give_up_s = 0.0
        while True:
            if time.monotonic() >= expiry_s and self._expire():
                expiry_s = time.monotonic() + EXPIRY_S
            with self._changed:
                pause_s = RETRY_S if self._problem else BATCH_S
                self._changed.wait_for(lambda: self._closing, pause_s)
                batch, self._waiting = self._waiting, []
                closing = self._closing
            if batch and not self._add(batch):
                with self._changed:
                    self._waiting = [*batch, *self._waiting]
                    self._make_room()
            if closing:
                give_up_s = give_up_s or time.monotonic() + CLOSING_S
                if not self._waiting or time.monotonic() >= give_up_s:
                    self._drop(len(self._waiting))
                    return
                time.sleep(BATCH_S)

    def _make_room(self) -> None:
        """Drop the worst looks that are too many."""
        for _ in range(len(self._waiting) - MOST_WAITING):
            self._waiting.remove(min(self._waiting, key=lambda one: one.look.quality))
            self._drop(1)

    def _add(self, batch: Sequence[Waiting]) -> bool:
        """Put looks into the gallery; whether that was possible."""

        def add() -> None:
            names = [self._keep(one) for one in batch]
            entries = [_entry(one, name) for one, name in zip(batch, names, strict=True)]
            described = self._describe([one.look.appearance for one in batch])
            self.enrolled += self._gallery.add(described, entries)

        return self._done(add)

    def _keep(self, one: Waiting) -> str:
        """Write a look's frame and picture, where frames are kept; returns the frame's name."""
        if self._frames is None or one.look.frame is None:
            return ""
        name = self._name(self._frames, one.look)
        self._frames.write(name, one.look.frame())
        self._frames.write(crop_name(name, one.track), one.picture)
        return name

    @staticmethod
    def _name(frames: FrameFolder, look: PersonLook) -> str:
        place: dict[str, Any] = look.place
        return frames.name_of(place["camera"], place["unix_time"], place["frame"])

    def _expire(self) -> bool:
        """Erase what is older than ``keep_days``; whether that was possible.

        Images with a name stay: a user put them there, or said who it is.
        """

        def expire() -> None:
            now_s = self._now()
            self.erased += prune(self._gallery, self._keep_s, now_s, named=False)
            for erase in self._erase:
                erase(now_s - self._keep_s)

        return self._done(expire)

    def _done(self, work: Callable[[], None]) -> bool:
        """Do it, or say once why it cannot be done now."""
        try:
            work()
        except ReidError as error:
            if not self._problem:
                self._say(f"reid: {error}; the cameras go on, and the gallery is tried again")
            self._problem = str(error)
            return False
        if self._problem:
            lost = f"; {self.dropped} images of people were dropped" if self.dropped else ""
            self._say(f"reid: {self._gallery.name}: the gallery is written again{lost}")
        self._problem = ""
        return True

    def _drop(self, count: int) -> None:
        """Count what found no room, and say so the first time."""
        if count and not self.dropped:
            self._say(
                f"reid: {self._gallery.name} takes images of people too slowly; the worst of them "
                "are dropped, and counted at the end"
            )
        self.dropped += count


def _entry(one: Waiting, frame_name: str) -> GalleryEntry:
    place: dict[str, Any] = one.look.place
    return GalleryEntry(
        place["camera"],
        camera=place["camera"],
        time_s=place["unix_time"],
        box=one.look.box,
        picture=one.picture,
        frame=place["frame"],
        seconds=place["seconds"],
        track=one.track,
        run=place["run"],
        picture_ref=frame_name,
    )
