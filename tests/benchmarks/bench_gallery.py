"""A gallery of a million images: python tests/benchmarks/bench_gallery.py

Vectors as networks give them: 20 noisy unit vectors to a person, 256 numbers each. Searches are
of one new image each, of people who are in the gallery. Exact search is timed in turn with bare
FAISS over the same vectors. ``--record`` keeps the figures in records/gallery.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reid.deploy.gallery import GalleryEntry, GalleryStore, Where
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.gallery.vectors import faiss
from reid.files import write_text
from reid.matching import VectorMatcher, unit_vectors
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.runtime import Runner
from reid.types import FloatArray

RECORD = Path(__file__).parent / "records" / "gallery.json"
EACH = 20
NOISE = 0.7
"""Length of the noise on a unit vector: two images of a person are at a cosine of 0.67."""
K = 10
ADDED_AT_ONCE = 50_000


class NoRunner(Runner):
    """The vectors are drawn here."""

    backend = "none"

    def __init__(self, dim: int) -> None:
        self.manifest = Manifest("msp_cnn", "embed", Preprocess(), output_dim=dim)

    def close(self) -> None:
        pass


class People:
    """Anyone's images, the same whenever they are drawn."""

    def __init__(self, count: int, dim: int) -> None:
        rng = np.random.default_rng(0)
        self.centres = unit_vectors(rng.standard_normal((count, dim), np.float32))

    def images(self, people: np.ndarray[Any, Any], seed: int) -> FloatArray:
        """One image of each of these."""
        rng = np.random.default_rng(seed)
        shape = (len(people), self.centres.shape[1])
        noise = rng.standard_normal(shape, np.float32) * (NOISE / np.sqrt(shape[1]))
        return unit_vectors(self.centres[people] + noise.astype(np.float32))


def fill(gallery: GalleryStore, people: People, rows: int) -> float:
    """Add all images, person by person at random; the seconds it took."""
    order = np.random.default_rng(1).permutation(rows) // EACH
    seconds = 0.0
    for at in range(0, rows, ADDED_AT_ONCE):
        chosen = order[at : at + ADDED_AT_ONCE]
        vectors = people.images(chosen, seed=at + 2)
        entries = [
            GalleryEntry(
                f"/images/{at + i}.jpg", str(p), f"c{(at + i) % 12}", float(at + i), content="x"
            )
            for i, p in enumerate(chosen.tolist())
        ]
        start = time.perf_counter()
        gallery.add(vectors, entries)
        seconds += time.perf_counter() - start
    return seconds


def timed(searches: list[Callable[[], Any]]) -> list[float]:
    """Milliseconds of each."""
    found = []
    for search in searches:
        start = time.perf_counter()
        search()
        found.append(1000 * (time.perf_counter() - start))
    return found


def percentiles(times: list[float]) -> dict[str, float]:
    return {f"p{p}_ms": round(float(np.percentile(times, p)), 3) for p in (50, 90, 99)}


def memory_mb() -> dict[str, float]:
    """What this process holds: its own, and what the system may take back (files' pages)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {
        name: round(int(found[key].split()[0]) / 1024)
        for name, key in (("own_mb", "RssAnon"), ("files_mb", "RssFile"))
    }


def ids(gallery: GalleryStore, query: FloatArray, where: Where = Where()) -> set[int]:  # noqa: B008
    return {match.id for match in gallery.search(query, K, where)[0]}


def against_bare_faiss(
    exact: GalleryStore, queries: list[FloatArray], dim: int
) -> tuple[dict[str, Any], list[set[int]]]:
    """Exact search and a flat FAISS index in turn, so that both meet the same load; the truth."""
    bare = faiss.IndexFlatL2(dim)
    for segment in exact._store.segments:  # type: ignore[attr-defined]
        bare.add(np.ascontiguousarray(segment.vectors))
    ours, theirs = [], []
    for query in queries[: max(5, len(queries) // 10)]:
        ours += timed([partial(exact.search, query, K)])
        theirs += timed([partial(bare.search, query, K)])
    figures = {
        "exact": percentiles(ours),
        "bare_faiss": percentiles(theirs),
        "exact_over_bare": round(float(np.median(ours) / np.median(theirs)), 3),
    }
    return figures, [set(row) for row in bare.search(np.concatenate(queries), K)[1].tolist()]


def measured(rows: int, dim: int, index: str, num_queries: int, folder: Path) -> dict[str, Any]:
    people = People(rows // EACH, dim)
    matcher, name = VectorMatcher(NoRunner(dim)), str(folder / "gallery")
    said: list[str] = []
    filled_s = fill(open_gallery(name, matcher, create=True), people, rows)
    found: dict[str, Any] = {"rows": rows, "dim": dim, "added_per_s": round(rows / filled_s)}

    seen = np.random.default_rng(3).integers(0, rows // EACH, num_queries)
    queries = [row[None] for row in people.images(seen, seed=4)]
    start = time.perf_counter()
    exact = open_gallery(name, matcher, index="exact")
    ids(exact, queries[0])
    found["exact_opened_s"] = round(time.perf_counter() - start, 3)
    found["exact_memory"] = memory_mb()
    figures, truth = against_bare_faiss(exact, queries, dim)
    found |= figures

    indexed = open_gallery(name, matcher, index=index, say=said.append)
    indexed.prepare()
    found["index"] = said
    del indexed
    start = time.perf_counter()
    reader = open_gallery(name, matcher, index=index)
    ids(reader, queries[0])
    found["index_opened_s"] = round(time.perf_counter() - start, 3)
    found["index_memory"] = memory_mb()
    found["search"] = percentiles(timed([partial(reader.search, query, K) for query in queries]))
    hits = [len(ids(reader, q) & t) / K for q, t in zip(queries, truth, strict=True)]
    found["recall_at_10"] = round(float(np.mean(hits)), 4)
    for label, where in {
        "one_camera": Where(cameras=("c3",)),
        "six_cameras": Where(cameras=tuple(f"c{i}" for i in range(6))),
        "an_hour": Where(since_s=3600.0, until_s=7200.0),
    }.items():
        some = queries[: max(5, num_queries // 10)]
        times = timed([partial(reader.search, query, K, where) for query in some])
        right = [len(ids(reader, q, where) & ids(exact, q, where)) / K for q in some]
        found[label] = {**percentiles(times), "recall_at_10": round(float(np.mean(right)), 4)}
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {**found, "disk_mb": round(size / 1e6)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--index", default="auto")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(options.rows, options.dim, options.index, options.queries, Path(folder))
    figures |= {
        "threads": faiss.omp_get_max_threads(),
        "cores": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "faiss": faiss.__version__,
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if options.record:
        write_text(RECORD, text + "\n")


if __name__ == "__main__":
    main()
