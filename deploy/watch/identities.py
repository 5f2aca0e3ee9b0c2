"""Identities over all cameras: each track is compared with everyone seen before."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from .appearance import AppearanceModel
from .assignment import assign
from .track import Identity, Track

MIN_DESCRIBED = 3
"""Features of a track before it gets its identity (a choice: in the first ones the person is often
only half in the picture)."""

CAPACITY, PAIR_CAPACITY = 1000, 100
"""Largest number of identities; beyond it those not seen for longest are dropped. A network that
compares pairs keeps up to 8 feature maps of about 200 kB for each."""


class Identities:
    """Gives tracks their identities; numbers count from 1 and are never reused.

    A track keeps its identity, but two tracks of one frame never have the same. ``capacity`` 0 is
    the default for the kind of matcher.
    """

    def __init__(self, model: AppearanceModel, capacity: int = 0) -> None:
        usual = PAIR_CAPACITY if model.compares_pairs else CAPACITY
        self._model = model
        self._capacity = capacity or usual
        self._known: dict[int, Identity] = {}
        self._numbers = itertools.count(1)
        self._round = 0
        self.num_given = 0
        """How many identities were created."""

    def begin_round(self) -> None:
        """Start a round, before its cameras are processed: identities age by rounds."""
        self._round += 1

    def name(self, tracks: Sequence[Track]) -> None:
        """Give an identity to the tracks of one camera's frame that have enough features."""
        self._part(tracks)
        due = [
            track
            for track in tracks
            if track.identity is None and track.appearance.count >= MIN_DESCRIBED
        ]
        if due:
            taken = {track.identity.number for track in tracks if track.identity is not None}
            for track in self._by_appearance(due, taken):
                self._give(track, self._new(), None)
        for track in tracks:
            if track.identity is not None:
                track.identity.seen = self._round
        self._forget()

    @staticmethod
    def _part(tracks: Sequence[Track]) -> None:
        """Of two tracks of one identity the newer one was mistaken for the older, now back."""
        holders: dict[int, Track] = {}
        for track in sorted(tracks, key=lambda track: track.number):
            identity = track.identity
            if identity is not None and identity.number in holders:
                if track.appearance in identity.tracks:
                    identity.tracks.remove(track.appearance)
                track.identity = track.distance = None
                # The newer track's appearance may have replaced the older one's.
                appearance = holders[identity.number].appearance
                if appearance not in identity.tracks:
                    identity.tracks.append(appearance)
            elif identity is not None:
                holders[identity.number] = track

    def _by_appearance(self, due: list[Track], taken: set[int]) -> list[Track]:
        """Re-identify people seen before, at the least total distance; returns the others."""
        known = [identity for identity in self._known.values() if identity.number not in taken]
        columns = [appearance for identity in known for appearance in identity.tracks]
        if not (due and columns):
            return due
        starts = np.cumsum([0, *(len(identity.tracks) for identity in known[:-1])])
        table = self._model.distances([track.appearance for track in due], columns)
        nearest = np.minimum.reduceat(table, starts, axis=1)
        pairs = assign(self._model.relative(nearest), 1.0)
        for row, column in pairs:
            self._give(due[row], known[column], float(nearest[row, column]))
        named = {row for row, _ in pairs}
        return [track for row, track in enumerate(due) if row not in named]

    def _new(self) -> Identity:
        identity = Identity(next(self._numbers))
        self.num_given += 1
        self._known[identity.number] = identity
        return identity

    def _give(self, track: Track, identity: Identity, distance: float | None) -> None:
        track.identity, track.distance = identity, distance
        # The same object, so that later features of the track belong to the identity too.
        identity.tracks.append(track.appearance)

    def _forget(self) -> None:
        while len(self._known) > self._capacity:
            oldest = min(self._known.values(), key=lambda identity: identity.seen)
            del self._known[oldest.number]
