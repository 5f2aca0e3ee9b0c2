"""One person in one camera, and one person over all cameras."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from reid.types import FloatArray

from .appearance import PersonAppearance
from .motion import Motion

TRACKS_KEPT = 4
"""Newest tracks of an identity whose appearance is kept: people look different from each side and
in each camera."""


@dataclass
class Identity:
    """One person. ``person`` is the name in the gallery, empty without one."""

    number: int
    person: str = ""
    tracks: deque[PersonAppearance] = field(default_factory=lambda: deque(maxlen=TRACKS_KEPT))
    seen: int = 0
    """The round in which it was last seen."""


@dataclass
class Track:
    """One person in one camera. ``box`` (4,) and ``score`` are the newest."""

    number: int
    motion: Motion
    appearance: PersonAppearance
    box: FloatArray
    score: float
    seen_s: float
    described_s: float
    hits: int = 1
    confirmed: bool = False
    missed: bool = False
    """Not found in the newest frame."""
    identity: Identity | None = None
    distance: float | None = None
    """The distance with which it was re-identified; None for a new person."""
