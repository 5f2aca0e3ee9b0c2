"""CUHK's single-shot protocol, and multi-shot: a few random gallery images of each identity.

Each trial draws ``shots`` gallery images of each identity (all, where it has fewer) among
those that the query's own camera did not take. An identity is as far as the nearest of its
images, and identities are ranked. The figures are means over the trials.
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
    """Gallery ``images`` (M,), grouped by identity, and where each of I groups ``starts``.

    Groups are in the order of their first image, and so are a group's images. A distractor,
    who is nobody, is a group of one.
    """

    images: IntArray
    starts: IntArray


def draw_shots(
    query: Labelled, gallery: Labelled, *, trials: int, seed: int, shots: int = 1
) -> Mapping[int, tuple[Draw, ...]]:
    """For each camera of the queries, ``trials`` draws from the gallery's other cameras.

    Junk is never drawn, all distractors are. The draws depend on the labels and the seed
    alone. Raises ConfigError for less than one trial or shot.
    """
    for name, number in (("trial", trials), ("shot", shots)):
        if number < 1:
            raise ConfigError(f"drawing galleries needs at least 1 {name}, found {number}")
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
    nobody = people[images] == DISTRACTOR_ID
    groups = np.where(nobody, -1 - images, people[images])  # a distractor is a group of its own
    _, leader, group = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(leader[group], kind="stable")
    starts = np.flatnonzero(np.diff(leader[group][order], prepend=-1))
    return Draw(images[order], starts)


class ShotRanks:
    """Where each query's identity stands among those drawn, in every trial."""

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
        """Means over the trials, and their deviation."""
        return mean_of_trials(
            [
                scores_from_ranks([one[one >= 0] for one in trial[:, None]], cmc_ranks)
                for trial in self._ranks
            ]
        )


def _rank_of_match(distances: FloatArray, people: IntArray, drawn_people: IntArray) -> IntArray:
    """0-based rank of each query's identity in (q, I) distances, -1 where it was not drawn."""
    match = (drawn_people == people[:, None]) & (people != DISTRACTOR_ID)[:, None]
    position = match.argmax(axis=1)[:, None]
    distance = np.take_along_axis(distances, position, axis=1)
    earlier = np.arange(len(drawn_people)) < position
    before = (distances < distance) | ((distances == distance) & earlier)
    return np.where(match.any(axis=1), before.sum(axis=1), -1)


def chance_shots(query: Labelled, gallery: Labelled, shots: int = 1) -> float:
    """Expected rank-1 of a random ranking: an identity's share of the images drawn, averaged.

    Any image drawn may be the nearest of all, and every draw has as many of an identity.
    """
    draws = draw_shots(query, gallery, trials=1, seed=0, shots=shots)
    chances = []
    for person, camera in zip(query.person_ids, query.camera_ids, strict=True):
        images = draws[int(camera)][0].images
        right = np.count_nonzero(gallery.person_ids[images] == person)
        if person != DISTRACTOR_ID and right:
            chances.append(right / len(images))
    return mean(chances)
