"""CUHK's single-shot protocol, and multi-shot: a few random gallery images per identity.

Each trial draws ``shots`` gallery images per identity (all, if it has fewer) from the cameras
other than the query's. The distance to an identity is that to the nearest of its images, and
identities are ranked. Results are means over the trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from reid.errors import ConfigError
from reid.evaluation.metrics import CMC_RANKS, Scores, mean, mean_of_trials, scores_from_ranks
from reid.evaluation.ranking import Tile
from reid.matching.labels import Labelled
from reid.types import DISTRACTOR_ID, JUNK_ID, FloatArray, IntArray, Protocol


class Draw(NamedTuple):
    """Gallery ``images`` (M,), grouped by identity, and the ``starts`` (I,) of the groups.

    Groups are ordered by their first image; images within a group are in gallery order. Each
    distractor forms its own group.
    """

    images: IntArray
    starts: IntArray


def draw_shots(
    query: Labelled, gallery: Labelled, *, trials: int, seed: int, shots: int = 1
) -> Mapping[int, tuple[Draw, ...]]:
    """For each camera of the queries, ``trials`` draws from the gallery's other cameras.

    Junk is never drawn; all distractors are always drawn. The draws depend only on the labels
    and the seed. Raises ConfigError for fewer than one trial or shot.
    """
    for name, number in (("trial", trials), ("shot", shots)):
        if number < 1:
            raise ConfigError(f"random galleries need at least 1 {name}, found {number}")
    generator = np.random.default_rng(seed)
    people = gallery.person_ids
    draws = {}
    for camera in np.unique(query.camera_ids):
        other_view = gallery.camera_ids != camera
        candidates = np.flatnonzero(other_view & (people != JUNK_ID) & (people != DISTRACTOR_ID))
        distractors = np.flatnonzero(other_view & (people == DISTRACTOR_ID))
        draws[int(camera)] = tuple(
            _draw(generator.permutation(candidates), distractors, people, shots)
            for _ in range(trials)
        )
    return draws


def _draw(shuffled: IntArray, distractors: IntArray, people: IntArray, shots: int) -> Draw:
    """The first ``shots`` images of each identity, and all distractors."""
    by_person = shuffled[np.argsort(people[shuffled], kind="stable")]
    _, first, counts = np.unique(people[by_person], return_index=True, return_counts=True)
    place = np.arange(len(by_person)) - np.repeat(first, counts)
    images = np.sort(np.concatenate([by_person[place < shots], distractors]))
    distractor = people[images] == DISTRACTOR_ID
    groups = np.where(distractor, -1 - images, people[images])  # each distractor its own group
    _, leader, group = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(leader[group], kind="stable")
    starts = np.flatnonzero(np.diff(leader[group][order], prepend=-1))
    return Draw(images[order], starts)


class ShotRanks:
    """The rank of each query's identity among the drawn ones, in every trial."""

    def __init__(self, query: Labelled, gallery: Labelled, protocol: Protocol) -> None:
        self._query, self._people = query, gallery.person_ids
        self._draws = draw_shots(
            query, gallery, trials=protocol.trials, seed=protocol.seed, shots=protocol.shots
        )
        self._ranks = np.full((protocol.trials, len(query.person_ids)), -1, np.int64)

    def add(self, tile: Tile) -> None:
        cameras = self._query.camera_ids[tile.rows]
        for camera in np.unique(cameras):
            here = np.flatnonzero(cameras == camera)
            people = self._query.person_ids[tile.rows.start + here]
            for trial, (images, starts) in enumerate(self._draws[int(camera)]):
                if not len(images):
                    continue
                drawn = tile.distances[np.ix_(here, images)]
                self._ranks[trial, tile.rows.start + here] = _rank_of_match(
                    np.minimum.reduceat(drawn, starts, axis=1), people, self._people[images[starts]]
                )

    def scores(self, cmc_ranks: Sequence[int] = CMC_RANKS) -> Scores:
        """Means and standard deviations over the trials."""
        return mean_of_trials(
            [
                scores_from_ranks([one[one >= 0] for one in trial[:, None]], cmc_ranks)
                for trial in self._ranks
            ]
        )


class AnyCameraRanks:
    """X-Corr's protocol: one random image of each identity, of any camera, is the gallery.

    All other images are queries, in each of the trials. Queries and gallery are the same images in
    the same order (``innovarul/personreid_normxcorr``, its test of CUHK01: 300 queries of 100
    identities with 4 images each).
    """

    def __init__(self, gallery: Labelled, protocol: Protocol) -> None:
        self._people = gallery.person_ids
        self._draws = draw_any_camera(gallery, trials=protocol.trials, seed=protocol.seed)
        self._ranks = np.full((protocol.trials, len(self._people)), -1, np.int64)

    def add(self, tile: Tile) -> None:
        people = self._people[tile.rows]
        for trial, (images, starts) in enumerate(self._draws):
            nearest = np.minimum.reduceat(tile.distances[:, images], starts, axis=1)
            ranks = _rank_of_match(nearest, people, self._people[images[starts]])
            own = images[(images >= tile.rows.start) & (images < tile.rows.start + len(people))]
            ranks[own - tile.rows.start] = -1  # in the gallery, so no query
            self._ranks[trial, tile.rows] = ranks

    def scores(self, cmc_ranks: Sequence[int] = CMC_RANKS) -> Scores:
        """Means and standard deviations over the trials."""
        return mean_of_trials(
            [
                scores_from_ranks([one[one >= 0] for one in trial[:, None]], cmc_ranks)
                for trial in self._ranks
            ]
        )


def draw_any_camera(gallery: Labelled, *, trials: int, seed: int) -> tuple[Draw, ...]:
    """One image of each identity, and all distractors, for each trial. Raises ConfigError."""
    if trials < 1:
        raise ConfigError(f"random galleries need at least 1 trial, found {trials}")
    generator, people = np.random.default_rng(seed), gallery.person_ids
    candidates = np.flatnonzero((people != JUNK_ID) & (people != DISTRACTOR_ID))
    distractors = np.flatnonzero(people == DISTRACTOR_ID)
    return tuple(
        _draw(generator.permutation(candidates), distractors, people, 1) for _ in range(trials)
    )


def _rank_of_match(distances: FloatArray, people: IntArray, drawn_people: IntArray) -> IntArray:
    """0-based rank of each query's identity in (q, I) distances, -1 if it was not drawn."""
    match = (drawn_people == people[:, None]) & (people != DISTRACTOR_ID)[:, None]
    position = match.argmax(axis=1)[:, None]
    distance = np.take_along_axis(distances, position, axis=1)
    earlier = np.arange(len(drawn_people)) < position
    before = (distances < distance) | ((distances == distance) & earlier)
    return np.where(match.any(axis=1), before.sum(axis=1), -1)


def chance_any_camera(gallery: Labelled) -> float:
    """Expected rank-1 of a random ranking: one of the drawn images is right."""
    (draw,) = draw_any_camera(gallery, trials=1, seed=0)
    _, counts = np.unique(gallery.person_ids, return_counts=True)
    return 1 / len(draw.images) if (counts > 1).any() and len(draw.images) else 0.0


def chance_shots(query: Labelled, gallery: Labelled, shots: int = 1) -> float:
    """Expected rank-1 of a random ranking: the mean share of an identity in the drawn images.

    Each drawn image is equally likely to be the nearest, and every draw has the same number of
    images per identity.
    """
    draws = draw_shots(query, gallery, trials=1, seed=0, shots=shots)
    chances = []
    for person, camera in zip(query.person_ids, query.camera_ids, strict=True):
        images = draws[int(camera)][0].images
        right = np.count_nonzero(gallery.person_ids[images] == person)
        if person != DISTRACTOR_ID and right:
            chances.append(right / len(images))
    return mean(chances)
