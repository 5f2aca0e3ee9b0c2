"""Events by track: a few for each person in each camera, in place of one for every frame.

    {"event": "track", "state": "entered", "camera": "door", "time": 12.4,
     "unix_time": 1735689600.0, "frame": 124, "seconds": 12.4, "run": "20250101T000000Z-1b9d6bcd",
     "track": 3, "identity": 2, "box": [310, 75, 33, 88], "score": 0.91, "distance": 0.62,
     "candidate": null, "zones": [], "crop": null}

``state`` is

- ``entered``: the track begins; every track has one such event, and later one ``left``;
- ``seen``: it is still there, every few seconds, and whenever its identity is found or changes;
- ``named``, ``renamed``: it got a candidate's name, or another one; ``candidate`` is null where the
  name was taken back;
- ``left``: the track ended, with the time and place at which the person was last seen. It comes a
  few seconds later, or when the camera is lost, its file is over, or the run ends.

The other fields are those of the events of every frame (``reid.deploy.watch.events``). ``zones``
are those the person stands in; ``crop`` is the file of the track's best picture so far, where
pictures are kept in files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..cameras.camera import GONE, Frame, News
from .clock import RunClock
from .events import TrackedFrame, TrackSink, fields_of, place_of
from .track import Track

SEEN_EVERY_S = 10.0
"""Seconds between two ``seen`` events of a track (a choice)."""

ZonesOf = Callable[[Frame, Track], Sequence[str]]
"""The zones in which a person stands."""

CropOf = Callable[[str, int], str | None]
"""The file of the best picture so far of a camera's track."""


def no_crop(camera: str, track: int) -> str | None:
    """Where pictures are not kept in files."""
    return None


@dataclass
class _Open:
    """A track that entered, with its place and fields of the frame in which it was last seen."""

    place: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    identity: int | None = None
    name: str = ""
    next_s: float = 0.0


class TrackEvents:
    """A sink that makes events by track, and hands them to ``sinks``.

    Call ``finish`` at the end of the run. ``entered`` and ``left`` count tracks.
    """

    def __init__(
        self,
        clock: RunClock,
        sinks: Sequence[TrackSink],
        *,
        seen_every_s: float = SEEN_EVERY_S,
        zones: ZonesOf = lambda frame, track: (),
        crop: CropOf = no_crop,
    ) -> None:
        self.entered = self.left = 0
        self._clock, self._sinks, self._seen_every_s = clock, sinks, seen_every_s
        self._zones, self._crop = zones, crop
        self._open: dict[tuple[str, int], _Open] = {}

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """One round."""
        events: list[dict[str, Any]] = []
        for one in seen:
            place = place_of(one.frame, self._clock)
            events += [event for track in one.tracks for event in self._of(one.frame, track, place)]
            events += self._leave([(one.frame.camera, track.number) for track in one.ended])
        self._send(events)

    def news(self, news: News) -> None:
        """A camera that is lost or over has no people any more."""
        if news.state in GONE:
            self._send(self._leave([key for key in self._open if key[0] == news.camera]))
        for sink in self._sinks:
            sink.news(news)

    def finish(self) -> None:
        """Everyone leaves, as the run ends."""
        self._send(self._leave([*self._open]))

    def _of(self, frame: Frame, track: Track, place: dict[str, Any]) -> list[dict[str, Any]]:
        """The events of a track in one frame."""
        key = (frame.camera, track.number)
        is_new = key not in self._open
        one = self._open.setdefault(key, _Open())
        one.place = place
        one.fields = {**fields_of(track), "zones": [*self._zones(frame, track)]}
        identity, name = one.fields["identity"], track.candidate.person if track.candidate else ""
        states = []
        if is_new:
            self.entered += 1
            states.append("entered")
        elif identity != one.identity or not 0 < one.next_s - frame.time_s <= self._seen_every_s:
            states.append("seen")
        if name != one.name:
            states.append("renamed" if one.name else "named")
        if states:
            one.next_s = frame.time_s + self._seen_every_s
        one.identity, one.name = identity, name
        return [self._event(state, key, one) for state in states]

    def _leave(self, keys: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
        events = []
        for key in keys:
            one = self._open.pop(key, None)
            if one is not None:  # else a track of no frame that was handed over
                self.left += 1
                events.append(self._event("left", key, one))
        return events

    def _event(self, state: str, key: tuple[str, int], one: _Open) -> dict[str, Any]:
        head = {"event": "track", "state": state}
        return {**head, **one.place, **one.fields, "crop": self._crop(*key)}

    def _send(self, events: Sequence[dict[str, Any]]) -> None:
        if events:
            for sink in self._sinks:
                sink.tracks(events)
