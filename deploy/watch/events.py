"""Events: one JSON object per line, for each person of each frame and each change of a source.

    {"event": "person", "camera": "door", "time": 12.4, "unix_time": 1735689600.0, "frame": 124,
     "seconds": 12.4, "run": "20250101T000000Z-1b9d6bcd", "track": 3, "identity": 2,
     "box": [310, 75, 33, 88], "score": 0.91, "distance": 0.62,
     "candidate": {"person": "ann", "distance": 0.58, "margin": 0.21, "looks": 4}}
    {"event": "source", "camera": "yard", "state": "lost", "words": "...", "time": 1735689600.0}

``time`` of a person is the frame's: seconds into a file, Unix time of a device or stream (a
source's is always Unix time). ``unix_time`` is null for a recording whose start is not known;
``seconds`` are into the file, or since a live camera's first frame. ``box`` is left, top, width,
height in pixels of the frame. ``identity`` is null until the track has enough features;
``distance`` is the one it was re-identified with, null for a new person. ``candidate`` is a name of
the gallery that several looks agree on, null without one: a proposal, which later events may take
back. ``margin`` is how much farther the second person is, null if there is no other. No event
states who a person is: a name that no user has confirmed is not a fact. (Earlier versions had
``person``, the name, empty without one.)
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ..cameras.camera import Frame, News
from .clock import RunClock
from .track import Candidate, Track


class TrackedFrame(NamedTuple):
    """One frame, its tracks, and the tracks that ended with it."""

    frame: Frame
    tracks: Sequence[Track]
    ended: Sequence[Track] = ()


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


def person_event(frame: Frame, track: Track, clock: RunClock) -> dict[str, Any]:
    """The event of one person: see the module's text."""
    return {"event": "person", **place_of(frame, clock), **fields_of(track)}


def place_of(frame: Frame, clock: RunClock) -> dict[str, Any]:
    """An event's camera and times."""
    unix_s = clock.unix_s(frame)
    return {
        "camera": frame.camera,
        "time": round(frame.time_s, 3),
        "unix_time": None if unix_s is None else round(unix_s, 3),
        "frame": frame.number,
        "seconds": round(clock.seconds(frame), 3),
        "run": clock.run,
    }


def fields_of(track: Track) -> dict[str, Any]:
    """What an event says of a track."""
    left, top, right, bottom = (round(float(edge)) for edge in track.box)
    identity = track.identity
    return {
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
    """Writes events as whole lines to an open text file or an ``EventLog``.

    It takes the people of every frame, and events by track.
    """

    def __init__(self, file: LineFile, clock: RunClock | None = None) -> None:
        self._file, self._clock = file, clock or RunClock()

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """One line per person. Raises OSError for stdout."""
        clock = self._clock
        self.tracks([person_event(one.frame, track, clock) for one in seen for track in one.tracks])

    def tracks(self, events: Sequence[dict[str, Any]]) -> None:
        """One line per event. Raises OSError for stdout."""
        self._write("".join(json.dumps(event, allow_nan=False) + "\n" for event in events))

    def news(self, news: News) -> None:
        """One line per change. Raises OSError for stdout."""
        now_s = round(time.time(), 3)
        event = {"event": "source", **news._asdict(), "time": now_s, "run": self._clock.run}
        self._write(json.dumps(event) + "\n")

    def _write(self, lines: str) -> None:
        if tend := getattr(self._file, "tend", None):  # a file that grows old without events
            tend()
        if lines:
            self._file.write(lines)
            if flush := getattr(self._file, "flush", None):  # so that others can follow it
                flush()
