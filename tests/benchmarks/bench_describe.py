"""Describing images on disk against the bare network: python tests/benchmarks/bench_describe.py

Rounds of ``describe_records`` (reading, decoding, resizing, network) take turns with rounds of
the bare network on batches prepared beforehand, in one process, so that a drift of the machine's
speed meets both. ``--model`` takes any file or run, else MSP-CNN as it comes into the world, as
ONNX; ``--data-root`` takes the Market layout, without it people are drawn. ``--record`` keeps the
figures in tests/benchmarks/records/describe.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

import torch

from reid.data import load_split, read_image
from reid.data.synthetic import write_synthetic
from reid.describing import describe_records
from reid.export.onnx import export_onnx
from reid.files import write_text
from reid.manifest import Manifest
from reid.matching import VectorMatcher
from reid.models import build_network
from reid.preprocess import Preprocess
from reid.runtime import open_runner

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
        model = options.model
        if model is None:
            torch.manual_seed(0)
            model = Path(folder) / "msp_cnn.onnx"
            network = build_network("msp_cnn", 751).eval()
            export_onnx(network, Manifest("msp_cnn", "train", Preprocess()), model)
        records = load_split(name, root).train[: options.images]
        with closing(open_runner(model)) as runner:
            matcher = VectorMatcher(runner, options.batch)
            images = [read_image(record.path) for record in records[: options.batch]]
            prepared = runner.manifest.preprocess.batch(images)
            whole: list[float] = []
            bare: list[float] = []
            for _ in range(options.rounds + 1):  # the first warms up
                start = time.perf_counter()
                describe_records(matcher, records, "train", lambda count: None)
                whole.append(len(records) / (time.perf_counter() - start))
                calls = -(-len(records) // len(prepared))
                start = time.perf_counter()
                for _ in range(calls):
                    runner.run({runner.manifest.input_name: prepared})
                bare.append(calls * len(prepared) / (time.perf_counter() - start))
            backend = runner.backend
    found = {
        "data": name,
        "images": len(records),
        "batch": options.batch,
        "backend": backend,
        "load_average": round(os.getloadavg()[0], 1),
        "describe_images_per_s": round(statistics.median(whole[1:]), 1),
        "bare_images_per_s": round(statistics.median(bare[1:]), 1),
        "ratio": round(
            statistics.median(w / b for w, b in zip(whole[1:], bare[1:], strict=True)), 3
        ),
    }
    print(json.dumps(found, indent=2))
    if options.record:
        write_text(RECORD, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
