"""All results of an evaluation by its protocol, in one pass over the distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid.errors import ConfigError, nearest
from reid.evaluation.camera_pairs import CameraPairs
from reid.evaluation.metrics import Scores, mean
from reid.evaluation.ranking import MarketRules, Nearest, OtherViewRules, RanksOfGood, pass_over
from reid.evaluation.shots import ShotRanks, chance_shots
from reid.evaluation.verification import PairCounts, Verification
from reid.matching.distances import TILE, Distances
from reid.matching.labels import Labelled
from reid.types import CameraPair, Protocol, Ranking

MULTI_QUERY, SINGLE_SHOT, MULTI_SHOT = "multi_query", "single_shot", "multi_shot"
PROTOCOLS = ("market", MULTI_QUERY, SINGLE_SHOT, MULTI_SHOT)

KEPT = 20
"""Number of nearest gallery images kept for each query."""

CURVE = 50
"""Number of ranks of the CMC curve."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The results of one pass.

    ``ranking``, ``verification`` and ``camera_pairs`` use the whole gallery, by the protocol's
    rules. If the protocol draws random galleries, ``scores`` and ``cmc_curve`` use those.
    ``cmc_curve`` (K,) is the CMC at ranks 1 to K, at most 50.
    """

    scores: Scores
    cmc_curve: npt.NDArray[np.float64]
    ranking: Ranking
    verification: Verification
    camera_pairs: tuple[CameraPair, ...]


def measure(
    distances: Distances,
    query: Labelled,
    gallery: Labelled,
    protocol: Protocol,
    *,
    keep: int = KEPT,
    tile: int = TILE,
) -> Measured:
    """Compute each distance once, and all results from it; ``keep`` images are kept per query.

    A query without a correct match in the gallery is counted and excluded from the means.
    Raises DataError if query or gallery is empty, ModelFileError for distances that are not
    finite, ConfigError for an unknown protocol, or fewer than one trial or shot.
    """
    check_protocol(protocol)
    rules: MarketRules = OtherViewRules(gallery) if _draws(protocol) else MarketRules(gallery)
    ranks = ShotRanks(query, gallery, protocol) if _draws(protocol) else RanksOfGood()
    nearest_images = Nearest(len(query.person_ids), keep)
    pairs, cameras = PairCounts(), CameraPairs(query, gallery)
    pass_over(distances, query, gallery, rules, [ranks, nearest_images, pairs, cameras], tile=tile)
    curve = ranks.scores(range(1, min(CURVE, len(gallery.person_ids)) + 1)).cmc
    return Measured(
        ranks.scores(),
        np.array(list(curve.values())),
        nearest_images.ranking,
        pairs.verification(),
        cameras.pairs(),
    )


def chance(query: Labelled, gallery: Labelled, protocol: Protocol) -> float:
    """Exact expected rank-1 of a random ranking, in [0, 1]. Raises ConfigError."""
    check_protocol(protocol)
    if _draws(protocol):
        return chance_shots(query, gallery, protocol.shots)
    return _chance_market(query, gallery)


def check_protocol(protocol: Protocol) -> None:
    """Raise ConfigError for an unknown protocol name."""
    if protocol.name not in PROTOCOLS:
        raise ConfigError(
            f"protocol must be one of {', '.join(PROTOCOLS)}; found {protocol.name!r}"
            f"{nearest(protocol.name, PROTOCOLS)}"
        )


def _draws(protocol: Protocol) -> bool:
    return protocol.name in (SINGLE_SHOT, MULTI_SHOT)


def _chance_market(query: Labelled, gallery: Labelled) -> float:
    """Expected rank-1 of a random ranking by Market's rules.

    The mean of good / (gallery - skipped) over the answerable queries; 0 if there are none.
    """
    rules = MarketRules(gallery)
    num_gallery = len(gallery.person_ids)
    chances: list[float] = []
    for person, camera in zip(query.person_ids, query.camera_ids, strict=True):
        good, skipped = rules.good_and_skipped(int(person), int(camera))
        if len(good):
            chances.append(len(good) / (num_gallery - len(skipped)))
    return mean(chances)
