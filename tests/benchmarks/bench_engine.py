"""Building engines: python tests/benchmarks/bench_engine.py

Seconds, and megabytes of the plan, of each graph of a network in FP32 and FP16, built
by the TensorRT that is installed here, or else by the one that the tests provision, which needs no
GPU. ``--record`` keeps the figures in tests/benchmarks/records/engine.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from reid.config.toml import resolve_config
from reid.export.onnx import export_onnx, prepared_graphs
from reid.export.tensorrt.engine import build_engine
from reid.files import write_text
from reid.model_file.manifest import Manifest
from reid.training.checkpoint import build_configured_network

HERE = Path(__file__).parent
RECORD = HERE / "records" / "engine.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="*", default=["msp_cnn_market1501", "csn_cuhk01"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    builder = find_builder()
    engines: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for recipe in options.recipes:
            for file in onnx_files(recipe, Path(folder)):
                engines[file.stem] = built(file, options.rounds)
                print(f"{file.stem:28} {json.dumps(engines[file.stem])}", flush=True)
    if options.record:
        found = {
            "builder": builder,
            "threads": len(os.sched_getaffinity(0)),
            "load_average": round(os.getloadavg()[0], 1),
            "torch": torch.__version__,
            "engines": engines,
        }
        write_text(RECORD, json.dumps(found, indent=2) + "\n")


def find_builder() -> str:
    """What builds; the tests' builder is put on the path where none is installed."""
    for name in ("tensorrt", "tensorrt_rtx"):
        if importlib.util.find_spec(name):
            return name
    sys.path.insert(0, str(HERE.parents[1]))
    from tests.tensorrt.provision import provision

    sys.path.insert(0, str(provision().builder))
    return "tensorrt_rtx, as the tests provision it"


def onnx_files(recipe: str, folder: Path) -> list[Path]:
    """Every graph of a recipe's network, of drawn weights, in both precisions."""
    torch.manual_seed(0)
    config = resolve_config(recipe, None, [])
    network = build_configured_network(config, 751).eval()
    kind = config.network.name
    manifest = Manifest(network=kind, stage="train", preprocess=config.preprocess)
    files = []
    for graph in prepared_graphs(network, manifest, fp16=False):
        for precision in ("fp32", "fp16"):
            files.append(folder / f"{kind}.{graph.name}.{precision}.onnx")
            export_onnx(network, manifest, files[-1], graph=graph.name, fp16=precision == "fp16")
    return files


def built(file: Path, rounds: int) -> dict[str, float]:
    """Megabytes of the plan and seconds of the median build, proof of precision included."""
    results = [build_engine(file, file.parent) for _ in range(rounds)]
    return {
        "mb": round(results[-1].path.stat().st_size / 1e6, 1),
        "s": round(statistics.median(result.seconds for result in results), 2),
    }


if __name__ == "__main__":
    main()
