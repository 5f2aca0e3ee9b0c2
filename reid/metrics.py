"""From distances and labels to retrieval figures: CMC, mAP by both definitions, mINP.

Two protocols (see ``reid.types.Protocol``): Market-1501's, whose rules are in
``reid.ranking``, and CUHK's single-shot, where each identity is represented by one random
image of another view. Arrays come in, numbers go out.

A query without a right image in the gallery cannot be answered. It is counted
(``num_unanswerable``) and left out of every mean. Market's MATLAB tool instead sets its AP
to 0 and divides by all queries, so its figures are ours times answerable / all; on the
published splits of Market-1501 every query can be answered and the two agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reid.errors import ConfigError
from reid.ranking import (
    TILE,
    Distances,
    Labelled,
    MarketRules,
    market_ranks,
    tiles_of,
)
from reid.types import DISTRACTOR_ID, JUNK_ID, FloatArray, IntArray

CMC_RANKS = (1, 5, 10, 20)

Draws = Mapping[int, tuple[IntArray, ...]]
"""Camera of a query -> for each trial, the gallery indices drawn for it, ascending."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Retrieval figures in [0, 1], means over the queries that can be answered.

    ``cmc`` maps rank k to the share of queries answered within k. All are 0 where no query
    can be answered. ``std`` is their sample standard deviation over the trials, by the
    names ``rank1``, ..., ``map_step``, ``map_trapezoid``, ``minp``; empty for one trial.
    """

    cmc: Mapping[int, float]
    map_step: float
    map_trapezoid: float
    minp: float
    num_query: int
    num_unanswerable: int
    std: Mapping[str, float] = field(default_factory=dict)


def average_precision_step(ranks: IntArray) -> float:
    """Mean precision at the hits, for ascending 0-based ``ranks`` of all n good images.

    (1/n) sum_i (i+1)/(r_i+1): the area under the precision steps, as scikit-learn since
    0.19, torchreid and FastReID compute it.
    """
    hits = np.arange(1, len(ranks) + 1)
    return float(np.mean(hits / (ranks + 1)))


def average_precision_trapezoid(ranks: IntArray) -> float:
    """Market-1501's ``compute_AP.m``, for ascending 0-based ``ranks`` of all n good images.

    Each hit adds the mean of the precision before and at it:
    (1/n) sum_i (i/r_i + (i+1)/(r_i+1)) / 2, where i/r_i is 1 for a hit at rank 0.
    """
    before = np.arange(len(ranks))
    precision_before = np.where(ranks > 0, before / np.maximum(ranks, 1), 1.0)
    precision_at = (before + 1) / (ranks + 1)
    return float(np.mean(precision_before + precision_at) / 2)


def inverse_negative_penalty(ranks: IntArray) -> float:
    """n / (1 + rank of the last good image): mINP is its mean (Ye et al., 2021)."""
    return len(ranks) / (int(ranks[-1]) + 1)


def scores_from_ranks(ranks: Sequence[IntArray], cmc_ranks: Sequence[int] = CMC_RANKS) -> Scores:
    """Scores of queries whose good images stand at these 0-based, ascending ranks.

    An empty array is a query that cannot be answered. A CMC rank beyond the gallery's
    size is the share of queries answered at all: 1.
    """
    answered = [one for one in ranks if len(one)]
    first = np.array([one[0] for one in answered], np.int64)
    return Scores(
        cmc={rank: _mean(first < rank) for rank in cmc_ranks},
        map_step=_mean([average_precision_step(one) for one in answered]),
        map_trapezoid=_mean([average_precision_trapezoid(one) for one in answered]),
        minp=_mean([inverse_negative_penalty(one) for one in answered]),
        num_query=len(ranks),
        num_unanswerable=len(ranks) - len(answered),
    )


def _mean(values: npt.ArrayLike) -> float:
    array = np.asarray(values, np.float64)
    return float(array.mean()) if array.size else 0.0


def score_market(
    distances: Distances, query: Labelled, gallery: Labelled, *, tile: int = TILE
) -> Scores:
    """Market-1501's single-query protocol.

    Raises DataError for an empty side, ModelFileError for distances that are not finite.
    """
    return scores_from_ranks(market_ranks(distances, query, gallery, tile=tile))


def score_single_shot(
    distances: Distances,
    query: Labelled,
    gallery: Labelled,
    *,
    trials: int = 10,
    seed: int = 0,
    tile: int = TILE,
) -> Scores:
    """CUHK's single-shot protocol.

    Each trial draws one gallery image of each identity among those that the query's own
    camera did not take; the figures are means over ``trials`` such draws, which ``seed``
    decides. Raises DataError for an empty side, ModelFileError for distances that are not
    finite, ConfigError for less than one trial.
    """
    draws = draw_single_shot(query, gallery, trials=trials, seed=seed)
    ranks = np.full((trials, len(query.person_ids)), -1, np.int64)
    for rows, block in tiles_of(distances, query, gallery, tile):
        cameras = query.camera_ids[rows]
        for camera in np.unique(cameras):
            here = np.flatnonzero(cameras == camera)
            people = query.person_ids[rows.start + here]
            for trial, drawn in enumerate(draws[int(camera)]):
                ranks[trial, rows.start + here] = _rank_of_match(
                    block[np.ix_(here, drawn)], people, gallery.person_ids[drawn]
                )
    per_trial = [scores_from_ranks([one[one >= 0] for one in trial[:, None]]) for trial in ranks]
    return _average(per_trial)


def draw_single_shot(query: Labelled, gallery: Labelled, *, trials: int, seed: int) -> Draws:
    """For each camera of the queries and each trial, one random image of each identity.

    Candidates are the gallery images of the other cameras. Junk is never drawn; the
    distractors are not one person, so all of them stay. The draws depend on the labels
    and the seed alone. Raises ConfigError for less than one trial.
    """
    if trials < 1:
        raise ConfigError(f"single-shot needs at least 1 trial, found {trials}")
    generator = np.random.default_rng(seed)
    draws: dict[int, tuple[IntArray, ...]] = {}
    for camera in np.unique(query.camera_ids):
        other_view = gallery.camera_ids != camera
        people = gallery.person_ids
        candidates = np.flatnonzero(other_view & (people != JUNK_ID) & (people != DISTRACTOR_ID))
        distractors = np.flatnonzero(other_view & (people == DISTRACTOR_ID))
        drawn: list[IntArray] = []
        for _ in range(trials):
            shuffled = generator.permutation(candidates)
            _, first = np.unique(people[shuffled], return_index=True)
            drawn.append(np.sort(np.concatenate([shuffled[first], distractors])))
        draws[int(camera)] = tuple(drawn)
    return draws


def _rank_of_match(block: FloatArray, people: IntArray, drawn_people: IntArray) -> IntArray:
    """0-based rank of each query's one right image in (q, g) distances, -1 where none is."""
    if not len(drawn_people):
        return np.full(len(people), -1, np.int64)
    match = (drawn_people == people[:, None]) & (people != DISTRACTOR_ID)[:, None]
    position = match.argmax(axis=1)[:, None]
    distance = np.take_along_axis(block, position, axis=1)
    earlier = np.arange(len(drawn_people)) < position
    before = (block < distance) | ((block == distance) & earlier)
    return np.where(match.any(axis=1), before.sum(axis=1), -1)


def _average(trials: Sequence[Scores]) -> Scores:
    """Means of the trials' figures; every trial leaves out the same queries."""
    named = [_named_figures(scores) for scores in trials]
    mean = {name: float(np.mean([figures[name] for figures in named])) for name in named[0]}
    std: dict[str, float] = {}
    if len(trials) > 1:
        std = {name: float(np.std([one[name] for one in named], ddof=1)) for name in named[0]}
    return Scores(
        cmc={rank: mean[f"rank{rank}"] for rank in trials[0].cmc},
        map_step=mean["map_step"],
        map_trapezoid=mean["map_trapezoid"],
        minp=mean["minp"],
        num_query=trials[0].num_query,
        num_unanswerable=trials[0].num_unanswerable,
        std=std,
    )


def _named_figures(scores: Scores) -> dict[str, float]:
    return {
        **{f"rank{rank}": value for rank, value in scores.cmc.items()},
        "map_step": scores.map_step,
        "map_trapezoid": scores.map_trapezoid,
        "minp": scores.minp,
    }


def chance_market(query: Labelled, gallery: Labelled) -> float:
    """Expected rank-1 of a random ranking by Market's rules.

    The mean of good / (gallery - skipped) over the queries that can be answered; 0 where
    none can.
    """
    rules = MarketRules(gallery)
    num_gallery = len(gallery.person_ids)
    chances: list[float] = []
    for person, camera in zip(query.person_ids, query.camera_ids, strict=True):
        good, skipped = rules.good_and_skipped(int(person), int(camera))
        if len(good):
            chances.append(len(good) / (num_gallery - len(skipped)))
    return _mean(chances)


def chance_single_shot(query: Labelled, gallery: Labelled) -> float:
    """Expected rank-1 of a random ranking, single-shot: 1 / the images drawn, averaged."""
    draws = draw_single_shot(query, gallery, trials=1, seed=0)
    chances: list[float] = []
    for person, camera in zip(query.person_ids, query.camera_ids, strict=True):
        (drawn,) = draws[int(camera)]
        if person != DISTRACTOR_ID and np.any(gallery.person_ids[drawn] == person):
            chances.append(1 / len(drawn))
    return _mean(chances)
