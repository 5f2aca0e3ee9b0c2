"""Frames and recordings of a match: files inside the folders that were given, and no others."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from reid.data.images import decode_image, read_image_file
from reid.errors import DataError

from ..gallery import GalleryEntry
from ..gallery.pictures import jpeg
from .refusals import Refusal

TICKET_S = 300.0
"""How long a recording can be opened by its ticket (a choice)."""

_MAX_TICKETS = 10_000
_LONGEST_FRAME = 1 << 16
"""Pixels of a frame's longer side. Frames are not reduced: a match's box is in their pixels."""

_TYPES = {".webm": "video/webm", ".mp4": "video/mp4"}


@dataclass(frozen=True, slots=True)
class Recording:
    """A video file, the seconds into it, and its media type."""

    file: Path
    seconds: float
    type: str


Find = Callable[[Path, str, float], tuple[Path, float] | None]
"""Folder, camera and time -> the file of that moment and the seconds into it."""


class Media:
    """Frames of the folder ``frames``, recordings of ``recordings`` as ``find`` finds them."""

    def __init__(
        self,
        frames: Path | None = None,
        recordings: Path | None = None,
        find: Find = lambda folder, camera, time_s: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._frames = frames.resolve() if frames else None
        self._recordings = recordings.resolve() if recordings else None
        self._find, self._clock = find, clock
        self._lock = threading.Lock()
        self._tickets: OrderedDict[str, tuple[float, Recording]] = OrderedDict()

    def has_frame(self, entry: GalleryEntry) -> bool:
        """Whether the whole frame is kept."""
        return self._frame_file(entry) is not None

    def frame(self, entry: GalleryEntry) -> bytes:
        """The frame as JPEG, encoded again. Raises Refusal if it is not kept."""
        file = self._frame_file(entry)
        try:
            if file is not None:
                return jpeg(decode_image(read_image_file(str(file)), "the frame"), _LONGEST_FRAME)
        except DataError:  # it names the file's path
            pass
        raise Refusal(HTTPStatus.NOT_FOUND, "the frame of this image is not kept")

    def has_video(self, entry: GalleryEntry) -> bool:
        """Whether a recording of that moment is kept."""
        return self.recording(entry) is not None

    def recording(self, entry: GalleryEntry) -> Recording | None:
        """The recording of an image's moment, if there is one."""
        if self._recordings is None or not entry.camera or entry.time_s is None:
            return None
        found = self._find(self._recordings, entry.camera, entry.time_s)
        if found is None:
            return None
        file = inside(self._recordings, found[0])
        kind = _TYPES.get(file.suffix) if file else None
        return Recording(file, found[1], kind) if file and kind else None

    def ticket(self, entry: GalleryEntry) -> tuple[str, Recording]:
        """A ticket that opens the recording for a while. Raises Refusal if there is none."""
        recording = self.recording(entry)
        if recording is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is no recording of this moment")
        ticket = secrets.token_urlsafe(24)
        with self._lock:
            self._tickets[ticket] = (self._clock() + TICKET_S, recording)
            while len(self._tickets) > _MAX_TICKETS:
                self._tickets.popitem(last=False)
        return ticket, recording

    def opened(self, ticket: str) -> Recording:
        """The recording of a ticket. Raises Refusal for one that is unknown or too old."""
        with self._lock:
            until, recording = self._tickets.get(ticket, (0.0, None))
        if recording is None or self._clock() > until or not recording.file.is_file():
            raise Refusal(HTTPStatus.NOT_FOUND, "this recording is no longer open; open it again")
        return recording

    def _frame_file(self, entry: GalleryEntry) -> Path | None:
        if self._frames is None or not entry.picture_ref or "\0" in entry.picture_ref:
            return None
        return inside(self._frames, self._frames / entry.picture_ref)


def inside(folder: Path, file: Path) -> Path | None:
    """The regular file, with links followed, if it lies in ``folder``."""
    try:
        real = file.resolve()
        return real if real.is_relative_to(folder) and real.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a circle of links, a malformed name
        return None
