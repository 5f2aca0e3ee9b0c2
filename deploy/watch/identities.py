"""Identities over all cameras: each track is compared with everyone seen before."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

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


KEEP_S = 24 * 3600.0
"""How long after it was last seen an identity is known: looks are no identity across days."""

SWEEP_S = 60.0
"""How often those that are too old are sought."""


class Identities:
    """Gives tracks their identities; numbers count from 1 and are never reused.

    A track keeps its identity, but two tracks of one frame never have the same. ``capacity`` 0 is
    the default for the kind of matcher. An identity that was not seen for ``keep_s`` is forgotten.
    ``run`` is the name of the run that gives numbers now.
    """

    def __init__(
        self, model: AppearanceModel, capacity: int = 0, keep_s: float = KEEP_S, run: str = ""
    ) -> None:
        usual = PAIR_CAPACITY if model.compares_pairs else CAPACITY
        self._model = model
        self._capacity = capacity or usual
        self._known: dict[int, Identity] = {}
        self._keep_s, self._run = keep_s, run
        self.next_number = 1
        """The number of the next new identity."""
        self._round = 0
        self._now_s = 0.0
        self._swept_s = -math.inf
        self.num_given = 0
        """How many identities were created."""

    @property
    def known(self) -> list[Identity]:
        """All that can be recognised, those seen last first."""
        return sorted(self._known.values(), key=lambda one: (-one.seen, -one.seen_s, -one.number))

    def restore(self, known: Iterable[Identity], next_number: int) -> None:
        """Know the identities of an earlier run. Call it before the first round."""
        self._known = {one.number: one for one in known}
        self.next_number = next_number
        self._forget()

    def begin_round(self, now_s: float | None = None) -> None:
        """Start a round at this Unix time (by default the machine's), before its cameras are
        processed: identities age by rounds, and expire by time."""
        self._round += 1
        self._now_s = time.time() if now_s is None else now_s
        if abs(self._now_s - self._swept_s) >= SWEEP_S:
            self._swept_s = self._now_s
            old = [n for n, one in self._known.items() if self._is_old(one)]
            for number in old:
                del self._known[number]

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
                track.identity.seen, track.identity.seen_s = self._round, self._now_s
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
        identity = Identity(self.next_number, run=self._run)
        self.next_number += 1
        self.num_given += 1
        self._known[identity.number] = identity
        return identity

    def _give(self, track: Track, identity: Identity, distance: float | None) -> None:
        track.identity, track.distance = identity, distance
        # The same object, so that later features of the track belong to the identity too.
        identity.tracks.append(track.appearance)

    def _forget(self) -> None:
        while len(self._known) > self._capacity:
            oldest = min(self._known.values(), key=lambda one: (one.seen, one.seen_s))
            del self._known[oldest.number]

    def _is_old(self, identity: Identity) -> bool:
        """Whether it was last seen too long ago, or in a recording of another time."""
        return abs(self._now_s - identity.seen_s) > self._keep_s
