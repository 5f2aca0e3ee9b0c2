"""All results of an evaluation by its protocol, in one pass over the distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid.errors import ConfigError, nearest
from reid.evaluation.camera_pairs import CameraPairs
from reid.evaluation.metrics import Scores, mean
from reid.evaluation.ranking import (
    AnyCameraRules,
    MarketRules,
    Nearest,
    OtherViewRules,
    RanksOfGood,
    pass_over,
)
from reid.evaluation.shots import AnyCameraRanks, ShotRanks, chance_any_camera, chance_shots
from reid.evaluation.verification import PairCounts, Verification
from reid.matching.distances import TILE, Distances
from reid.matching.labels import Labelled
from reid.types import CameraPair, Protocol, Ranking

MULTI_QUERY, SINGLE_SHOT, MULTI_SHOT = "multi_query", "single_shot", "multi_shot"
ANY_CAMERA = "any_camera"
PROTOCOLS = ("market", MULTI_QUERY, SINGLE_SHOT, MULTI_SHOT, ANY_CAMERA)

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
    finite, ConfigError for an unknown protocol, fewer than one trial or shot, or sides that are not
    the same with ``any_camera``.
    """
    check_protocol(protocol)
    rules, ranks = _rules_and_ranks(query, gallery, protocol)
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


def _rules_and_ranks(
    query: Labelled, gallery: Labelled, protocol: Protocol
) -> tuple[MarketRules, ShotRanks | AnyCameraRanks | RanksOfGood]:
    # An empty side is refused by the pass over the distances.
    if protocol.name == ANY_CAMERA and len(query.person_ids) and len(gallery.person_ids):
        if not np.array_equal(query.person_ids, gallery.person_ids):
            raise ConfigError(
                f"with the protocol {ANY_CAMERA} queries and gallery are the same images in the "
                f"same order; found {len(query.person_ids)} queries and {len(gallery.person_ids)} "
                "gallery images that differ"
            )
        return AnyCameraRules(gallery), AnyCameraRanks(gallery, protocol)
    if _draws(protocol):
        return OtherViewRules(gallery), ShotRanks(query, gallery, protocol)
    return MarketRules(gallery), RanksOfGood()


def chance(query: Labelled, gallery: Labelled, protocol: Protocol) -> float:
    """Exact expected rank-1 of a random ranking, in [0, 1]. Raises ConfigError."""
    check_protocol(protocol)
    if protocol.name == ANY_CAMERA:
        return chance_any_camera(gallery)
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
