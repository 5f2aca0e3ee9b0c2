"""Results of a model for some crops, in one form for vector networks and pair networks.

A Subject is a model under comparison; the parity check measures its Answers. Each Subject
preprocesses the crops by its own manifest, as matching does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from reid.errors import ParityError
from reid.matching import Matcher, PairMatcher, VectorMatcher
from reid.matching.vectors import unit_vectors
from reid.model_file.manifest import Manifest
from reid.runtime import Runner
from reid.types import BoolArray, FloatArray, Image, IntArray

from .tolerances import PAIR_TOLERANCES, TOLERANCES, Tolerances

PAIR_QUERIES = 8
"""Crops used as queries, against all crops, for a network that compares pairs: pairs are slow."""

PAIR_GRAPH_QUERIES = 4
"""The same for a graph that describes both images of every pair again."""

Distances = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answers:
    """Results for N crops, Q of them used as queries.

    values:     (N, D), used to measure errors
    rows:       name -> (N, ...), used to measure cosines of rows; empty for a pair graph
    distances:  (Q, N), infinite between a crop and itself; smaller means more similar
    """

    values: FloatArray
    rows: Mapping[str, FloatArray]
    distances: Distances

    def finite(self) -> BoolArray:
        """(N,): whether all results for a crop are finite."""
        finite = np.isfinite(self.values).all(axis=1)
        for array in self.rows.values():
            finite &= np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        return np.asarray(finite, np.bool_)


class Subject(ABC):
    """A model under comparison: runners of its graphs; the first runner's manifest is used."""

    tolerances: ClassVar[Mapping[str, Tolerances]]
    """Tolerances by precision."""
    max_queries: ClassVar[int | None] = None
    """Largest number of crops used as queries; None for all of them."""

    def __init__(self, *runners: Runner) -> None:
        self.runners = runners
        self.manifest = runners[0].manifest

    @property
    @abstractmethod
    def gives(self) -> str:
        """Description of its results; two models are comparable if theirs are equal."""

    @abstractmethod
    def answers(self, crops: Sequence[Image], queries: IntArray, batch_size: int) -> Answers:
        """Results for decoded BGR images of any size; ``queries`` (Q,) are indices of crops."""

    def stored(self, crops: Sequence[Image], queries: IntArray, batch_size: int) -> Answers | None:
        """Results from descriptions as a gallery stores them; None if that makes no difference."""
        return None

    def matcher(self) -> Matcher[Any] | None:
        """The matcher that ranks a gallery with this model; None if there is none."""
        return None


class VectorSubject(Subject):
    """One vector per crop: errors are measured on vectors, distances are squared Euclidean.

    With ``mirror`` the matcher averages the mirror image in, unless the graph does so itself.
    """

    tolerances = TOLERANCES

    def __init__(self, runner: Runner, *, mirror: bool = False) -> None:
        super().__init__(runner)
        self._mirror = mirror and not runner.manifest.mirrored
        if self._mirror:
            self.manifest = runner.manifest.with_mirror()

    @property
    def gives(self) -> str:
        manifest = self.manifest
        length = "of length 1" if manifest.normalised else "of any length"
        mirrored = ", with the mirror image" if manifest.mirrored else ""
        return f"{manifest.output_meaning} vectors of {manifest.output_dim}, {length}{mirrored}"

    def answers(self, crops: Sequence[Image], queries: IntArray, batch_size: int) -> Answers:
        manifest = self.manifest
        if self._mirror:
            vectors = VectorMatcher(self.runners[0], batch_size, mirror=True).describe(crops)
        else:
            vectors = np.concatenate(
                [
                    self.runners[0].run({manifest.input_name: data})[manifest.output_name]
                    for data in _batches(manifest, crops, batch_size)
                ]
            )
        if not manifest.normalised:
            vectors = unit_vectors(vectors)  # as matching does before it measures distances
        return Answers(vectors, {"embedding": vectors}, _squared_distances(vectors, queries))

    def matcher(self) -> Matcher[Any]:
        return VectorMatcher(self.runners[0], mirror=self._mirror)


class PairSubject(Subject):
    """``describe`` and ``compare``, used as in ``PairMatcher``; values are scores s / (1 + s)."""

    tolerances = PAIR_TOLERANCES
    max_queries = PAIR_QUERIES

    @property
    def gives(self) -> str:
        return _scores_of(self.manifest)

    def answers(self, crops: Sequence[Image], queries: IntArray, batch_size: int) -> Answers:
        return self._answers(crops, queries, batch_size, half=False)

    def stored(self, crops: Sequence[Image], queries: IntArray, batch_size: int) -> Answers:
        return self._answers(crops, queries, batch_size, half=True)

    def matcher(self) -> Matcher[Any]:
        describe, compare = self.runners
        return PairMatcher(describe, compare)

    def _answers(
        self, crops: Sequence[Image], queries: IntArray, batch_size: int, half: bool
    ) -> Answers:
        describe, compare = self.runners
        matcher = PairMatcher(describe, compare, batch_size, half=half)
        described = matcher.describe(crops)
        query = matcher.describe([crops[index] for index in queries])
        distances = matcher.tiles(query, described)(slice(0, len(queries)))
        rows = {name: described.whole(name) for name in described.names}
        return _of_scores(-distances, queries, rows)


class PairGraphSubject(Subject):
    """``pair``: two images at once, as in the paper; each pair is computed from the images."""

    tolerances = PAIR_TOLERANCES
    max_queries = PAIR_GRAPH_QUERIES

    @property
    def gives(self) -> str:
        return _scores_of(self.manifest)

    def answers(self, crops: Sequence[Image], queries: IntArray, batch_size: int) -> Answers:
        (pair,) = self.runners
        first, second = (spec.name for spec in self.manifest.input_arrays)
        scores = [
            pair.run({first: np.repeat(image, len(data), axis=0), second: data})["score"]
            for image in _batches(self.manifest, [crops[query] for query in queries], 1)
            for data in _batches(self.manifest, crops, batch_size)
        ]
        return _of_scores(np.concatenate(scores).reshape(len(queries), -1), queries, {})


def subjects_of(
    reference: Mapping[str, Runner], candidate: Mapping[str, Runner]
) -> tuple[Subject, Subject]:
    """The subjects of a comparison. Raises ParityError for models that cannot be compared.

    A candidate whose manifest says that it averages the mirror image in is held against the
    matcher's mean of the reference; never the other way round.
    """
    second = subject_of(candidate, reference)
    return subject_of(reference, candidate, mirror=second.manifest.mirrored), second


def subject_of(
    runners: Mapping[str, Runner], other: Mapping[str, Runner], *, mirror: bool = False
) -> Subject:
    """The subject for a model with these graphs, to compare it with a model with ``other``.

    If there are several graphs that output vectors, the first that both models have is used.
    ``mirror`` is that of ``VectorSubject``. Raises ParityError if there is none.
    """
    if "describe" in runners and "compare" in runners:
        return PairSubject(runners["describe"], runners["compare"])
    if "pair" in runners:
        return PairGraphSubject(runners["pair"])
    for graph, runner in runners.items():
        if graph in other:
            return VectorSubject(runner, mirror=mirror)
    raise ParityError(
        f"graphs {', '.join(runners)} cannot be compared with {', '.join(other)}; give two files "
        "that `reid export` wrote for the same network, or its run folder and one such file"
    )


def _batches(manifest: Manifest, crops: Sequence[Image], size: int) -> Iterator[FloatArray]:
    """The crops, preprocessed by the manifest, in batches of at most ``size``."""
    for start in range(0, len(crops), size):
        yield manifest.preprocess.batch(list(crops[start : start + size]))


def _scores_of(manifest: Manifest) -> str:
    return f"scores of pairs by {manifest.network}"


def _of_scores(scores: FloatArray, queries: IntArray, rows: Mapping[str, FloatArray]) -> Answers:
    """(Q, N) non-negative scores, as s / (1 + s): in the same order, from 0 to 1.

    The part of a score that depends on two vectors, 0.2 / (d + 1e-4), is 2000 for identical
    images and would dominate every error. The score of a crop with itself is set to 0.
    """
    with np.errstate(invalid="ignore"):
        squashed = scores / (1 + scores)
    own = np.arange(len(queries)), queries
    squashed[own] = 0
    distances = 1 - squashed.astype(np.float64)
    distances[own] = np.inf
    return Answers(np.ascontiguousarray(squashed.T), rows, distances)


def _squared_distances(vectors: FloatArray, queries: IntArray) -> Distances:
    v = vectors.astype(np.float64)
    squares = (v * v).sum(axis=1)
    with np.errstate(invalid="ignore"):  # non-finite values are reported separately
        distances: Distances = squares[queries, None] + squares[None, :] - 2 * v[queries] @ v.T
    distances[np.arange(len(queries)), queries] = np.inf
    return distances
