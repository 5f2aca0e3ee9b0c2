"""Back ends on a CPU: python tests/benchmarks/bench_openvino.py --fp32 FILE [--int8 FILE ...]

Crops per second of an exported network, at each batch size: ONNX Runtime in FP32, OpenVINO in FP32
and bfloat16, and each INT8 file in both. All take turns, so that other load on the machine slows
them alike; each figure is the median over the rounds of a turn's fastest batch. ``--record`` keeps
the figures in tests/benchmarks/records/openvino.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from reid.deploy.bench.latency import draw_crops
from reid.deploy.bench.setting import cpu_name
from reid.errors import ReidError
from reid.files import write_text
from reid.matching.vectors import unit_vectors
from reid.runtime import Runner, open_runner
from reid.runtime.cpu_flags import has_int8_instructions
from reid.runtime.openvino_library import VERSION

RECORD = Path(__file__).parent / "records" / "openvino.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fp32", type=Path, required=True)
    parser.add_argument("--int8", type=Path, nargs="*", default=[])
    parser.add_argument("--batch", type=int, nargs="*", default=[8, 32])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turn", type=float, default=2.0, help="seconds of a turn")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    runners = opened(options.fp32, options.int8, options.threads)
    rows: dict[str, dict[str, Any]] = {
        name: {"backend": runner.backend, **agreement(runner, runners["ONNX Runtime FP32"])}
        for name, runner in runners.items()
    }
    for size in options.batch:
        rates = measured(runners, size, options.rounds, options.turn)
        for name, rate in rates.items():
            rows[name][f"crops_per_s_batch_{size}"] = round(rate, 1)
            gain = rate / rates["ONNX Runtime FP32"]
            rows[name][f"times_onnxruntime_fp32_batch_{size}"] = round(gain, 2)
    for name, row in rows.items():
        print(f"{name:32} {json.dumps(row)}", flush=True)
    if options.record:
        found = {
            "cpu": cpu_name(),
            "cpus": os.cpu_count(),
            "int8_instructions": has_int8_instructions(),
            "threads": options.threads,
            "load_average": round(os.getloadavg()[0], 1),
            "onnxruntime": onnxruntime.__version__,
            "openvino": VERSION,
            "fp32": options.fp32.name,
            "rows": rows,
        }
        write_text(RECORD, json.dumps(found, indent=2) + "\n")


def opened(fp32: Path, int8: list[Path], threads: int) -> dict[str, Runner]:
    """What is compared, by name; what this CPU cannot compute is left out with its reason."""
    wanted = {
        "ONNX Runtime FP32": (fp32, "cpu"),
        "OpenVINO FP32": (fp32, "openvino"),
        "OpenVINO BF16": (fp32, "openvino:CPU:bf16"),
    }
    for file in int8:
        wanted[f"ONNX Runtime {file.stem}"] = (file, "cpu")
        wanted[f"OpenVINO {file.stem}"] = (file, "openvino")
    found: dict[str, Runner] = {}
    for name, (file, device) in wanted.items():
        try:
            found[name] = open_runner(file, device, threads)
        except ReidError as error:
            print(f"{name}: left out: {error}", flush=True)
    return found


def images_for(runner: Runner, size: int) -> dict[str, Any]:
    manifest = runner.manifest
    return {manifest.input_name: manifest.preprocess.batch(draw_crops(size))}


def agreement(runner: Runner, reference: Runner) -> dict[str, float]:
    """The lowest cosine of a vector with that of ONNX Runtime in FP32."""
    vectors = [
        unit_vectors(one.run(images_for(one, 16))[one.manifest.output_name])
        for one in (runner, reference)
    ]
    return {"lowest_row_cosine": round(float(np.min((vectors[0] * vectors[1]).sum(axis=1))), 5)}


def measured(runners: dict[str, Runner], size: int, rounds: int, turn_s: float) -> dict[str, float]:
    """Crops per second of each, by turns."""
    inputs = {name: images_for(runner, size) for name, runner in runners.items()}
    fastest: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, runner in runners.items():
            fastest[name].append(turn(runner, inputs[name], turn_s))
    return {name: size / statistics.median(seconds) for name, seconds in fastest.items()}


def turn(runner: Runner, inputs: dict[str, Any], turn_s: float) -> float:
    """Seconds of the fastest batch of one turn, after one that is not timed."""
    runner.run(inputs)
    fastest = float("inf")
    end = time.perf_counter() + turn_s
    while time.perf_counter() < end:
        began = time.perf_counter()
        runner.run(inputs)
        fastest = min(fastest, time.perf_counter() - began)
    return fastest


if __name__ == "__main__":
    main()
