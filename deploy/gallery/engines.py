"""Approximate search: inverted lists, a navigable graph, and binary codes.

The MSP paper proposes inverted indexing and hashing for large galleries. Each engine proposes
candidates, of which exact distances then choose. What an engine learned is plain arrays: they
are stored without the vectors, checked before they are used, and nothing in them is executed.

Sizes are inferred, and measured by ``tests/benchmarks/bench_gallery.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from reid.matching.columns import Column
from reid.types import BoolArray, FloatArray, IntArray

from .vectors import ROWS_AT_ONCE, Vectors, faiss

KMEANS_ROUNDS = 6
KMEANS_ROWS_PER_LIST = 40
GRAPH_LINKS = 32
GRAPH_BUILD_EFFORT = 80
MIN_BITS = 64
SEED = 0


class Engine(Protocol):
    """Proposes rows 0..n-1, by a search whose ``effort`` weighs time against what it misses."""

    name: str
    efforts: tuple[int, int]
    """The least and the most."""
    effort_is: str
    """What an effort counts."""
    per_row: str
    """The array with an entry for each row; empty where rows cannot be left out."""
    arrays: Mapping[str, Column]
    """What was learned."""

    def candidates(
        self, queries: FloatArray, k: int, effort: int, allowed: BoolArray | None
    ) -> IntArray:
        """(Q, k or more) rows for each query, -1 where there are fewer."""
        ...


class InvertedLists:
    """Rows in lists around centres; the lists of the centres nearest to a query are searched."""

    name, effort_is, per_row = "ivf", "lists for ten results", "lists"

    def __init__(self, arrays: Mapping[str, Column], vectors: Vectors) -> None:
        """Raises ValueError for arrays that are none."""
        centres, lists = arrays["centres"], arrays["lists"]
        if centres.dtype != np.float32 or centres.shape[1:] != (vectors.dim,) or not len(centres):
            raise ValueError("the centres are no vectors of this gallery")
        _require_numbers(lists, (len(vectors),), 0, len(centres))
        self.arrays, self.efforts = arrays, (1, len(centres))
        self._centres = faiss.IndexFlatL2(vectors.dim)
        self._centres.add(np.ascontiguousarray(centres))
        self._index = faiss.IndexIVFFlat(self._centres, vectors.dim, len(centres))
        self._index.is_trained = True
        row = 0
        for part in vectors.parts:
            for at in range(0, len(part), ROWS_AT_ONCE):
                some = np.ascontiguousarray(part[at : at + ROWS_AT_ONCE])
                numbers = np.arange(row, row + len(some), dtype=np.int64)
                chosen = lists[numbers].astype(np.int64)
                row += len(some)
                self._index.add_core(len(some), *map(faiss.swig_ptr, (some, numbers, chosen)))

    @classmethod
    def built(cls, vectors: Vectors) -> InvertedLists:
        """Learn from the vectors: 4 sqrt(N) lists, by k-means on a sample."""
        num_lists = 1 << max(0, round(np.log2(4 * np.sqrt(len(vectors)))))
        sample = sample_of(vectors, KMEANS_ROWS_PER_LIST * num_lists)
        num_lists = min(num_lists, len(sample))
        learned = faiss.Kmeans(
            vectors.dim,
            num_lists,
            niter=KMEANS_ROUNDS,
            seed=SEED,
            min_points_per_centroid=1,
            max_points_per_centroid=KMEANS_ROWS_PER_LIST,
        )
        learned.train(sample)
        centres = np.asarray(learned.centroids, np.float32)
        lists = [faiss.knn(part, centres, 1)[1][:, 0] for part in vectors.parts if len(part)]
        return cls({"lists": np.concatenate(lists).astype(np.int32), "centres": centres}, vectors)

    def candidates(
        self, queries: FloatArray, k: int, effort: int, allowed: BoolArray | None
    ) -> IntArray:
        """Of the ``effort`` lists nearest to each query for ten results, of more for more."""
        lists = min(effort * max(1, k // 10), self.efforts[1])
        parameters = faiss.SearchParametersIVF(nprobe=lists, **_selector(allowed))
        found: IntArray = self._index.search(queries, k, params=parameters)[1]
        return found


class Graph:
    """A hierarchical navigable small world: from row to row, ever nearer to the query."""

    name, effort_is, per_row = "hnsw", "rows kept in sight", ""
    efforts = (16, 4096)

    def __init__(self, arrays: Mapping[str, Column], vectors: Vectors) -> None:
        """Raises ValueError for arrays that are none."""
        self.arrays = arrays
        self._index = faiss.IndexHNSWFlat(vectors.dim, GRAPH_LINKS)
        graph = self._index.hnsw
        levels, links, entry = arrays["levels"], arrays["links"], arrays["entry"]
        steps = faiss.vector_to_array(graph.cum_nneighbor_per_level).astype(np.int64)
        _require_numbers(levels, (len(vectors),), 1, len(steps))
        starts = np.concatenate([[0], np.cumsum(steps[levels])])
        _require_numbers(links, (int(starts[-1]),), -1, len(vectors))
        _require_numbers(entry, (1,), 0, len(vectors))
        if levels[entry[0]] != levels.max():
            raise ValueError("the graph's entry is not on its highest level")
        for level in range(1, int(levels.max())):
            nodes = np.flatnonzero(levels > level)
            places = np.arange(steps[level], steps[level + 1])
            others = links[starts[nodes][:, None] + places]
            if (levels[others[others >= 0]] <= level).any():
                raise ValueError("the graph links to rows that are not on the link's level")
        for part in vectors.parts:
            self._index.storage.add(np.ascontiguousarray(part))
        self._index.ntotal = len(vectors)
        faiss.copy_array_to_vector(np.ascontiguousarray(levels), graph.levels)
        faiss.copy_array_to_vector(np.ascontiguousarray(links), graph.neighbors)
        faiss.copy_array_to_vector(starts.astype(np.uint64), graph.offsets)
        graph.entry_point, graph.max_level = int(entry[0]), int(levels.max()) - 1

    @classmethod
    def built(cls, vectors: Vectors) -> Graph:
        """Link every row to its neighbours."""
        index = faiss.IndexHNSWFlat(vectors.dim, GRAPH_LINKS)
        index.hnsw.efConstruction = GRAPH_BUILD_EFFORT
        for part in vectors.parts:
            index.add(np.ascontiguousarray(part))
        arrays = {
            "levels": faiss.vector_to_array(index.hnsw.levels),
            "links": faiss.vector_to_array(index.hnsw.neighbors),
            "entry": np.array([index.hnsw.entry_point], np.int32),
        }
        del index  # and with it its copy of the vectors
        return cls(arrays, vectors)

    def candidates(
        self, queries: FloatArray, k: int, effort: int, allowed: BoolArray | None
    ) -> IntArray:
        """Of the ``effort`` nearest rows that the walk saw."""
        parameters = faiss.SearchParametersHNSW(efSearch=max(effort, k), **_selector(allowed))
        found: IntArray = self._index.search(queries, k, params=parameters)[1]
        return found


class BinaryCodes:
    """Signs of random projections: rows whose bits differ least from the query's."""

    name, effort_is, per_row = "binary", "candidates for ten results", "codes"
    efforts = (16, 32768)

    def __init__(self, arrays: Mapping[str, Column], vectors: Vectors) -> None:
        """Raises ValueError for arrays that are none."""
        codes, planes, middle = (arrays[name] for name in ("codes", "planes", "middle"))
        num_bits = 8 * codes.shape[1] if codes.ndim == 2 else 0
        if codes.dtype != np.uint8 or len(codes) != len(vectors) or not num_bits:
            raise ValueError("the codes are none of this gallery")
        expected = [(vectors.dim, num_bits), (vectors.dim,)]
        if [planes.shape, middle.shape] != expected or {planes.dtype, middle.dtype} != {_SINGLE}:
            raise ValueError("the planes are none of this gallery's vectors")
        self.arrays = arrays
        self._codes, self._planes, self._middle = map(np.ascontiguousarray, (codes, planes, middle))
        self._last: tuple[BoolArray, IntArray, Column] | None = None

    @classmethod
    def built(cls, vectors: Vectors) -> BinaryCodes:
        """Planes through the middle of a sample, a bit a dimension, at right angles: that took
        half as many candidates as planes in any direction, and learned ones (ITQ) no fewer."""
        num_bits = -(-max(MIN_BITS, vectors.dim) // 8) * 8
        rng = np.random.default_rng(SEED)
        rotation = np.linalg.qr(rng.standard_normal((num_bits, num_bits)))[0]
        planes = rotation[: vectors.dim].astype(np.float32)
        middle = sample_of(vectors, ROWS_AT_ONCE).mean(axis=0)
        codes = [
            _bits(part[at : at + ROWS_AT_ONCE], planes, middle)
            for part in vectors.parts
            for at in range(0, len(part), ROWS_AT_ONCE)
        ]
        arrays = {"codes": np.concatenate(codes), "planes": planes, "middle": middle}
        return cls(arrays, vectors)

    def candidates(
        self, queries: FloatArray, k: int, effort: int, allowed: BoolArray | None
    ) -> IntArray:
        """The ``effort`` rows for ten results, more for more, whose codes are nearest."""
        rows, codes = self._allowed(allowed)
        count = min(len(codes), max(k, effort * k // 10))
        if not count:
            return np.full((len(queries), 1), -1, np.int64)
        bits = _bits(queries, self._planes, self._middle)
        found: IntArray = faiss.knn_hamming(bits, codes, count)[1].astype(np.int64)
        return found if rows is None else np.where(found < 0, -1, rows[found])

    def _allowed(self, allowed: BoolArray | None) -> tuple[IntArray | None, Column]:
        """The allowed rows and their codes, kept for the next search with the same array."""
        if allowed is None:
            return None, self._codes
        if self._last is None or self._last[0] is not allowed:
            rows = np.flatnonzero(allowed)
            self._last = (allowed, rows, self._codes[rows])
        return self._last[1:]


ENGINES: Mapping[str, Any] = {kind.name: kind for kind in (InvertedLists, Graph, BinaryCodes)}

_SINGLE = np.dtype(np.float32)


def _bits(vectors: FloatArray, planes: FloatArray, middle: FloatArray) -> Column:
    """(n, bits / 8) uint8."""
    return np.packbits((vectors - middle) @ planes > 0, axis=1)


def sample_of(vectors: Vectors, count: int) -> FloatArray:
    """``count`` rows drawn at random, or all."""
    if count >= len(vectors):
        return np.concatenate(vectors.parts)
    rng = np.random.default_rng(SEED)
    return vectors.rows(np.sort(rng.choice(len(vectors), count, replace=False)))


def _selector(allowed: BoolArray | None) -> dict[str, Any]:
    if allowed is None:
        return {}
    return {"sel": faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))}


def _require_numbers(column: Column, shape: tuple[int, ...], least: int, end: int) -> None:
    """Raise ValueError unless these are int32 in [least, end)."""
    fits = column.dtype == np.int32 and column.shape == shape
    if not fits or (column.size and not (column.min() >= least and column.max() < end)):
        raise ValueError("an array holds numbers that cannot be")
