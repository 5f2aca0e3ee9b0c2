"""Describe, rank, score: the same way for a checkpoint, an ONNX file and an engine."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reid.data import load_split
from reid.data.readers.datasets import reader_of
from reid.data.readers.division import AS_TRAINED, AskedSplit
from reid.data.readers.joint import trained_together
from reid.errors import ConfigError
from reid.evaluation.reranking import Reranking, reranked_tiles
from reid.evaluation.scoring import (
    ANY_CAMERA,
    KEPT,
    MULTI_QUERY,
    MULTI_SHOT,
    SINGLE_SHOT,
    Measured,
    chance,
    check_protocol,
    measure,
)
from reid.evaluation.verification import FPRS, Verification
from reid.matching import Matcher, open_matcher
from reid.matching.describing import Described, describe_split, refuse_empty
from reid.matching.distances import Distances
from reid.matching.labels import labels_from_records
from reid.matching.lower_precision import say_lower_precision
from reid.model_file.manifest import Manifest
from reid.model_file.opening import ModelFile
from reid.progress import SILENT, Advance, Reporter, ignore
from reid.types import (
    DISTRACTOR_ID,
    JUNK_ID,
    EvalReport,
    ImageRecord,
    IntArray,
    Protocol,
    Ranking,
    Split,
)

ANNOUNCED_S = 2.0
"""Comparisons that take longer are announced and have a bar; a shortlist's always are."""

TRIALS = 10
"""Draws of a single-shot or multi-shot evaluation of a dataset that has no such protocol."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's figures, and what they were made of.

    ``split`` has one query image for each row of the ``distances``: see ``merged_queries``.
    ``cmc_curve`` (K,) is the share of queries answered within k = 1, ..., K, and ``kept`` the
    nearest gallery images of each query.
    """

    report: EvalReport
    split: Split
    distances: Distances
    cmc_curve: npt.NDArray[np.float64]
    kept: Ranking
    verification: Verification

    def ranking(self, k: int) -> Ranking:
        """The ``k`` nearest gallery images of each query; -1 where there are not so many.

        Raises ValueError for more than were kept.
        """
        num_kept = self.kept.indices.shape[1]
        if not 1 <= k <= num_kept:
            raise ValueError(f"1 to {num_kept} nearest images were kept, found {k}")
        kept = self.kept
        return Ranking(kept.indices[:, :k], kept.distances[:, :k], kept.correct[:, :k])


def evaluate(
    matcher: Matcher[Any],
    split: Split,
    *,
    described: Described | None = None,
    query_file: Path | None = None,
    gallery_file: Path | None = None,
    best: int = 0,
    rerank: Reranking | None = None,
    keep: int = KEPT,
    reporter: Reporter = SILENT,
    model_name: str = "",
) -> Evaluation:
    """Score a split by its protocol, after describing it unless ``described`` is at hand.

    ``query_file`` and ``gallery_file`` are sides that ``describe_to_file`` wrote.

    With ``best`` a network that compares pairs compares only that many gallery images with a
    query, its best by the ranking vector. With ``rerank`` the distances of vectors are
    re-ranked. ``keep`` nearest images are kept of each query. ``reporter`` gets how long
    comparing will take where that is more than a moment, with ``best`` always, and then how long
    all pairs would; and what ``Matcher.tiles`` has to say. Raises what ``describe_split``
    raises, and ConfigError for an unknown protocol, a shortlist that cannot be, or re-ranking
    of pairs.
    """
    check_protocol(split.protocol)
    _refuse_pairs(matcher, split, rerank)
    matcher.refuse_shortlist(best, len(split.gallery))
    described = described or describe_split(matcher, split, reporter, query_file, gallery_file)
    query, gallery = described.query, described.gallery
    split, groups = merged_queries(split)
    if len(split.query) < len(groups):
        query = matcher.means(query, groups)
    num_pairs = len(split.query) * (best or len(split.gallery))
    seconds = matcher.seconds(query, gallery, best)
    if rerank is not None:
        num_images = len(query) + len(gallery)
        distances = reranked_tiles(query, gallery, rerank, reporter.begin("re-ranking", num_images))
    else:
        count: Advance = ignore
        line = f"{num_pairs:,} pairs to compare: {_span(seconds)}"
        if best and seconds:
            num_all, whole = len(split.query) * len(split.gallery), matcher.seconds(query, gallery)
            reporter.say(f"{line} (all {num_all:,}: {_span(whole)})")
        elif seconds > ANNOUNCED_S:
            reporter.say(line)
        if seconds > ANNOUNCED_S:
            count = reporter.begin("comparing", num_pairs)
        distances = matcher.tiles(query, gallery, count, best, reporter.say)
    thresholds = None if rerank else matcher.manifest.thresholds
    limit = thresholds.for_gallery(len(split.gallery)) if thresholds else None
    start = time.perf_counter()
    labels = labels_from_records(split.query), labels_from_records(split.gallery)
    found = measure(distances, *labels, split.protocol, keep=keep)
    report = dataclasses.replace(
        _report(found, split, model_name or matcher.backend),
        reranking=rerank.words() if rerank else "",
        unit_vectors=rerank is None and isinstance(query, np.ndarray),
        limit=limit.distance if limit else None,
        limit_words=limit.words if limit else "",
        describe_s=described.seconds,
        num_compared=num_pairs if seconds else 0,
        compare_s=time.perf_counter() - start if seconds else 0.0,
    )
    return Evaluation(report, split, distances, found.cmc_curve, found.ranking, found.verification)


def _refuse_pairs(matcher: Matcher[Any], split: Split, rerank: Reranking | None) -> None:
    """Raise ConfigError for what takes vectors, before a network that has none is kept busy."""
    nothing = matcher.describe([])
    if rerank is not None and not isinstance(nothing, np.ndarray):
        raise ConfigError(
            "re-ranking compares the gallery images with one another too, which takes vectors; "
            "this network compares pairs: leave --rerank out"
        )
    if split.protocol.name == MULTI_QUERY:
        matcher.means(nothing, np.zeros(0, np.int64))


def _report(found: Measured, split: Split, model: str) -> EvalReport:
    scores = found.scores
    return EvalReport(
        model=model,
        dataset=split.dataset,
        protocol=split.protocol,
        num_query=scores.num_query,
        num_gallery=len(split.gallery),
        num_unanswerable=scores.num_unanswerable,
        num_identities=len({one.person_id for one in split.query} - {JUNK_ID, DISTRACTOR_ID}),
        cmc=scores.cmc,
        map_step=scores.map_step,
        map_trapezoid=scores.map_trapezoid,
        minp=scores.minp,
        std=scores.std,
        tpr={fpr: found.verification.tpr_at(fpr) for fpr in FPRS},
        distance_at={fpr: found.verification.distance_at(fpr) for fpr in FPRS},
        camera_pairs=found.camera_pairs,
    )


def evaluate_models(
    models: Sequence[Path],
    split: Split,
    *,
    shortlists: Sequence[int] = (),
    rerank: Reranking | None = None,
    graphs: Sequence[str] = (),
    query_file: Path | None = None,
    gallery_file: Path | None = None,
    device: str = "auto",
    threads: int = 0,
    batch_size: int | None = None,
    reporter: Reporter = SILENT,
) -> list[Evaluation]:
    """Open and evaluate each model file in turn, all on one split.

    ``shortlists`` are numbers of gallery images to compare with a query, 0 for all of them;
    there is one evaluation of each model for each, and for each of ``graphs`` (SiSNet's: one
    branch, the other, both). With ``rerank`` each is followed by the same re-ranked. Raises
    what ``open_matcher`` and ``evaluate`` raise.
    """
    results = []
    features = [file for file in (query_file, gallery_file) if file is not None]
    sha256 = {str(file): ModelFile(file).sha256 for file in features if file.is_file()}
    for model, graph in itertools.product(models, graphs or ("",)):
        with closing(open_matcher(model, device, threads, batch_size, graph)) as matcher:
            say_lower_precision(device, matcher.backend, reporter.say)
            hashes = {**_hashes(model), **sha256}
            _refuse_pairs(matcher, split, rerank)
            for best in shortlists:
                matcher.refuse_shortlist(best, len(split.gallery))
            described = describe_split(matcher, split, reporter, query_file, gallery_file)
            for best in shortlists or (0,):
                parts = [str(model), *([graph] if len(graphs) > 1 else [])]
                name = ", ".join([*parts, *([f"best {best}"] if best else [])])
                for again in (None, rerank) if rerank else (None,):
                    result = evaluate(
                        matcher,
                        split,
                        described=described,
                        best=best,
                        rerank=again,
                        reporter=reporter,
                        model_name=f"{name}, re-ranked" if again else name,
                    )
                    report = dataclasses.replace(result.report, sha256=hashes)
                    results.append(dataclasses.replace(result, report=report))
    return results


def _hashes(model: Path) -> dict[str, str]:
    """Path -> SHA-256 of a model's files; empty for a model that is not in a file."""
    if not model.exists():
        return {}
    file = ModelFile.at(model)
    return {str(file.path.with_name(name)): digest for name, digest in file.hashes().items()}


def split_as_trained(
    model: Path | ModelFile,
    dataset: str,
    data_root: Path,
    asked: AskedSplit = AS_TRAINED,
) -> Split:
    """A dataset, split as the model was trained on it, but for what is asked otherwise.

    A random split must be evaluated as it was trained, or the test identities are not new.
    Raises what ``load_split`` raises, and ManifestError for a broken manifest.
    """
    trained = (0, 0) if asked.own.all_test else _trained_on(model, dataset)
    return load_split(
        dataset,
        data_root,
        num_test_identities=trained[0] if asked.test_identities is None else asked.test_identities,
        split_seed=trained[1] if asked.seed is None else asked.seed,
        own=asked.own,
    )


def _trained_on(model: Path | ModelFile, dataset: str) -> tuple[int, int]:
    """(test identities, seed) of the model's split; (0, 0) for another dataset's model, or where
    no manifest lies beside an exported file."""
    manifest = _manifest_of(model)
    if manifest is None or dataset not in trained_together(manifest.dataset):
        return 0, 0
    # Of several datasets, those with a split of their own have no test identities to choose.
    random = not reader_of(dataset).is_fixed
    return manifest.num_test_identities if random else 0, manifest.split_seed


def datasets_trained_on(model: Path | ModelFile) -> tuple[str, ...] | None:
    """The datasets that a model was trained on; None if its file does not say.

    Raises ManifestError for a broken manifest, CheckpointError.
    """
    manifest = _manifest_of(model)
    return (trained_together(manifest.dataset) or None) if manifest is not None else None


def _manifest_of(model: Path | ModelFile) -> Manifest | None:
    """None where no manifest lies beside an exported file."""
    file = ModelFile.at(model)
    if not (file.is_checkpoint or file.has_manifest_beside):
        return None
    # A process killed between two renames leaves a manifest of the file before it.
    return file.checkpoint.manifest if file.is_checkpoint else file.manifest


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


def with_shots(split: Split, shots: int) -> Split:
    """The split by the single-shot protocol, or multi-shot with ``shots`` gallery images.

    It has as many draws as its own protocol, or ``TRIALS`` where that draws none.
    """
    name = SINGLE_SHOT if shots == 1 else MULTI_SHOT
    old = split.protocol
    trials = old.trials if old.name in (SINGLE_SHOT, MULTI_SHOT) else TRIALS
    return dataclasses.replace(split, protocol=Protocol(name, trials, old.seed, shots))


def with_any_camera(split: Split) -> Split:
    """The split by X-Corr's protocol: all test images are queries and gallery, but for the draws.

    It has as many draws as its own protocol, or ``TRIALS`` where that draws none.
    """
    images = {one.path: one for one in (*split.query, *split.gallery)}
    pool = tuple(images[path] for path in sorted(images))
    old = split.protocol
    trials = old.trials if old.name in (SINGLE_SHOT, MULTI_SHOT) else TRIALS
    protocol = Protocol(ANY_CAMERA, trials, old.seed)
    return dataclasses.replace(split, query=pool, gallery=pool, protocol=protocol)


def chance_rank1(split: Split) -> float:
    """Expected rank-1 of a random ranking of this split, exactly, in [0, 1].

    Raises DataError for an empty side, ConfigError for an unknown protocol.
    """
    refuse_empty(split)
    split, _ = merged_queries(split)
    query, gallery = labels_from_records(split.query), labels_from_records(split.gallery)
    return chance(query, gallery, split.protocol)


def _span(seconds: float) -> str:
    """``under 1 s``, ``about 45 s``, ``about 12 min``, ``about 3.4 h``."""
    if seconds < 90:
        return f"about {seconds:.0f} s" if seconds >= 1 else "under 1 s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
