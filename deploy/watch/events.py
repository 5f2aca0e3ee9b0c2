"""Events: one JSON object per line, for each person of each frame and each change of a source.

    {"event": "person", "camera": "door", "time": 12.4, "frame": 124, "track": 3, "identity": 2,
     "box": [310, 75, 33, 88], "score": 0.91, "distance": 0.62,
     "candidate": {"person": "ann", "distance": 0.58, "margin": 0.21, "looks": 4}}
    {"event": "source", "camera": "yard", "state": "lost", "words": "...", "time": 1735689600.0}

``time`` of a person is the frame's: seconds into a file, Unix time of a device or stream (a
source's is always Unix time). ``box`` is left, top, width, height in pixels of the frame.
``identity`` is null until the track has enough features; ``distance`` is the one it was
re-identified with, null for a new person. ``candidate`` is a name of the gallery that several looks
agree on, null without one: a proposal, which later events may take back. ``margin`` is how much
farther the second person is, null if there is no other. No event states who a person is: a
name that no user has confirmed is not a fact. (Earlier versions had ``person``, the name, empty
without one.)
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ..cameras.camera import Frame, News
from .track import Candidate, Track


class TrackedFrame(NamedTuple):
    """One frame and its tracks."""

    frame: Frame
    tracks: Sequence[Track]


class LineFile(Protocol):
    """What events are written to."""

    def write(self, text: str, /) -> object:
        """Whole lines."""
        ...


class Sink(Protocol):
    """Receives results."""

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """The frames of one round."""
        ...

    def news(self, news: News) -> None:
        """A change of a source's state."""
        ...


class TrackSink(Protocol):
    """Receives events by track: see ``reid.deploy.watch.track_events``.

    Called from the main loop, so that neither method may wait for a disk or a network, or raise for
    one that fails.
    """

    def tracks(self, events: Sequence[dict[str, Any]]) -> None:
        """The events of one round, in order; plain values of JSON, not to be changed."""
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
        "box": [left, top, right - left, bottom - top],
        "score": round(track.score, 3),
        "distance": None if track.distance is None else round(track.distance, 4),
        "candidate": _candidate(track.candidate),
    }


def _candidate(found: Candidate | None) -> dict[str, Any] | None:
    if found is None:
        return None
    margin = None if found.margin is None else round(found.margin, 4)
    return {**found._asdict(), "distance": round(found.distance, 4), "margin": margin}


class EventWriter:
    """Writes events as whole lines to an open text file or an ``EventLog``."""

    def __init__(self, file: LineFile) -> None:
        self._file = file

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """One line per person. Raises OSError for stdout."""
        events = [person_event(one.frame, track) for one in seen for track in one.tracks]
        self._write("".join(json.dumps(event, allow_nan=False) + "\n" for event in events))

    def news(self, news: News) -> None:
        """One line per change. Raises OSError for stdout."""
        event = {"event": "source", **news._asdict(), "time": round(time.time(), 3)}
        self._write(json.dumps(event) + "\n")

    def _write(self, lines: str) -> None:
        if lines:
            self._file.write(lines)
            if flush := getattr(self._file, "flush", None):  # so that others can follow it
                flush()
