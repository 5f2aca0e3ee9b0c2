"""Describe, rank, score: the same way for a checkpoint, an ONNX file and an engine."""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid.data import read_image
from reid.errors import ConfigError, DataError, ModelFileError, nearest
from reid.manifest import manifest_path, read_manifest
from reid.matching import Matcher, Progress, VectorMatcher
from reid.metrics import (
    Scores,
    chance_market,
    chance_single_shot,
    score_market,
    score_single_shot,
)
from reid.ranking import labels_from_records
from reid.runtime import Runner, model_file, open_runner
from reid.types import EvalReport, Features, FloatArray, Image, ImageRecord, Protocol, Split

PROTOCOLS = ("market", "single_shot")

READ_THREADS = min(4, os.cpu_count() or 1)
"""Threads that decode images; OpenCV releases the interpreter while it does."""

READ_AHEAD = 256
"""Decoded images that may wait for the network, about 6 MB of 128x64 crops."""

_NAMED_IN_ERROR = 3


def evaluate(
    runner: Runner,
    split: Split,
    *,
    batch_size: int = 64,
    progress: Progress | None = None,
    model_name: str = "",
) -> EvalReport:
    """The figures of ``evaluate_runner`` alone."""
    result = evaluate_runner(
        runner, split, batch_size=batch_size, progress=progress, model_name=model_name
    )
    return result.report


def evaluate_runner(
    runner: Runner,
    split: Split,
    *,
    batch_size: int = 64,
    progress: Progress | None = None,
    model_name: str = "",
) -> Evaluation:
    """Describe a split's query and gallery and score them by its protocol.

    ``progress`` is called with the number of images just described, of
    ``len(split.query) + len(split.gallery)``. Raises DataError for an empty side or an
    image that cannot be read, ModelFileError for an output that is not finite or not the
    manifest's.
    """
    _refuse_empty(split)
    matcher = VectorMatcher(runner, batch_size)
    start = time.perf_counter()
    query = describe_records(matcher, split.query, progress)
    gallery = describe_records(matcher, split.gallery, progress)
    describe_s = time.perf_counter() - start
    report = evaluate_features(
        query,
        gallery,
        split.protocol,
        model=model_name or runner.backend,
        dataset=split.dataset,
        describe_s=describe_s,
    )
    return Evaluation(report, query, gallery)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's figures with the described images behind them."""

    report: EvalReport
    query: Features
    gallery: Features


def evaluate_models(
    models: Sequence[Path],
    split: Split,
    *,
    device: str = "auto",
    threads: int = 0,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Open and evaluate each model file in turn, all on one split.

    Raises what ``open_runner`` and ``evaluate`` raise.
    """
    results = []
    for model in models:
        with open_runner(model, device, threads) as runner:
            results.append(
                evaluate_runner(
                    runner, split, batch_size=batch_size, progress=progress, model_name=str(model)
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


def describe_records(
    matcher: Matcher[FloatArray],
    records: Sequence[ImageRecord],
    progress: Progress | None = None,
) -> Features:
    """Features of images on disk, in their order; decoding overlaps with the network.

    Raises DataError for an image that cannot be read, and what ``describe`` raises.
    """
    vectors = matcher.describe(_read_ahead(records), progress)
    labels = labels_from_records(records)
    paths = tuple(str(record.path) for record in records)
    return Features(vectors, labels.person_ids, labels.camera_ids, paths)


def _read_ahead(records: Sequence[ImageRecord]) -> Iterator[Image]:
    """The records' images in order, decoded by several threads a little ahead."""
    todo = iter(records)
    with ThreadPoolExecutor(READ_THREADS) as pool:
        waiting: deque[Future[Image]] = deque(
            pool.submit(read_image, record.path) for record in itertools.islice(todo, READ_AHEAD)
        )
        try:
            while waiting:
                image = waiting.popleft().result()
                for record in itertools.islice(todo, 1):
                    waiting.append(pool.submit(read_image, record.path))
                yield image
        finally:
            for future in waiting:
                future.cancel()


def evaluate_features(
    query: Features,
    gallery: Features,
    protocol: Protocol,
    *,
    model: str = "",
    dataset: str = "",
    describe_s: float = 0.0,
) -> EvalReport:
    """Score described images.

    Raises ModelFileError naming images whose vector is not finite, DataError for an empty
    side, ConfigError for an unknown protocol.
    """
    for name, features in (("query", query), ("gallery", gallery)):
        _refuse_not_finite(features, name)
    scores = _score(query, gallery, protocol)
    return EvalReport(
        model=model,
        dataset=dataset,
        protocol=protocol,
        num_query=len(query),
        num_gallery=len(gallery),
        num_unanswerable=scores.num_unanswerable,
        cmc=scores.cmc,
        map_step=scores.map_step,
        map_trapezoid=scores.map_trapezoid,
        minp=scores.minp,
        std=scores.std,
        describe_s=describe_s,
    )


def _score(query: Features, gallery: Features, protocol: Protocol) -> Scores:
    if protocol.name == "market":
        return score_market(query, gallery)
    if protocol.name == "single_shot":
        return score_single_shot(query, gallery, trials=protocol.trials, seed=protocol.seed)
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
    _refuse_empty(split)
    query, gallery = labels_from_records(split.query), labels_from_records(split.gallery)
    if split.protocol.name == "market":
        return chance_market(query, gallery)
    if split.protocol.name == "single_shot":
        return chance_single_shot(query, gallery)
    raise _unknown_protocol(split.protocol)


def _refuse_empty(split: Split) -> None:
    for name, records in (("query", split.query), ("gallery", split.gallery)):
        if not records:
            raise DataError(
                f"{split.dataset or 'the split'}: the {name} is empty; at least one image is "
                "needed to evaluate"
            )


def _refuse_not_finite(features: Features, name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(features.vectors).all(axis=1))
    if not len(bad):
        return
    named = [features.paths[i] if features.paths else f"number {i}" for i in bad[:_NAMED_IN_ERROR]]
    more = ", ..." if len(bad) > _NAMED_IN_ERROR else ""
    raise ModelFileError(
        f"the model's output is NaN or infinite for {len(bad)} of {len(features)} {name} "
        f"images ({', '.join(named)}{more}); check its weights, or use FP32"
    )
