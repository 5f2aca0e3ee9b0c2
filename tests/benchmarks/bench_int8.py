"""INT8 files: accuracy and speed: python tests/benchmarks/bench_int8.py DIR --data-root DIR

DIR is a folder that ``reid export --fp16 --int8`` filled. Rank-1 and mAP of each file on our split
of Market-1501, its layers in floating point, and crops per second of the network in ONNX Runtime
and, where it is installed, OpenVINO (FP32 arithmetic outside the quantised layers), on the same
crops, by turns in one process. ``--record`` keeps the figures under the network's name in
tests/benchmarks/records/int8.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import reid
from reid.data import load_split, read_image
from reid.deploy.bench.setting import cpu_name
from reid.files import write_text
from reid.model_file.manifest import read_manifest
from reid.runtime import open_runner

RECORD = Path(__file__).parent / "records" / "int8.json"
SUFFIXES = ("fp32", "fp16", "int8", "int8.x86")
THREADS = 2


def opened(path: Path, device: str) -> Callable[[np.ndarray], object]:
    runner = open_runner(path, device, THREADS)
    name = runner.manifest.input_name
    return lambda images: runner.run({name: images})


def rates(files: dict[str, Path], images: np.ndarray, rounds: int) -> dict[str, Any]:
    """Crops per second of the median round, by runner and file, and times FP32 in ONNX Runtime."""
    devices = {"onnxruntime": "cpu"}
    if importlib.util.find_spec("openvino"):
        devices["openvino"] = "openvino"
    runs = {
        (runner, suffix): opened(path, device)
        for runner, device in devices.items()
        for suffix, path in files.items()
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for number in range(rounds + 1):
        for key, run in runs.items():
            start = time.perf_counter()
            run(images)
            if number:
                times[key].append(time.perf_counter() - start)
    base = times["onnxruntime", "fp32"]
    found: dict[str, Any] = {}
    for (runner, suffix), each in times.items():
        ratios = [one / own for one, own in zip(base, each, strict=True)]
        found.setdefault(runner, {})[suffix] = {
            "crops_per_s": round(len(images) / statistics.median(each), 1),
            "crops_per_s_best": round(len(images) / min(each), 1),
            "times_onnxruntime_fp32": round(statistics.median(ratios), 2),
            "times_onnxruntime_fp32_best": round(min(base) / min(each), 2),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--note", default="", help="what the network was trained on")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    (first,) = options.folder.glob("*.fp32.onnx")
    stem = first.name.removesuffix(".fp32.onnx")
    files = {suffix: options.folder / f"{stem}.{suffix}.onnx" for suffix in SUFFIXES}
    found: dict[str, Any] = {
        "cpu": cpu_name(),
        "threads": THREADS,
        "load_average": round(os.getloadavg()[0], 1),
        "onnxruntime": metadata.version("onnxruntime"),
        "note": options.note,
        "files": {},
    }
    for suffix, path in files.items():
        manifest = read_manifest(path)
        with reid.load(path, device="cpu") as model:
            result = model.evaluate("market1501", root=options.data_root)
        made = manifest.quantisation
        found["files"][suffix] = {
            "mb": round(path.stat().st_size / 1e6, 2),
            "rank1": round(100 * result.rank1, 2),
            "map_step": round(100 * result.report.map_step, 2),
            "map_trapezoid": round(100 * result.report.map_trapezoid, 2),
            "method": made.method if made else "",
            "float_layers": list(made.float_layers) if made else [],
            "parity": {
                name: check["found"] for name, check in manifest.parity.get("checks", {}).items()
            },
        }
    split = load_split("market1501", options.data_root)
    crops = [read_image(record.path) for record in split.query[: max(options.batch or [32])]]
    images = read_manifest(first).preprocess.batch(crops)
    for batch in options.batch or [8, 32]:
        found[f"batch_{batch}"] = rates(files, images[:batch], options.rounds)
    print(json.dumps(found, indent=2))
    if options.record:
        kept = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
        write_text(RECORD, json.dumps({**kept, stem: found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
