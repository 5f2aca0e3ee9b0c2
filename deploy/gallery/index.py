"""Approximate search by binary codes, and the file that keeps them.

The MSP paper proposes hashing for large galleries. The codes propose candidates, from which exact
distances then choose. The file is a cache: without it, or if it is stale or damaged, search is
exact until the index is built again. It holds plain arrays, which are checked before they are
used. Rows added since it was built are searched exactly, rows deleted since are skipped.

Constants marked "inferred" are checked with ``tests/benchmarks/bench_gallery.py``.
"""

from __future__ import annotations

import dataclasses
import json
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid.errors import ModelFileError, output_errors
from reid.files import make_private_folder
from reid.matching.columns import Column, ColumnFile, open_columns, write_columns
from reid.types import BoolArray, FloatArray, IntArray

from .vectors import ROWS_AT_ONCE, Found, Vectors, faiss

FORMAT = "reid gallery index 1"

KIND = "binary"
"""The word for this index in its file and on the command line."""

RETIRED_KINDS = ("ivf", "hnsw")
"""Kinds in files of older versions, which are no longer used: ivf was slower and larger than
binary codes; hnsw kept a copy of all vectors in memory and had to be built again after each
deletion."""

TARGET_RECALL = 0.995
"""Recall@10 that the effort is tuned for, a little above the wanted 0.99."""

PROBES = 200
"""Rows that recall is measured with."""

K = 10

FILTERED_SHARE = 0.2
"""If a filter leaves a smaller share of the rows, search is exact. Efforts for filters are tuned
with this share, once drawn at random and once on one side; the larger one counts. A filter that
leaves few images of a person is hard: the nearest are then other people, all about equally far.
Inferred."""

EFFORTS = (16, 32768)
"""The least and the most candidates for ten results."""

MIN_BITS = 64
SEED = 0

_SINGLE = np.dtype(np.float32)


class BinaryCodes:
    """Signs of random projections: finds the rows whose bits differ least from the query's."""

    def __init__(self, arrays: Mapping[str, Column], vectors: Vectors) -> None:
        """Raises ValueError for arrays that do not fit the vectors."""
        codes, planes, middle = (arrays[name] for name in ("codes", "planes", "middle"))
        num_bits = 8 * codes.shape[1] if codes.ndim == 2 else 0
        if codes.dtype != np.uint8 or len(codes) != len(vectors) or not num_bits:
            raise ValueError("the codes do not belong to this gallery")
        expected = [(vectors.dim, num_bits), (vectors.dim,)]
        if [planes.shape, middle.shape] != expected or {planes.dtype, middle.dtype} != {_SINGLE}:
            raise ValueError("the planes do not belong to this gallery's vectors")
        self.arrays = arrays
        self._codes, self._planes, self._middle = map(np.ascontiguousarray, (codes, planes, middle))
        self._last: tuple[BoolArray, IntArray, Column] | None = None

    @classmethod
    def built(cls, vectors: Vectors) -> BinaryCodes:
        """Orthogonal planes through the mean of a sample, one bit per dimension.

        They need half as many candidates as planes in random directions; learned planes (ITQ)
        need no fewer.
        """
        num_bits = -(-max(MIN_BITS, vectors.dim) // 8) * 8
        rng = np.random.default_rng(SEED)
        rotation = np.linalg.qr(rng.standard_normal((num_bits, num_bits)))[0]
        planes = rotation[: vectors.dim].astype(np.float32)
        middle = _sample_of(vectors, ROWS_AT_ONCE).mean(axis=0)
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
        """(Q, k or more) rows whose codes are nearest, -1 if there are fewer.

        ``effort`` is how many for ten results; more results get proportionally more.
        """
        rows, codes = self._allowed(allowed)
        count = min(len(codes), max(k, effort * k // 10))
        if not count:
            return np.full((len(queries), 1), -1, np.int64)
        bits = _bits(queries, self._planes, self._middle)
        found: IntArray = faiss.knn_hamming(bits, codes, count)[1].astype(np.int64)
        return found if rows is None else np.where(found < 0, -1, rows[found])

    def _allowed(self, allowed: BoolArray | None) -> tuple[IntArray | None, Column]:
        """The allowed rows and their codes, cached for the next search with the same array."""
        if allowed is None:
            return None, self._codes
        if self._last is None or self._last[0] is not allowed:
            rows = np.flatnonzero(allowed)
            self._last = (allowed, rows, self._codes[rows])
        return self._last[1:]


@dataclass(frozen=True, slots=True)
class Tuned:
    """The least effort that reached the target, or the largest effort; and its recall."""

    effort: int
    recall: float


@dataclass(frozen=True, slots=True)
class SearchIndex:
    """``ids`` (n,) are those of the codes' rows; ``filtered`` is for searches of some rows."""

    codes: BinaryCodes
    ids: IntArray
    plain: Tuned
    filtered: Tuned
    file: ColumnFile | None = None
    """The open file whose memory map holds the codes."""

    def was_cut_short(self) -> bool:
        """Whether the file became shorter, so that the codes must not be used any more."""
        try:
            if self.file is not None:
                self.file.require_size()
        except ModelFileError:
            return True
        return False

    def words(self) -> str:
        """One line for the terminal."""
        plain, some = self.plain, self.filtered
        return (
            f"{KIND} index of {len(self.ids):,} images: recall@{K} {plain.recall:.3f} "
            f"({plain.effort:,} candidates for ten results), {some.recall:.3f} with a filter that "
            f"leaves {FILTERED_SHARE:.0%} of the images ({some.effort:,})"
        )


def built_index(vectors: Vectors, ids: IntArray) -> tuple[SearchIndex, float]:
    """Build an index of all rows and tune it; returns also the seconds it took."""
    start = time.perf_counter()
    codes = BinaryCodes.built(vectors)
    rng = np.random.default_rng(SEED)
    probes = np.sort(rng.choice(len(ids), min(PROBES, len(ids)), replace=False)).astype(np.int64)
    some = (rng.random(len(ids)) < FILTERED_SHARE, _on_one_side(vectors, FILTERED_SHARE))
    plain, *others = (_tuned(codes, vectors, probes, allowed) for allowed in (None, *some))
    filtered = max(others, key=lambda tuned: (tuned.effort, -tuned.recall))
    return SearchIndex(codes, ids, plain, filtered), time.perf_counter() - start


def _on_one_side(vectors: Vectors, share: float) -> BoolArray:
    """(N,): the ``share`` of rows furthest along the direction in which rows differ most.

    Much like the images of one camera with another light. Candidates are nearest to the query
    first, so an effort tuned only with rows drawn at random misses many of these rows.
    """
    sample = _sample_of(vectors, ROWS_AT_ONCE)
    direction = np.linalg.eigh(np.cov(sample, rowvar=False, ddof=0).reshape(vectors.dim, -1))[1]
    along = np.concatenate([part @ direction[:, -1] for part in vectors.parts])
    return np.asarray(along >= np.quantile(along, 1 - share), np.bool_)


def _tuned(
    codes: BinaryCodes, vectors: Vectors, probes: IntArray, allowed: BoolArray | None
) -> Tuned:
    """Double the effort until the probes find their nearest others with the target recall."""
    queries = vectors.rows(probes)
    exact = _others(vectors.nearest(queries, K + 1, allowed).positions, probes)
    effort, most = EFFORTS
    while True:
        candidates = codes.candidates(queries, K + 1, effort, allowed)
        found = _others(vectors.reranked(queries, candidates, K + 1).positions, probes)
        tuned = Tuned(effort, _recall(found, exact))
        if tuned.recall >= TARGET_RECALL or effort >= most:
            return tuned
        effort = min(2 * effort, most)


def nearest_by_index(
    index: SearchIndex,
    vectors: Vectors,
    at: IntArray,
    queries: FloatArray,
    k: int,
    rows: BoolArray | None,
    check: Callable[[IntArray], object] = lambda positions: None,
) -> Found:
    """The nearest of the index's rows, or of the ``rows`` (n,) among them.

    ``at`` (n,) is the position of each index row among the vectors, -1 for deleted ones. ``check``
    is called with the positions whose vectors will be compared.
    """
    tuned = index.plain if rows is None else index.filtered
    found = index.codes.candidates(queries, k, tuned.effort, rows)
    positions = np.where(found < 0, -1, at[found])
    different = np.unique(positions)
    check(different[different >= 0])
    return vectors.reranked(queries, positions, k)


def save_index(path: Path, index: SearchIndex, gallery: str) -> None:
    """Write the cache atomically. Raises OutputError."""
    columns = {"ids": index.ids, **index.codes.arrays}
    texts = {
        "gallery": gallery,
        "engine": KIND,
        "tuned": json.dumps(
            [dataclasses.astuple(index.plain), dataclasses.astuple(index.filtered)]
        ),
        "crc32": str(_checksum(columns)),
    }
    with output_errors(path):
        make_private_folder(path.parent)
    parts = {name: [column] for name, column in columns.items()}
    write_columns(path, FORMAT, texts, parts, private=True)


def stored_kind(path: Path) -> str:
    """The kind of the index in a file; empty if there is none."""
    try:
        return open_columns(path, FORMAT, "index of a gallery", "").texts.get("engine", "")
    except ModelFileError:
        return ""


def load_index(path: Path, gallery: str, vectors: Vectors, ids: IntArray) -> SearchIndex | None:
    """The index in a file; None if it is missing, of another gallery or kind, or damaged."""
    try:
        file = open_columns(path, FORMAT, "index of a gallery", "")
        texts, columns = file.texts, dict(file.columns)
        if texts["engine"] != KIND or texts["gallery"] != gallery:
            return None
        known = columns.pop("ids")
        if int(texts["crc32"]) != _checksum({"ids": known, **columns}):
            return None
        if known.dtype != np.int64 or known.ndim != 1 or not (known[1:] > known[:-1]).all():
            return None
        at = places_of(known, ids)
        there = at >= 0
        if not there.any():
            return None
        if not there.all():
            columns["codes"] = columns["codes"][there]
        codes = BinaryCodes(columns, vectors.some(at[there]))
        least, most = EFFORTS
        plain, filtered = (
            Tuned(min(max(least, int(effort)), most), float(recall))
            for effort, recall in json.loads(texts["tuned"])
        )
        return SearchIndex(codes, np.array(known[there]), plain, filtered, file)
    except (
        IndexError,
        KeyError,
        ModelFileError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ):
        return None


def places_of(known: IntArray, ids: IntArray) -> IntArray:
    """(n,): the position of each of ``known`` in the ascending ``ids``, or -1."""
    if np.array_equal(known, ids[: len(known)]):  # nothing was deleted, the usual case
        return np.arange(len(known), dtype=np.int64)
    if not len(ids):
        return np.full(len(known), -1, np.int64)
    at = np.minimum(np.searchsorted(ids, known), len(ids) - 1)
    return np.where(ids[at] == known, at, -1)


def _others(positions: IntArray, own: IntArray) -> IntArray:
    """(Q, K): the results without the query itself, or without the last one."""
    is_own = positions == own[:, None]
    is_own[~is_own.any(axis=1), -1] = True
    others: IntArray = positions[~is_own].reshape(len(positions), -1)
    return others


def _recall(found: IntArray, exact: IntArray) -> float:
    """Share of the exact results that were found."""
    hits = sum(
        len(set(one) & set(other))
        for one, other in zip(found.tolist(), exact.tolist(), strict=True)
    )
    return hits / max(1, exact.size)


def _checksum(columns: Mapping[str, Column]) -> int:
    total = 0
    for name in sorted(columns):
        total = zlib.crc32(np.ascontiguousarray(columns[name]).data, total)
    return total


def _bits(vectors: FloatArray, planes: FloatArray, middle: FloatArray) -> Column:
    """(n, bits / 8) uint8: the side of each plane."""
    return np.packbits((vectors - middle) @ planes > 0, axis=1)


def _sample_of(vectors: Vectors, count: int) -> FloatArray:
    """``count`` rows drawn at random, or all rows."""
    if count >= len(vectors):
        return np.concatenate(vectors.parts)
    rng = np.random.default_rng(SEED)
    return vectors.rows(np.sort(rng.choice(len(vectors), count, replace=False)))
