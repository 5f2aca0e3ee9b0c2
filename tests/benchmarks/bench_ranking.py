"""All figures of an evaluation at the size of a dataset: python tests/benchmarks/bench_ranking.py

Drawn 256-d unit vectors of as many queries, gallery images, people and cameras as Market-1501
or MSMT17 (``--size``) has. Ours gives every figure in one pass: CMC, both mAP, mINP, nearest
images, ROC, camera pairs. The others give CMC and mAP: plain NumPy, with the whole distance
matrix sorted, and torchreid's Python ranking where ``--torchreid`` names a folder with it
(``pip install torchreid --no-deps --target FOLDER``). They need tens of GB at MSMT17's size, so
there they rank its first queries (``--queries``) and their time is taken times the rest. CMC
and mAP (step) of the same queries must agree to 1e-6.

``--rerank`` instead times k-reciprocal re-ranking. ``--record`` keeps the figures in
tests/benchmarks/records/ranking.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np

from reid.evaluation.reranking import Reranking, reranked_tiles
from reid.evaluation.scoring import CURVE, Measured, measure
from reid.files import write_text
from reid.matching.distances import euclidean_distances, euclidean_tiles
from reid.matching.labels import Labels
from reid.types import FloatArray, Protocol

RECORD = Path(__file__).parent / "records" / "ranking.json"
DIM = 256
AGREE = 1e-6
Result = TypeVar("Result")


class Size(NamedTuple):
    """How many images, people and cameras a test has; junk is not ranked, so it is not drawn."""

    queries: int
    gallery: int
    distractors: int
    people: int
    cameras: int


SIZES = {
    "market": Size(3_368, 19_732, 2_798 + 3_819, 750, 6),
    "msmt17": Size(11_659, 82_161, 0, 3_060, 15),
}


RUNS = 3
"""Of ours, whose median counts; the others run once, which takes minutes."""


class Drawn(NamedTuple):
    query: FloatArray
    query_labels: Labels
    gallery: FloatArray
    gallery_labels: Labels

    def first(self, num: int) -> Drawn:
        labels = Labels(*(ids[:num] for ids in self.query_labels))
        return Drawn(self.query[:num], labels, self.gallery, self.gallery_labels)


def draw(size: Size) -> Drawn:
    """People as centres, images as noise around them; distractors are noise alone."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((size.people + 1, DIM), np.float32)
    centres[0] = 0

    def images(people: np.ndarray[Any, Any]) -> tuple[FloatArray, Labels]:
        vectors = 2 * rng.standard_normal((len(people), DIM), np.float32)
        vectors += centres[people]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors, Labels(people, rng.integers(1, size.cameras + 1, len(people)))

    shown = np.sort(rng.integers(1, size.people + 1, size.gallery - size.distractors))
    gallery = np.concatenate([np.zeros(size.distractors, np.int64), shown])
    return Drawn(*images(rng.integers(1, size.people + 1, size.queries)), *images(gallery))


def timed(work: Callable[[], Result]) -> tuple[Result, dict[str, float]]:
    """What ``work`` gives, and its seconds: on the wall's clock, and of the processor's time."""
    start, start_cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    return result, {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}


def ours(drawn: Drawn) -> Measured:
    tiles = euclidean_tiles(drawn.query, drawn.gallery)
    return measure(tiles, drawn.query_labels, drawn.gallery_labels, Protocol("market"))


def plain_numpy(drawn: Drawn) -> tuple[FloatArray, float]:
    """CMC up to rank 50 and mAP (step), as they are mostly written: everything sorted at once."""
    query, gallery = drawn.query_labels, drawn.gallery_labels
    order = np.argsort(euclidean_distances(drawn.query, drawn.gallery), axis=1, kind="stable")
    curves, precisions = [], []
    for row, person, camera in zip(order, *query, strict=True):
        people, cameras = gallery.person_ids[row], gallery.camera_ids[row]
        matches = (people == person)[~((people == person) & (cameras == camera))]
        if matches.any():
            hits = matches.cumsum()
            curves.append(hits[:CURVE] > 0)
            precision = hits / np.arange(1, len(hits) + 1)
            precisions.append(precision[matches].mean())
    return np.mean(curves, axis=0), float(np.mean(precisions))


def torchreid_ranking(folder: Path) -> ModuleType:
    """torchreid's ``rank.py`` alone: the package itself needs more than ranking does."""
    (path,) = folder.rglob("torchreid/**/metrics/rank.py")
    spec = importlib.util.spec_from_file_location("torchreid_rank", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its compiled form is not there
        spec.loader.exec_module(module)
    return module


def by_torchreid(module: ModuleType, drawn: Drawn) -> tuple[FloatArray, float]:
    curve, mean = module.evaluate_rank(
        euclidean_distances(drawn.query, drawn.gallery),
        drawn.query_labels.person_ids,
        drawn.gallery_labels.person_ids,
        drawn.query_labels.camera_ids,
        drawn.gallery_labels.camera_ids,
        max_rank=CURVE,
    )
    return curve, float(mean)


def peak_mib() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def compare(size: Size, num: int, torchreid: Path | None) -> dict[str, Any]:
    """Ours over everything; then the others, of the first ``num`` queries."""
    drawn = draw(size)
    runs = [timed(lambda: ours(drawn)) for _ in range(RUNS)]
    found, seconds = sorted(runs, key=lambda run: run[1]["wall_s"])[RUNS // 2]
    figures: dict[str, Any] = {"ours": seconds, "peak_mib": peak_mib(), "others_queries": num}
    part = drawn.first(num)
    if num < size.queries:
        found = ours(part)
    others: list[tuple[str, Callable[[], tuple[FloatArray, float]]]]
    others = [("numpy", lambda: plain_numpy(part))]
    if torchreid is not None:
        module = torchreid_ranking(torchreid)
        others.append(("torchreid", lambda: by_torchreid(module, part)))
    for name, other in others:
        (curve, mean), took = timed(other)
        apart = max(np.abs(curve - found.cmc_curve).max(), abs(mean - found.scores.map_step))
        if apart > AGREE:
            raise SystemExit(f"{name}: CMC and mAP differ by {apart:.1e} from ours")
        all_of_them = {key: round(value * size.queries / num, 1) for key, value in took.items()}
        ratio = round(all_of_them["wall_s"] / seconds["wall_s"], 1)
        figures[name] = {**all_of_them, "times_ours": ratio, "differs_by": float(apart)}
    return figures


def rerank(size: Size) -> dict[str, Any]:
    """All queries' re-ranked distances."""
    drawn = draw(size)

    def work() -> None:
        tiles = reranked_tiles(drawn.query, drawn.gallery, Reranking())
        for start in range(0, size.queries, 128):
            tiles(slice(start, min(start + 128, size.queries)))

    return {**timed(work)[1], "peak_mib": peak_mib()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="market")
    parser.add_argument("--queries", type=int, default=0, help="of the others; 0 is all")
    parser.add_argument("--torchreid", type=Path)
    parser.add_argument("--rerank", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args(arguments)
    size = SIZES[options.size]
    name = f"{options.size}_rerank" if options.rerank else options.size
    figures = {
        "queries": size.queries,
        "gallery": size.gallery,
        "load_average": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
        **(
            rerank(size)
            if options.rerank
            else compare(size, options.queries or size.queries, options.torchreid)
        ),
    }
    print(json.dumps({name: figures}, indent=2))
    if options.record:
        kept = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        write_text(RECORD, json.dumps({**kept, name: figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
