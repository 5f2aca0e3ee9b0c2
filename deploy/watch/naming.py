"""Names for tracks, from a gallery: a proposal that several looks agree on, and that may go again.

A look is one image of a track. It votes for the nearest person of the gallery if that one is within
the limit, and nearer than the second person by a margin. Limits are measured between single images,
so that a look is one too, and not the track's mean, which is nearer to everybody.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..gallery import GalleryStore, Match, Where
from .appearance import AppearanceModel
from .track import Candidate, Look, Track


@dataclass(frozen=True, slots=True)
class NamingSettings:
    """When a name is given. All inferred, and checked with tests/benchmarks/bench_names.py."""

    margin: float = 0.15
    """How much farther the second person of the gallery must be, as a share of the limit: people in
    like clothes are nearer to one another than that."""
    least_looks: int = 3
    """Looks that must agree: with one, a third of the people outside the
    gallery got a name in the trial."""
    look_every_s: float = 0.4
    """Least time between two looks: images of successive frames are one look, not several."""
    kept_looks: int = 10
    """Newest looks that count, about five seconds of them: a track may have gone over to someone
    else."""
    agree: float = 0.5
    """Share of those looks that must agree to give a name; looks that name no one count too."""
    keep: float = 0.3
    """Share below which it is taken back: lower than ``agree``, so that it does not flicker."""


USUAL_NAMING = NamingSettings()

NEIGHBOURS = 20
"""Nearest images of the gallery in which the first and the second person are sought. If all are of
one person, the second is at least as far as the last of them."""


NAMED = Where(named=True)
"""Only images with a name: a gallery that cameras fill has many without, which would take all
places among the nearest."""


class Ranked(NamedTuple):
    """The nearest person of a gallery, and how much farther the second is; None if there is no
    other."""

    person: str
    distance: float
    margin: float | None


class Namer:
    """Gives tracks the names of a gallery's people.

    ``limit`` is the greatest distance of one person's images, of ``model``'s kind.
    """

    def __init__(
        self,
        model: AppearanceModel,
        gallery: GalleryStore,
        limit: float,
        settings: NamingSettings = USUAL_NAMING,
    ) -> None:
        self._model, self._gallery = model, gallery
        self._limit, self._settings = limit, settings

    def name(self, tracks: Sequence[Track]) -> None:
        """Look at the tracks of one camera's frame, and give or take back their names.

        Two tracks of a frame never have one name: the one that more looks agree on keeps it.
        """
        seen = [track for track in tracks if self._is_due(track)]
        for track, matches in zip(seen, self._matches(seen), strict=True):
            if track.looks is None:
                track.looks = deque(maxlen=self._settings.kept_looks)
            track.looks.append(self._vote(ranked(matches)))
            track.looked_s = track.seen_s
            track.candidate = self._candidate(track)
        holders: set[str] = set()
        for track in sorted(tracks, key=_by_agreement):
            if track.candidate is not None and track.candidate.person in holders:
                track.candidate = None
            elif track.candidate is not None:
                holders.add(track.candidate.person)

    def _is_due(self, track: Track) -> bool:
        away_s = track.seen_s - track.looked_s
        return track.look is not None and not 0 <= away_s < self._settings.look_every_s - 1e-6

    def _matches(self, tracks: Sequence[Track]) -> list[list[Match]]:
        looks = [track.look for track in tracks if track.look is not None]
        if not looks:
            return []
        return self._gallery.search(self._model.description(looks), NEIGHBOURS, NAMED)

    def _vote(self, best: Ranked | None) -> Look:
        """A look with a name only if it is near enough, and near enough to one person alone."""
        if best is None:
            return Look("", np.inf, None)
        near, second = self._relative(best.distance), np.inf
        if best.margin is not None:
            second = self._relative(best.distance + best.margin)
        votes = near <= 1 and second - near >= self._settings.margin
        return Look(best.person if votes else "", best.distance, best.margin)

    def _relative(self, distance: float) -> float:
        """A distance divided by the limit; see ``AppearanceModel.relative``."""
        return float(self._model.relative(np.array([distance], np.float32), self._limit)[0])

    def _candidate(self, track: Track) -> Candidate | None:
        """The name that the newest looks agree on, with the nearest of them."""
        settings, looks = self._settings, track.looks or ()
        votes = Counter(look.person for look in looks if look.person)
        held = track.candidate.person if track.candidate is not None else ""
        if held and votes[held] < settings.keep * len(looks):
            held = ""
        if not held and votes:
            person, count = votes.most_common(1)[0]
            if count >= settings.least_looks and count >= settings.agree * len(looks):
                held = person
        if not votes[held]:
            return None
        nearest = min((x for x in looks if x.person == held), key=lambda look: look.distance)
        return Candidate(held, nearest.distance, nearest.margin, votes[held])


def ranked(matches: Sequence[Match]) -> Ranked | None:
    """The first and the second person among a search's matches; None if no match has a name."""
    nearest: dict[str, float] = {}
    for match in matches:
        if match.entry.person:
            nearest.setdefault(match.entry.person, match.distance)
    if not nearest:
        return None
    (person, distance), *others = nearest.items()
    if others:
        return Ranked(person, distance, others[0][1] - distance)
    whole = len(matches) < NEIGHBOURS
    return Ranked(person, distance, None if whole else matches[-1].distance - distance)


def _by_agreement(track: Track) -> tuple[int, float, int]:
    """A key: most agreeing looks first, then the nearest."""
    if track.candidate is None:
        return 0, 0.0, track.number
    return -track.candidate.looks, track.candidate.distance, track.number
