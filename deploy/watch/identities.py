"""Identities over all cameras: each track is compared with everyone seen before."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..gallery import GalleryStore
from .appearance import AppearanceModel
from .assignment import assign
from .track import Identity, Track

MIN_DESCRIBED = 3
"""Features of a track before it gets its identity (a choice: in the first ones the person is often
only half in the picture)."""

CAPACITY, PAIR_CAPACITY = 1000, 100
"""Largest number of identities; beyond it those not seen for longest are dropped. A network that
compares pairs keeps up to 8 feature maps of about 200 kB for each."""

NEIGHBOURS = 5
"""Nearest images of the gallery among which a named one is searched for."""


class Identities:
    """Gives tracks their identities; numbers count from 1 and are never reused.

    A track keeps its identity, but two tracks of one frame never have the same. A ``gallery`` of
    named people is searched first: each of them is one identity with that name. ``capacity`` 0 is
    the default for the kind of matcher.
    """

    def __init__(
        self, model: AppearanceModel, gallery: GalleryStore | None = None, capacity: int = 0
    ) -> None:
        usual = PAIR_CAPACITY if model.compares_pairs else CAPACITY
        self._model, self._gallery = model, gallery
        self._capacity = capacity or usual
        self._known: dict[int, Identity] = {}
        self._people: dict[str, Identity] = {}
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
            if self._gallery is not None:
                due = self._by_gallery(due, self._gallery, taken)
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

    def _by_gallery(self, due: list[Track], gallery: GalleryStore, taken: set[int]) -> list[Track]:
        """Give people from the gallery their identity, nearest first; returns the other tracks."""
        known = []
        for track in due:
            # A pair network may keep two feature maps per appearance: the nearer match counts.
            found = gallery.search(self._model.description([track.appearance]), NEIGHBOURS)
            named = [match for matches in found for match in matches if match.entry.person]
            best = min(named, key=lambda match: match.distance, default=None)
            if best is not None and best.distance <= self._model.limit:
                known.append((best.distance, best.entry.person, track))
        for distance, person, track in sorted(known, key=lambda one: one[0]):
            identity = self._people.get(person) or self._new(person)
            if identity.number not in taken:
                taken.add(identity.number)
                self._give(track, identity, distance)
        return [track for track in due if track.identity is None]

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

    def _new(self, person: str = "") -> Identity:
        identity = Identity(next(self._numbers), person)
        self.num_given += 1
        self._known[identity.number] = identity
        if person:
            self._people[person] = identity
        return identity

    def _give(self, track: Track, identity: Identity, distance: float | None) -> None:
        track.identity, track.distance = identity, distance
        # The same object, so that later features of the track belong to the identity too.
        identity.tracks.append(track.appearance)

    def _forget(self) -> None:
        while len(self._known) > self._capacity:
            oldest = min(self._known.values(), key=lambda identity: identity.seen)
            del self._known[oldest.number]
            self._people.pop(oldest.person, None)
