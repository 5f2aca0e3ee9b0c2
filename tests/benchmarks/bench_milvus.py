"""A gallery in a Milvus server: how many of the nearest are found, with filters and without.

    REID_MILVUS_SERVER_PYTHON=... python tests/benchmarks/bench_milvus.py [--record]

For each index that a gallery may have, on random vectors and on people in clusters, recall@10 and
milliseconds per search; how long a summary takes, against reading all rows; and how long a query's
verdicts take with and without others. ``--record`` keeps the figures in records/milvus.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reid.deploy.gallery import (
    ANYWHERE,
    Confirmation,
    GalleryEntry,
    GalleryStore,
    Where,
    milvus_index,
)
from reid.deploy.gallery.milvus_names import Names
from reid.deploy.gallery.opening import open_gallery
from reid.files import write_text
from reid.matching import VectorMatcher, unit_vectors
from reid.types import FloatArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.bench_gallery import NoRunner  # noqa: E402
from tests.deploy.gallery.milvus_server import MilvusServer  # noqa: E402

RECORD = Path(__file__).parent / "records" / "milvus.json"
K, QUERIES, EACH, CAMERAS = 10, 20, 20, 10
FILTERS = {
    "all": ANYWHERE,
    "one camera of ten": Where(cameras=("c3",)),
    "five cameras of ten": Where(cameras=tuple(f"c{i}" for i in range(5))),
}


def vectors_of(kind: str, rows: int, dim: int) -> tuple[FloatArray, FloatArray]:
    """Gallery and queries."""
    rng = np.random.default_rng(0)
    if kind == "random":
        both = unit_vectors(rng.standard_normal((rows + QUERIES, dim), np.float32))
        return both[:rows], both[rows:]
    centres = unit_vectors(rng.standard_normal((rows // EACH, dim), np.float32))
    people = np.repeat(centres, EACH, axis=0)
    noise = 0.5 / np.sqrt(dim)
    gallery = people + noise * rng.standard_normal(people.shape, np.float32)
    queries = centres[:QUERIES] + noise * rng.standard_normal((QUERIES, dim), np.float32)
    return unit_vectors(gallery), unit_vectors(queries)


def recalls(store: GalleryStore, vectors: FloatArray, queries: FloatArray) -> dict[str, Any]:
    found = {}
    cameras = np.arange(len(vectors)) % CAMERAS
    for words, where in FILTERS.items():
        chosen = [i for i in range(CAMERAS) if not where.cameras or f"c{i}" in where.cameras]
        rows = np.flatnonzero(np.isin(cameras, chosen))
        nearest = rows[np.argsort(-queries @ vectors[rows].T, axis=1)[:, :K]]
        start = time.perf_counter()
        answers = [store.search(query[None], K, where)[0] for query in queries]
        took_s = time.perf_counter() - start
        right = [
            len({int(match.entry.source) for match in answer} & set(row.tolist())) / K
            for answer, row in zip(answers, nearest, strict=True)
        ]
        found[words] = {
            "recall_at_10": round(float(np.mean(right)), 4),
            "ms": round(1000 * took_s / QUERIES, 1),
        }
    return found


def seconds(call: Callable[[], object], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return round(sorted(taken)[times // 2], 4)


def measured(server: MilvusServer, rows: int, dim: int, kinds: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": rows, "dim": dim}
    for data in ("random", "clustered"):
        vectors, queries = vectors_of(data, rows, dim)
        store: Any = open_gallery(
            f"{server.url}/{data}?search_s=30", VectorMatcher(NoRunner(dim)), create=True, say=print
        )
        entries = [
            GalleryEntry(str(i), f"p{i // EACH}", f"c{i % CAMERAS}", float(i), content=str(i))
            for i in range(rows)
        ]
        store.add(vectors, entries)
        for kind in kinds:
            milvus_index.FLAT_ROWS = rows if kind == milvus_index.FLAT else 1
            store.prepare()
            found[f"{data}, {kind}"] = recalls(store, vectors, queries)
            print(json.dumps(found[f"{data}, {kind}"]))
    names: Names = store._names
    found["summary_s"] = {
        "reading all rows": seconds(names.rebuild, 1),
        "kept": seconds(store.summary),
    }
    before_s = seconds(lambda: store.verdicts("ab"))
    for number in range(20):
        store.confirm(Confirmation("ab", number, True, float(number)))
    table = store._verdicts._table
    row = table.some('query == "ab"', ["*"])[0]
    many = [{**row, "id": i, "query": f"q{i % 5000}", "image": i} for i in range(100_000)]
    table.upsert(many)
    found["verdicts_s"] = {
        "none": before_s,
        "100,000 others": seconds(lambda: store.verdicts("ab")),
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--index", nargs="+", default=[milvus_index.FLAT, milvus_index.HNSW])
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = MilvusServer(Path(folder))
        server.start()
        try:
            figures = measured(server, options.rows, options.dim, options.index)
        finally:
            server.stop()
    figures |= {"cores": os.cpu_count(), "load_average_1min": round(os.getloadavg()[0], 2)}
    text = json.dumps(figures, indent=2)
    print(text)
    if options.record:
        write_text(RECORD, text + "\n")


if __name__ == "__main__":
    main()
