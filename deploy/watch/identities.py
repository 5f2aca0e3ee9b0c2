"""Who is who over all cameras: each track's looks against those of everybody seen before."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..gallery import Gallery
from .appearance import AppearanceModel
from .assignment import assign
from .track import Identity, Track

MIN_DESCRIBED = 3
"""Descriptions of a track before it gets its identity (a choice: the first ones are of somebody
who is half in the picture)."""

CAPACITY, PAIR_CAPACITY = 1000, 100
"""Identities that are remembered; then those go that were unseen for longest. A network that
compares pairs keeps up to 8 descriptions of some 200 kB of each."""

NEIGHBOURS = 5
"""Images of a gallery among which the nearest that has a name is looked for."""


class Identities:
    """Gives tracks their identities; numbers count from 1 and never return.

    A track keeps its identity, but in one camera no two tracks of one frame have the same. A
    ``gallery`` of named people is asked first: everybody it knows is one identity with that name.
    ``capacity`` 0 is the matcher's kind's own.
    """

    def __init__(
        self, model: AppearanceModel, gallery: Gallery | None = None, capacity: int = 0
    ) -> None:
        usual = PAIR_CAPACITY if model.compares_pairs else CAPACITY
        self._model, self._gallery = model, gallery
        self._capacity = capacity or usual
        self._known: dict[int, Identity] = {}
        self._people: dict[str, Identity] = {}
        self._numbers = itertools.count(1)
        self._round = 0
        self.num_given = 0
        """How many numbers were given."""

    def begin_round(self) -> None:
        """Called before the cameras of a round are named: the clock of forgetting."""
        self._round += 1

    def name(self, tracks: Sequence[Track]) -> None:
        """Give the tracks of one camera's frame their identities, those that are due."""
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
        """Of two tracks of one identity the younger was mistaken for the elder, who is back."""
        holders: dict[int, Track] = {}
        for track in sorted(tracks, key=lambda track: track.number):
            identity = track.identity
            if identity is not None and identity.number in holders:
                if track.appearance in identity.tracks:
                    identity.tracks.remove(track.appearance)
                track.identity = track.distance = None
                # The younger's looks, and others like it, may have taken the place of the elder's.
                appearance = holders[identity.number].appearance
                if appearance not in identity.tracks:
                    identity.tracks.append(appearance)
            elif identity is not None:
                holders[identity.number] = track

    def _by_gallery(self, due: list[Track], gallery: Gallery, taken: set[int]) -> list[Track]:
        """Name those whom the gallery knows, the likest first; the others come back."""
        known = []
        for track in due:
            # A pair network's looks may be two descriptions: the nearer match counts.
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
        """Name those who were seen before, together at the least distance; the others come back."""
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
        # The looks themselves: what the track learns later is known of the identity too.
        identity.tracks.append(track.appearance)

    def _forget(self) -> None:
        while len(self._known) > self._capacity:
            oldest = min(self._known.values(), key=lambda identity: identity.seen)
            del self._known[oldest.number]
            self._people.pop(oldest.person, None)
