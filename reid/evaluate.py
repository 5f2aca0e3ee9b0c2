"""Describe, rank, score: the same way for a checkpoint, an ONNX file and an engine."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid.describing import Described, Phase, describe_split, refuse_empty, silent
from reid.errors import ConfigError, nearest
from reid.manifest import manifest_path, read_manifest
from reid.matching import Matcher, Progress, open_matcher
from reid.metrics import (
    Scores,
    chance_market,
    chance_single_shot,
    score_market,
    score_single_shot,
)
from reid.ranking import Distances, Labels, labels_from_records, rank_distances
from reid.runtime import model_file
from reid.types import EvalReport, ImageRecord, IntArray, Protocol, Ranking, Split

MULTI_QUERY = "multi_query"
PROTOCOLS = ("market", MULTI_QUERY, "single_shot")

TELL_S = 2.0
"""Comparisons that take longer are announced."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's figures, and the distances behind them.

    ``split`` has one image for each row of the distances: see ``merged_queries``.
    """

    report: EvalReport
    distances: Distances
    split: Split

    def ranking(self, k: int) -> Ranking:
        """The ``k`` nearest gallery images of each query, by Market's rules."""
        query, gallery = (labels_from_records(x) for x in (self.split.query, self.split.gallery))
        return rank_distances(self.distances, query, gallery, k)


def evaluate(
    matcher: Matcher[Any],
    split: Split,
    *,
    described: Described | None = None,
    best: int = 0,
    phase: Phase = silent,
    say: Callable[[str], None] = lambda line: None,
    model_name: str = "",
) -> Evaluation:
    """Score a split by its protocol, after describing it unless ``described`` is at hand.

    With ``best`` a network that compares pairs compares only that many gallery images with a
    query, its best by the ranking vector. ``say`` hears how long comparing will take where that
    is more than a moment. Raises what ``describe_split`` raises, and ConfigError for an unknown
    protocol or a shortlist that cannot be.
    """
    described = described or describe_split(matcher, split, phase)
    query, gallery = described.query, described.gallery
    split, groups = merged_queries(split)
    if len(split.query) < len(groups):
        query = matcher.means(query, groups)
    labels = labels_from_records(split.query), labels_from_records(split.gallery)
    num_pairs = len(split.query) * (best or len(split.gallery))
    seconds = matcher.seconds(query, gallery) * num_pairs
    count: Progress = silent("comparing", num_pairs)
    if seconds > TELL_S:
        say(f"{num_pairs:,} pairs to compare: about {_span(seconds)}")
        count = phase("comparing", num_pairs)
    distances = matcher.tiles(query, gallery, count, best)
    start = time.perf_counter()
    scores = _score(distances, *labels, split.protocol)
    report = EvalReport(
        model=model_name or matcher.backend,
        dataset=split.dataset,
        protocol=split.protocol,
        num_query=len(split.query),
        num_gallery=len(split.gallery),
        num_unanswerable=scores.num_unanswerable,
        cmc=scores.cmc,
        map_step=scores.map_step,
        map_trapezoid=scores.map_trapezoid,
        minp=scores.minp,
        std=scores.std,
        describe_s=described.seconds,
        num_compared=num_pairs if seconds else 0,
        compare_s=time.perf_counter() - start if seconds else 0.0,
    )
    return Evaluation(report, distances, split)


def evaluate_models(
    models: Sequence[Path],
    split: Split,
    *,
    shortlists: Sequence[int] = (),
    stage: str = "",
    query_file: Path | None = None,
    gallery_file: Path | None = None,
    device: str = "auto",
    threads: int = 0,
    batch_size: int = 64,
    phase: Phase = silent,
    say: Callable[[str], None] = lambda line: None,
) -> list[Evaluation]:
    """Open and evaluate each model file in turn, all on one split.

    ``shortlists`` are numbers of gallery images to compare with a query, 0 for all of them;
    there is one evaluation of each model for each. Raises what ``open_matcher`` and
    ``evaluate`` raise.
    """
    results = []
    for model in models:
        with closing(open_matcher(model, device, threads, batch_size, stage)) as matcher:
            described = describe_split(matcher, split, phase, query_file, gallery_file)
            for best in shortlists or (0,):
                name = f"{model}, best {best}" if best else str(model)
                results.append(
                    evaluate(
                        matcher,
                        split,
                        described=described,
                        best=best,
                        phase=phase,
                        say=say,
                        model_name=name,
                    )
                )
    return results


def split_of_model(model: Path, dataset: str) -> tuple[int, int]:
    """(test identities, seed) of the split that a model was trained on; (0, 0) elsewhere.

    A random split must be evaluated as it was trained, or the test identities are not new.
    (0, 0) too where no manifest lies beside the file. Raises ManifestError for a broken one.
    """
    file = model_file(model)
    if not manifest_path(file).exists():
        return 0, 0
    manifest = read_manifest(file, check_hash=False)
    if manifest.dataset != dataset:
        return 0, 0
    return manifest.num_test_identities, manifest.split_seed


def merged_queries(split: Split) -> tuple[Split, IntArray]:
    """A split with the first query image of each person and camera; whose group each image is in.

    Market-1501's multi-query protocol (Zheng et al., ICCV 2015, section 4.3): the images of
    one person in one camera are one query, here with the mean of their vectors. For other
    protocols every image is a query of its own.
    """
    if split.protocol.name != MULTI_QUERY:
        return split, np.arange(len(split.query))
    groups: dict[tuple[int, int], int] = {}
    first: list[ImageRecord] = []
    for record in split.query:
        key = record.person_id, record.camera_id
        if key not in groups:
            groups[key] = len(groups)
            first.append(record)
    members = [groups[record.person_id, record.camera_id] for record in split.query]
    return dataclasses.replace(split, query=tuple(first)), np.array(members, np.int64)


def _score(distances: Distances, query: Labels, gallery: Labels, protocol: Protocol) -> Scores:
    if protocol.name in ("market", MULTI_QUERY):
        return score_market(distances, query, gallery)
    if protocol.name == "single_shot":
        return score_single_shot(
            distances, query, gallery, trials=protocol.trials, seed=protocol.seed
        )
    raise _unknown_protocol(protocol)


def _unknown_protocol(protocol: Protocol) -> ConfigError:
    return ConfigError(
        f"a protocol is one of {', '.join(PROTOCOLS)}; found {protocol.name!r}"
        f"{nearest(protocol.name, PROTOCOLS)}"
    )


def chance_rank1(split: Split) -> float:
    """Expected rank-1 of a random ranking of this split, exactly, in [0, 1].

    Per query good / (gallery - skipped), averaged over the queries that can be answered.
    Raises DataError for an empty side, ConfigError for an unknown protocol.
    """
    refuse_empty(split)
    split, _ = merged_queries(split)
    query, gallery = labels_from_records(split.query), labels_from_records(split.gallery)
    if split.protocol.name in ("market", MULTI_QUERY):
        return chance_market(query, gallery)
    if split.protocol.name == "single_shot":
        return chance_single_shot(query, gallery)
    raise _unknown_protocol(split.protocol)


def _span(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
