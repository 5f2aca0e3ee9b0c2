"""What a model says of some crops, in one form for networks of vectors and of pairs.

A Subject is a model under comparison; its Answers are what the parity gate measures. Each
Subject prepares the crops by its own manifest, as matching does.
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
from reid.model_file.manifest import Manifest
from reid.runtime import Runner
from reid.types import BoolArray, FloatArray, Image, IntArray

from .tolerances import PAIR_TOLERANCES, TOLERANCES, Tolerances

PAIR_QUERIES = 8
"""Crops that a network of pairs takes as queries, against all: each pair costs milliseconds."""

PAIR_GRAPH_QUERIES = 4
"""The same for a graph that describes both images of each pair anew."""

Distances = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known of N crops, Q of them taken as queries.

    values:     (N, D), of which errors are measured
    rows:       name -> (N, ...), of which the cosines of rows are; none of a graph of pairs
    distances:  (Q, N), infinite between a crop and itself; smaller is more alike
    """

    values: FloatArray
    rows: Mapping[str, FloatArray]
    distances: Distances

    def finite(self) -> BoolArray:
        """(N,): whether all that is known of a crop is finite."""
        finite = np.isfinite(self.values).all(axis=1)
        for array in self.rows.values():
            finite &= np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        return np.asarray(finite, np.bool_)


class Subject(ABC):
    """A model that can be asked about crops: its graphs, opened, the first with the manifest."""

    tolerances: ClassVar[Mapping[str, Tolerances]]
    """By precision."""
    max_queries: ClassVar[int | None] = None
    """How many crops it takes as queries at most; None for all of them."""

    def __init__(self, *runners: Runner) -> None:
        self.runners = runners
        self.manifest = runners[0].manifest

    @property
    @abstractmethod
    def gives(self) -> str:
        """What its answers are, in words: equal words can be compared."""

    @abstractmethod
    def answers(self, crops: Sequence[Image], queries: IntArray, batch_size: int) -> Answers:
        """Of BGR images as decoded, any size; ``queries`` are numbers of crops."""

    def stored(self, crops: Sequence[Image], queries: IntArray, batch_size: int) -> Answers | None:
        """The same from descriptions as a gallery keeps them; None where that changes nothing."""
        return None

    def matcher(self) -> Matcher[Any] | None:
        """What ranks a gallery with it, None where nothing can."""
        return None


class VectorSubject(Subject):
    """One vector per crop: errors are of the vectors, distances their squared distances."""

    tolerances = TOLERANCES

    @property
    def gives(self) -> str:
        manifest = self.manifest
        length = "of length 1" if manifest.normalised else "of any length"
        return f"{manifest.output_meaning} vectors of {manifest.output_dim}, {length}"

    def answers(self, crops: Sequence[Image], queries: IntArray, batch_size: int) -> Answers:
        manifest = self.manifest
        vectors = np.concatenate(
            [
                self.runners[0].run({manifest.input_name: data})[manifest.output_name]
                for data in _batches(manifest, crops, batch_size)
            ]
        )
        return Answers(vectors, {"embedding": vectors}, _squared_distances(vectors, queries))

    def matcher(self) -> Matcher[Any]:
        return VectorMatcher(self.runners[0])


class PairSubject(Subject):
    """``describe`` and ``compare``, used as ``PairMatcher`` does: values are squashed scores."""

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
        asking = matcher.describe([crops[query] for query in queries])
        distances = matcher.tiles(asking, described)(slice(0, len(queries)))
        rows = {name: described.whole(name) for name in described.names}
        return _of_scores(-distances, queries, rows)


class PairGraphSubject(Subject):
    """``pair``: two images at once, as the paper ran the network, every pair anew."""

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


def subject_of(runners: Mapping[str, Runner], other: Mapping[str, Runner]) -> Subject:
    """What compares the model that these graphs are with the model that ``other``'s are.

    Of several graphs that give vectors the first that both have is taken. Raises ParityError
    where there is none.
    """
    if "describe" in runners and "compare" in runners:
        return PairSubject(runners["describe"], runners["compare"])
    if "pair" in runners:
        return PairGraphSubject(runners["pair"])
    for graph, runner in runners.items():
        if graph in other:
            return VectorSubject(runner)
    raise ParityError(
        f"the graphs {', '.join(runners)} cannot be compared with {', '.join(other)}; name two "
        "files that `reid export` wrote of one network, or its run and one of them"
    )


def _batches(manifest: Manifest, crops: Sequence[Image], size: int) -> Iterator[FloatArray]:
    """The crops prepared as the manifest says, ``size`` at most."""
    for start in range(0, len(crops), size):
        yield manifest.preprocess.batch(list(crops[start : start + size]))


def _scores_of(manifest: Manifest) -> str:
    return f"scores of pairs by {manifest.network}"


def _of_scores(scores: FloatArray, queries: IntArray, rows: Mapping[str, FloatArray]) -> Answers:
    """(Q, N) scores, which are never negative, as s / (1 + s): in their order, from 0 to 1.

    The part of a score that two vectors decide, 0.2 / (d + 1e-4), is 2000 for twins, where it
    would be all that an error shows. What a crop scores with itself is left out as 0.
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
    with np.errstate(invalid="ignore"):  # not finite: told apart from the errors
        distances: Distances = squares[queries, None] + squares[None, :] - 2 * v[queries] @ v.T
    distances[np.arange(len(queries)), queries] = np.inf
    return distances
