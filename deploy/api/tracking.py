"""``reid.Tracker``: identities for your own detection loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid.api.arrays import Array, checked_image
from reid.api.model import Model, matcher_of
from reid.errors import InputError
from reid.packages import named_packages
from reid.types import FloatArray, Image

from ..cameras.camera import Frame
from ..people.boxes import MIN_HEIGHT, People, no_people
from ..watch.track import Candidate
from ..watch.watching import Watcher
from .gallery import Gallery


@dataclass(frozen=True, slots=True)
class TrackedPerson:
    """One person in the newest frame.

    ``box`` (4,) is x1, y1, x2, y2 in pixels. ``track`` is the track's number in this camera;
    ``identity`` is the same for one person over all tracks, None until three embeddings of the
    person exist; ``distance`` is that to the appearance the person was recognised by, None for a
    new person. ``candidate`` (person, distance, margin, looks) is a name of the gallery that
    several looks agree on, None without one; ``person`` is its name, empty without one. It is a
    proposal: later frames may take it back.
    """

    track: int
    identity: int | None
    person: str
    box: FloatArray
    score: float
    distance: float | None
    candidate: Candidate | None = None


class Tracker:
    """Identities for your own detection loop: one camera, frame by frame.

    ``max_distance`` is the distance from which two appearances count as two people (default: as
    measured by ``Model.threshold``, or else 0.65 for embeddings, -0.7 for a network that compares
    pairs); ``gallery`` proposes names; ``fps`` is
    the frame rate if ``update`` gets no time. A person is tracked by motion and appearance, and
    reported from the third frame on.

    Raises InputError for anything but a model, ConfigError for a distance of the other sign.

    >>> tracker = reid.Tracker(model)
    >>> frame = np.full((240, 320, 3), 60, np.uint8)
    >>> for _ in range(4):
    ...     tracks = tracker.update([[100, 50, 140, 170]], frame)
    >>> [(one.track, one.identity) for one in tracks]
    [(1, 1)]
    """

    def __init__(
        self,
        model: Model,
        *,
        max_distance: float | None = None,
        gallery: Gallery | None = None,
        min_height: int = MIN_HEIGHT,
        fps: float = 25.0,
    ) -> None:
        if not fps > 0:
            raise InputError(f"fps must be above 0 (frames per second); found {fps}")
        self._model, self._fps = model, fps
        self._given = _GivenPeople()
        self._watcher = Watcher(
            self._given,
            matcher_of(model),
            limit=max_distance,
            gallery=None if gallery is None else gallery.opened(),
            min_height=min_height,
        )
        self._number, self._time_s = 0, 0.0

    def update(
        self,
        boxes: npt.ArrayLike,
        frame: Array,
        *,
        scores: npt.ArrayLike | None = None,
        time_s: float | None = None,
    ) -> list[TrackedPerson]:
        """Link one frame's boxes to tracks; returns the people tracked in it.

        ``boxes`` (N, 4) are x1, y1, x2, y2 in pixels of ``frame``, (H, W, 3) uint8 BGR;
        ``scores`` (N,) are the detector's in 0-1 (default 1). A box with a score below 0.5 only
        continues a track; others may begin one. ``time_s`` must rise from frame to frame.

        Raises InputError for arrays of another shape or kind, or a time that does not rise,
        ClosedError if the model was closed.
        """
        matcher_of(self._model)
        image = checked_image(frame, "the frame")
        self._given.people = _people(boxes, scores)
        now = self._time_s + (1 / self._fps if self._number else 0) if time_s is None else time_s
        if self._number and now <= self._time_s:
            raise InputError(
                f"time_s must rise from frame to frame; found {now} after {self._time_s}"
            )
        with named_packages():
            (seen,) = self._watcher.look_at([Frame("", self._number, now, image, 0.0)])
        self._number, self._time_s = self._number + 1, now
        return [
            TrackedPerson(
                track=one.number,
                identity=None if one.identity is None else one.identity.number,
                person="" if one.candidate is None else one.candidate.person,
                box=np.array(one.box, np.float32),
                score=one.score,
                distance=one.distance,
                candidate=one.candidate,
            )
            for one in seen.tracks
        ]


class _GivenPeople:
    """A detector that returns the caller's boxes."""

    name = "given"
    note = ""

    def __init__(self) -> None:
        self.people = no_people()

    def detect(self, frames: Sequence[Image]) -> list[People]:
        return [self.people for _ in frames]

    def close(self) -> None:
        """Nothing to close."""


def _people(boxes: npt.ArrayLike, scores: npt.ArrayLike | None) -> People:
    """Raises InputError."""
    found = _numbers("boxes", boxes)
    if found.size == 0:
        found = found.reshape(0, 4)
    if found.ndim != 2 or found.shape[1] != 4:
        raise InputError(
            f"boxes have shape {found.shape}; expected (N, 4): x1, y1, x2, y2 in pixels"
        )
    upside_down = np.flatnonzero((found[:, 2:] <= found[:, :2]).any(axis=1))
    if len(upside_down):
        raise InputError(
            f"box {upside_down[0]} is {found[upside_down[0]].tolist()}; expected x1, y1, x2, y2 "
            "with x2 above x1 and y2 above y1; convert boxes of x, y, width, height"
        )
    if scores is None:
        return People(found, np.ones(len(found), np.float32))
    sure = _numbers("scores", scores)
    if sure.shape != (len(found),):
        raise InputError(f"scores have shape {sure.shape}; expected ({len(found)},), one per box")
    return People(found, sure)


def _numbers(what: str, values: npt.ArrayLike) -> FloatArray:
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        raise InputError(
            f"{what} must be an array of numbers; found {type(values).__name__}"
        ) from None
    if not np.isfinite(array).all():
        raise InputError(f"{what} contain NaN or infinity; expected finite numbers")
    return array
