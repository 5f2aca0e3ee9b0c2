"""What a frame's time is: seconds into a recording, and Unix time where that is known."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from reid.errors import ConfigError

from ..cameras.camera import Frame
from ..cameras.containers import created_s
from ..cameras.sources import CameraSource
from ..gallery.times import seconds_from_text

Starts = Mapping[str, float | None]
"""Camera -> the Unix time at which its recording begins; None if it is not known."""


class RunClock:
    """The times of a run's frames, and the run's own name.

    ``starts`` has the recordings; any other camera is a device or a stream, whose frames have Unix
    times already.
    """

    def __init__(self, starts: Starts | None = None, run: str = "") -> None:
        self.starts = dict(starts or {})
        self.run = run or run_name()
        self._first_s: dict[str, float] = {}

    def unix_s(self, frame: Frame) -> float | None:
        """A frame's Unix time; None for a recording without a known start."""
        if frame.camera not in self.starts:
            return frame.time_s
        start_s = self.starts[frame.camera]
        return None if start_s is None else start_s + frame.time_s

    def seconds(self, frame: Frame) -> float:
        """Seconds into a recording; for a device or stream since its first frame of this run."""
        if frame.camera in self.starts:
            return frame.time_s
        return frame.time_s - self._first_s.setdefault(frame.camera, frame.time_s)


def run_name() -> str:
    """A new name of a run: when it began (UTC), and some letters that make it unique."""
    now = datetime.now(timezone.utc)
    return f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


def starts_from(words: Sequence[str], sources: Sequence[CameraSource]) -> dict[str, float | None]:
    """When each recording begins, from ``TIME`` (of all) and ``NAME=TIME``.

    Without one, a video has the time of its container, if that says one. Raises ConfigError for a
    name that is no recording's, and two times of one recording; DataError for a malformed time.
    """
    recordings = {one.name: one for one in sources if one.kind in ("video", "folder")}
    given: dict[str, float] = {}
    for word in words:
        name, equals, text = word.rpartition("=")
        if equals and name not in recordings:
            raise ConfigError(
                f"--start-time {name}=...: no recording has this name; the recordings are "
                f"{', '.join(recordings) or 'none'}; devices and streams have the time of day"
            )
        if not recordings:
            raise ConfigError("--start-time is for recordings, and every source is live")
        if name in given:
            which = f"of {name}" if name else "for all recordings"
            raise ConfigError(f"--start-time is given twice {which}; give one")
        given[name] = seconds_from_text(text)
    return {
        name: given.get(name, given.get("", _of_container(one))) for name, one in recordings.items()
    }


def _of_container(source: CameraSource) -> float | None:
    return created_s(Path(source.url)) if source.kind == "video" else None
