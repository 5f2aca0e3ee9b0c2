"""Describing images on disk against the bare network: python tests/benchmarks/bench_describe.py

Rounds of ``describe_records`` (reading, decoding, resizing, network), rounds of filling a new
gallery (the same, hashing and storing) and rounds of the bare network on a batch prepared
beforehand take turns in one process, so that a drift of the machine's speed meets all.
``--model`` takes any file or run, else MSP-CNN as it comes into the world, as ONNX;
``--data-root`` takes the Market layout, without it people are drawn. ``--record`` keeps the
figures in tests/benchmarks/records/describe.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import torch

from reid.data import load_split, read_image
from reid.data.synthetic.writing import write_synthetic
from reid.deploy.gallery.gallery import GalleryEntry
from reid.deploy.gallery.indexing import index_images
from reid.deploy.gallery.opening import open_gallery
from reid.export.onnx import export_onnx
from reid.files import write_text
from reid.matching import VectorMatcher
from reid.matching.describing import describe_records
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.models import build_network
from reid.runtime import Runner, open_runner
from reid.types import ImageRecord

RECORD = Path(__file__).parent / "records" / "describe.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, name = options.data_root, "market1501"
        if root is None:
            root, name = Path(folder) / "people", "synthetic"
            write_synthetic(root)
        model = options.model or _fresh_model(Path(folder))
        records = load_split(name, root).train[: options.images]
        with closing(open_runner(model)) as runner:
            matcher = VectorMatcher(runner, options.batch)
            works = _works(runner, matcher, options.batch, records, Path(folder))
            rates = _images_per_s(works, len(records), options.rounds)
            backend = runner.backend
    found = {
        "data": name,
        "images": len(records),
        "batch": options.batch,
        "backend": backend,
        "load_average": round(os.getloadavg()[0], 1),
        "describe_images_per_s": round(statistics.median(rates["describe"]), 1),
        "index_images_per_s": round(statistics.median(rates["index"]), 1),
        "bare_images_per_s": round(statistics.median(rates["bare"]), 1),
        "ratio": _ratio(rates["describe"], rates["bare"]),
        "index_ratio": _ratio(rates["index"], rates["bare"]),
    }
    print(json.dumps(found, indent=2))
    if options.record:
        write_text(RECORD, json.dumps(found, indent=2) + "\n")


def _fresh_model(folder: Path) -> Path:
    torch.manual_seed(0)
    network = build_network("msp_cnn", 751).eval()
    export_onnx(network, Manifest("msp_cnn", "train", Preprocess()), folder / "msp_cnn.onnx")
    return folder / "msp_cnn.onnx"


def _works(
    runner: Runner,
    matcher: VectorMatcher,
    batch: int,
    records: Sequence[ImageRecord],
    folder: Path,
) -> dict[str, Callable[[], int]]:
    """What is timed, by name; each tells how many images it took."""
    images = [read_image(record.path) for record in records[:batch]]
    prepared = runner.manifest.preprocess.batch(images)

    def describe() -> int:
        describe_records(matcher, records, "train", lambda count: None)
        return len(records)

    def index() -> int:
        entries = [GalleryEntry(source=str(record.path)) for record in records]
        with (
            tempfile.TemporaryDirectory(dir=folder) as gallery,
            closing(open_gallery(str(Path(gallery) / "g"), matcher, create=True)) as opened,
        ):
            return index_images(opened, matcher, entries).added

    def bare() -> int:
        calls = -(-len(records) // len(prepared))
        for _ in range(calls):
            runner.run({runner.manifest.input_name: prepared})
        return calls * len(prepared)

    return {"describe": describe, "index": index, "bare": bare}


def _images_per_s(
    works: dict[str, Callable[[], int]], images: int, rounds: int
) -> dict[str, list[float]]:
    """Every work's rate in each round; a first round warms up."""
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            count = work()
            if count < images:
                raise SystemExit(f"{name} took {count} of {images} images")
            rates[name].append(count / (time.perf_counter() - start))
    return {name: each[1:] for name, each in rates.items()}


def _ratio(some: Sequence[float], others: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(some, others, strict=True)), 3)


if __name__ == "__main__":
    main()
