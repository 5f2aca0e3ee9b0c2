"""Events: one JSON object per line, for each person of each frame and each change of a source.

    {"event": "person", "camera": "door", "time": 12.4, "frame": 124, "track": 3, "identity": 2,
     "person": "", "box": [310, 75, 33, 88], "score": 0.91, "distance": 0.62}
    {"event": "source", "camera": "yard", "state": "lost", "words": "...", "time": 1735689600.0}

``time`` of a person is the frame's: seconds into a file, Unix time of a device or stream (a
source's is always Unix time). ``box`` is left, top, width, height in pixels of the frame.
``identity`` is null until the track has enough features; ``person`` is its name in the gallery;
``distance`` is the one it was re-identified with, null for a new person.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Protocol

from reid.errors import output_errors

from ..cameras.camera import Frame, News
from .track import Track


class TrackedFrame(NamedTuple):
    """One frame and its tracks."""

    frame: Frame
    tracks: Sequence[Track]


class Sink(Protocol):
    """Receives results."""

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """The frames of one round."""
        ...

    def news(self, news: News) -> None:
        """A change of a source's state."""
        ...


def person_event(frame: Frame, track: Track) -> dict[str, Any]:
    """The event of one person: see the module's text."""
    left, top, right, bottom = (round(float(edge)) for edge in track.box)
    identity = track.identity
    return {
        "event": "person",
        "camera": frame.camera,
        "time": round(frame.time_s, 3),
        "frame": frame.number,
        "track": track.number,
        "identity": None if identity is None else identity.number,
        "person": "" if identity is None else identity.person,
        "box": [left, top, right - left, bottom - top],
        "score": round(track.score, 3),
        "distance": None if track.distance is None else round(track.distance, 4),
    }


class EventWriter:
    """Writes events to an open text file, in whole lines, so that others can follow it."""

    def __init__(self, file: IO[str], name: Path = Path("-")) -> None:
        self._file, self._name = file, name

    @classmethod
    def appending(cls, path: Path) -> EventWriter:
        """Append to ``path``, as a log; ends an incomplete line of an earlier crash first."""
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  (closed by __exit__)
            end = file.seek(0, os.SEEK_END)
            if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                file.write("\n")
        return cls(file, path)

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """One line per person. Raises OutputError; OSError for stdout."""
        events = [person_event(one.frame, track) for one in seen for track in one.tracks]
        self._write("".join(json.dumps(event, allow_nan=False) + "\n" for event in events))

    def news(self, news: News) -> None:
        """One line per change. Raises OutputError; OSError for stdout."""
        event = {"event": "source", **news._asdict(), "time": round(time.time(), 3)}
        self._write(json.dumps(event) + "\n")

    def _write(self, lines: str) -> None:
        if not lines:
            return
        # The command handles errors of stdout: a reader that closes it early is not an error.
        with nullcontext() if self._name == Path("-") else output_errors(self._name):
            self._file.write(lines)
            self._file.flush()

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._name != Path("-"):
            with output_errors(self._name), self._file:
                self._file.flush()
                os.fsync(self._file.fileno())
