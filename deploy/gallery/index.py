"""An engine over the rows that were there when it was built, kept in a file of its own.

The file is a cache: without it, or where it is stale or damaged, search is exact until the index
is built again. Rows added since are searched exactly, rows deleted since are passed over.
"""

from __future__ import annotations

import dataclasses
import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid.errors import ModelFileError
from reid.matching.columns import Column, read_columns, write_columns
from reid.types import BoolArray, FloatArray, IntArray

from .engines import ENGINES, SEED, Engine, sample_of
from .vectors import ROWS_AT_ONCE, Found, Vectors

FORMAT = "reid gallery index 1"

TARGET_RECALL = 0.995
"""Recall@10 that the effort is chosen for, a little above the 0.99 that is wanted."""

PROBES = 200
"""Rows that recall is measured with."""

K = 10

FILTERED_SHARE = 0.2
"""Where a filter leaves a smaller share, search is exact; efforts for filters are tuned with this
share of the rows, drawn at random and on one side, and the harder choice counts. A filter that
leaves few of a person's images is hard: the nearest are then others, all about as far. Inferred."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """The least effort that reached the target, or the most there is; what it reached."""

    effort: int
    recall: float


@dataclass(frozen=True, slots=True)
class Index:
    """``ids`` (n,) are those of the engine's rows; ``filtered`` is for searches of some rows."""

    engine: Engine
    ids: IntArray
    plain: Tuned
    filtered: Tuned

    def words(self) -> str:
        """For the terminal."""
        plain, some, what = self.plain, self.filtered, self.engine.effort_is
        return (
            f"{self.engine.name} over {len(self.ids):,} images: recall@{K} {plain.recall:.3f} "
            f"against exact search ({plain.effort:,} {what}), {some.recall:.3f} where a filter "
            f"leaves {FILTERED_SHARE:.0%} of the images ({some.effort:,})"
        )


def built_index(name: str, vectors: Vectors, ids: IntArray) -> tuple[Index, float]:
    """Build the engine ``name`` over all rows and tune it; returns the seconds it took too."""
    start = time.perf_counter()
    engine: Engine = ENGINES[name].built(vectors)
    rng = np.random.default_rng(SEED)
    probes = np.sort(rng.choice(len(ids), min(PROBES, len(ids)), replace=False)).astype(np.int64)
    some = (rng.random(len(ids)) < FILTERED_SHARE, _on_one_side(vectors, FILTERED_SHARE))
    plain, *others = (_tuned(engine, vectors, probes, allowed) for allowed in (None, *some))
    filtered = max(others, key=lambda tuned: (tuned.effort, -tuned.recall))
    return Index(engine, ids, plain, filtered), time.perf_counter() - start


def _on_one_side(vectors: Vectors, share: float) -> BoolArray:
    """(N,): the ``share`` of rows furthest along the direction in which rows differ most.

    Much like one camera's images among those of others, which have another light: an engine
    looks first where the query is, and an effort tuned with rows drawn at random alone missed 2
    or 3 of 10 there.
    """
    sample = sample_of(vectors, ROWS_AT_ONCE)
    direction = np.linalg.eigh(np.cov(sample, rowvar=False, ddof=0).reshape(vectors.dim, -1))[1]
    along = np.concatenate([part @ direction[:, -1] for part in vectors.parts])
    return np.asarray(along >= np.quantile(along, 1 - share), np.bool_)


def _tuned(engine: Engine, vectors: Vectors, probes: IntArray, allowed: BoolArray | None) -> Tuned:
    """Double the effort until rows find their nearest others, with the target's recall."""
    queries = vectors.rows(probes)
    exact = _others(vectors.nearest(queries, K + 1, allowed).positions, probes)
    effort, most = engine.efforts
    while True:
        candidates = engine.candidates(queries, K + 1, effort, allowed)
        found = _others(vectors.reranked(queries, candidates, K + 1).positions, probes)
        tuned = Tuned(effort, _recall(found, exact))
        if tuned.recall >= TARGET_RECALL or effort >= most:
            return tuned
        effort = min(2 * effort, most)


def nearest_by_index(
    index: Index,
    vectors: Vectors,
    at: IntArray,
    queries: FloatArray,
    k: int,
    rows: BoolArray | None,
) -> Found:
    """The nearest of the index's rows, or of some ``rows`` (n,) of them.

    ``at`` (n,) is where the engine's rows are among the vectors, -1 for those that are gone.
    """
    tuned = index.plain if rows is None else index.filtered
    found = index.engine.candidates(queries, k, tuned.effort, rows)
    return vectors.reranked(queries, np.where(found < 0, -1, at[found]), k)


def save_index(path: Path, index: Index, gallery: str) -> None:
    """Write the cache atomically. Raises OutputError."""
    columns = {"ids": index.ids, **index.engine.arrays}
    texts = {
        "gallery": gallery,
        "engine": index.engine.name,
        "tuned": json.dumps(
            [dataclasses.astuple(index.plain), dataclasses.astuple(index.filtered)]
        ),
        "crc32": str(_checksum(columns)),
    }
    write_columns(path, FORMAT, texts, {name: [column] for name, column in columns.items()})


def stored_engine(path: Path) -> str:
    """The engine of the index in a file; empty where there is none."""
    try:
        return read_columns(path, FORMAT, "index of a gallery", "")[0].get("engine", "")
    except ModelFileError:
        return ""


def load_index(path: Path, gallery: str, vectors: Vectors, ids: IntArray) -> Index | None:
    """The index in a file; None where there is none of this gallery, or it cannot be used."""
    try:
        texts, columns = read_columns(path, FORMAT, "index of a gallery", "")
        if texts["gallery"] != gallery or int(texts["crc32"]) != _checksum(columns):
            return None
        known = columns.pop("ids")
        if known.dtype != np.int64 or known.ndim != 1 or not (known[1:] > known[:-1]).all():
            return None
        at = places_of(known, ids)
        kind = ENGINES[texts["engine"]]
        if (at < 0).any():
            if not kind.per_row or not (at >= 0).any():
                return None
            columns[kind.per_row] = columns[kind.per_row][at >= 0]
        rows = vectors.some(at[at >= 0])
        engine: Engine = kind(columns, rows)
        least, most = engine.efforts
        plain, filtered = (
            Tuned(min(max(least, int(effort)), most), float(recall))
            for effort, recall in json.loads(texts["tuned"])
        )
        return Index(engine, np.array(known[at >= 0]), plain, filtered)
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
    """(n,): where each of ``known`` is in the ascending ``ids``, or -1."""
    if np.array_equal(known, ids[: len(known)]):  # nothing was deleted: the usual case
        return np.arange(len(known), dtype=np.int64)
    if not len(ids):
        return np.full(len(known), -1, np.int64)
    at = np.minimum(np.searchsorted(ids, known), len(ids) - 1)
    return np.where(ids[at] == known, at, -1)


def _others(positions: IntArray, own: IntArray) -> IntArray:
    """(Q, K): what was found less the query itself, or less the last."""
    is_own = positions == own[:, None]
    is_own[~is_own.any(axis=1), -1] = True
    others: IntArray = positions[~is_own].reshape(len(positions), -1)
    return others


def _recall(found: IntArray, exact: IntArray) -> float:
    """Of the exact ones that there are."""
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
