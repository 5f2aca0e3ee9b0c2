"""Retrieval metrics from ranks: CMC, mAP by both definitions, mINP.

A query without a correct match in the gallery is unanswerable. It is counted
(``num_unanswerable``) and excluded from every mean. Market's MATLAB tool instead sets its AP
to 0 and divides by all queries, so its results are ours times answerable / all. On the
published splits of Market-1501 every query is answerable and the two agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reid.types import IntArray

CMC_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True, slots=True)
class Scores:
    """Retrieval metrics in [0, 1], means over the answerable queries.

    ``cmc`` maps rank k to the share of queries with a correct match within the first k. All
    metrics are 0 if no query is answerable. ``std`` is their sample standard deviation over
    the trials, by the names ``rank1``, ..., ``map_step``, ``map_trapezoid``, ``minp``; empty
    for one trial.
    """

    cmc: Mapping[int, float]
    map_step: float
    map_trapezoid: float
    minp: float
    num_query: int
    num_unanswerable: int
    std: Mapping[str, float] = field(default_factory=dict)


def scores_from_ranks(ranks: Sequence[IntArray], cmc_ranks: Sequence[int] = CMC_RANKS) -> Scores:
    """Scores of queries whose n correct matches have the 0-based, ascending ranks r_0..r_n-1.

    An empty array is an unanswerable query. CMC at a rank beyond the gallery's size is 1. For
    each query,

    - AP (step) is (1/n) sum_i (i+1)/(r_i+1), the mean precision at the hits, as scikit-learn
      since 0.19, torchreid and FastReID compute it;
    - AP (trapezoid) is Market-1501's ``compute_AP.m``, where each hit adds the mean of the
      precision before and at it: (1/n) sum_i (i/r_i + (i+1)/(r_i+1)) / 2, and i/r_i is 1 for
      a hit at rank 0;
    - mINP is the mean of n / (1 + r_n-1) (Ye et al., 2021).
    """
    answered = [one for one in ranks if len(one)]
    # All queries' ranks in one array, and for each rank its number among its query's hits.
    every = np.concatenate([np.zeros(0, np.int64), *answered])
    counts = np.array([len(one) for one in answered], np.int64)
    starts = counts.cumsum() - counts
    hits = np.arange(len(every)) - np.repeat(starts, counts)
    at = (hits + 1) / (every + 1)
    before = np.where(every > 0, hits / np.maximum(every, 1), 1.0)

    def mean_of(values: npt.NDArray[np.float64]) -> float:
        return mean(np.add.reduceat(values, starts) / counts) if answered else 0.0

    return Scores(
        cmc={rank: mean(every[starts] < rank) for rank in cmc_ranks},
        map_step=mean_of(at),
        map_trapezoid=mean_of((before + at) / 2),
        minp=mean(counts / (every[starts + counts - 1] + 1)),
        num_query=len(ranks),
        num_unanswerable=len(ranks) - len(answered),
    )


def mean(values: npt.ArrayLike) -> float:
    """Mean; 0 if empty."""
    array = np.asarray(values, np.float64)
    return float(array.mean()) if array.size else 0.0


def mean_of_trials(trials: Sequence[Scores]) -> Scores:
    """Means over the trials; every trial excludes the same queries."""
    named = [_named_figures(scores) for scores in trials]
    means = {name: float(np.mean([figures[name] for figures in named])) for name in named[0]}
    std: dict[str, float] = {}
    if len(trials) > 1:
        std = {name: float(np.std([one[name] for one in named], ddof=1)) for name in named[0]}
    return Scores(
        cmc={rank: means[f"rank{rank}"] for rank in trials[0].cmc},
        map_step=means["map_step"],
        map_trapezoid=means["map_trapezoid"],
        minp=means["minp"],
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
