"""Export and inference of the exported files: python tests/benchmarks/bench_export.py

Seconds to export MSP-CNN to ONNX in FP32 and FP16, and crops per second of eager PyTorch
(plain, and channels-last as the runner has it) against ONNX Runtime on the same crops, in
alternating rounds of one process. ``--record`` keeps the figures in
tests/benchmarks/records/export.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from reid.export.onnx import export_onnx
from reid.files import write_text
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.models import build_network
from reid.models.embedding import EmbeddingNetwork
from reid.runtime.onnx_runner import OnnxRunner
from reid.runtime.torch_runner import TorchRunner

RECORD = Path(__file__).parent / "records" / "export.json"


def rate(run: Callable[[], object], batch: int, calls: int) -> float:
    """Crops per second of the median call."""
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return batch / statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--calls", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = build_network("msp_cnn", 751).eval()
    manifest = Manifest(network="msp_cnn", stage="train", preprocess=Preprocess())
    found: dict[str, object] = {
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "fp16"):
            start = time.perf_counter()
            path = Path(folder) / f"{precision}.onnx"
            export_onnx(network, manifest, path, fp16=precision == "fp16")
            found[f"export_{precision}_s"] = round(time.perf_counter() - start, 1)
        module = EmbeddingNetwork(network).eval()
        onnx_runner = OnnxRunner(Path(folder) / "fp32.onnx", "cpu", 0)
        torch_runner = TorchRunner(EmbeddingNetwork(network), manifest, "cpu", 0)
        for batch in options.batch or [1, 8, 32]:
            crops = np.random.default_rng(0).normal(0, 50, (batch, 3, 144, 56))
            data = {"data": crops.astype(np.float32)}
            tensor = torch.from_numpy(data["data"])

            def eager(images: torch.Tensor = tensor) -> object:
                with torch.inference_mode():
                    return module(images)

            runs: dict[str, Callable[[], object]] = {
                "eager": eager,
                "torch_runner": lambda data=data: torch_runner.run(data),
                "onnx_runner": lambda data=data: onnx_runner.run(data),
            }
            rounds = [
                {name: rate(run, batch, options.calls) for name, run in runs.items()}
                for _ in range(options.rounds + 1)
            ][1:]
            for name in runs:
                found[f"{name}_b{batch}_crops_per_s"] = round(
                    statistics.median(one[name] for one in rounds), 1
                )
            found[f"onnx_over_eager_b{batch}"] = round(
                statistics.median(one["onnx_runner"] / one["eager"] for one in rounds), 2
            )
    print(json.dumps(found, indent=2))
    if options.record:
        write_text(RECORD, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
