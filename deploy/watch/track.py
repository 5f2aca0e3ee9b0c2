"""One person in one camera, and one person over all cameras."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from reid.types import FloatArray

from .appearance import PersonAppearance
from .motion import Motion

TRACKS_KEPT = 4
"""Newest tracks of an identity whose appearance is kept: people look different from each side and
in each camera."""


class Look(NamedTuple):
    """What one image of a track says: the name of the nearest person, empty without one.

    ``margin`` is how much farther the second person is, None if there is no other.
    """

    person: str
    distance: float
    margin: float | None


class Candidate(NamedTuple):
    """A name that several looks agree on. It is a proposal, and no fact.

    ``distance`` and ``margin`` are those of the nearest look; ``looks`` is how many agree.
    """

    person: str
    distance: float
    margin: float | None
    looks: int


@dataclass
class Identity:
    """One person. ``seen_s`` is when it was last seen, in Unix time."""

    number: int
    tracks: deque[PersonAppearance] = field(default_factory=lambda: deque(maxlen=TRACKS_KEPT))
    seen: int = 0
    """The round in which it was last seen."""
    seen_s: float = 0.0


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
    look: PersonAppearance | None = None
    """The newest frame's image of this person alone; None where it was not described, or where
    another person is near."""
    described: PersonAppearance | None = None
    """The same, also where another person is near."""
    looked_s: float = -math.inf
    """When the newest of ``looks`` was."""
    looks: deque[Look] | None = None
    """The newest looks; None before the first."""
    candidate: Candidate | None = None
