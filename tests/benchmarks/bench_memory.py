"""Memory of the paper's training step: python tests/benchmarks/bench_memory.py

Trains a few steps of ``msp_cnn_market1501``'s second stage (softmax, Euclidean and
cross-correlation loss) on synthetic people at the paper's batch, 48 anchors each with a positive
and two negatives, and prints the most memory that the process ever held, its libraries
included: with ``--keep on`` that of a process that keeps the memory it frees. ``--record`` keeps
the figures in tests/benchmarks/records/memory.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import tempfile
from pathlib import Path

import torch

from reid.config.toml import resolve_config
from reid.data.synthetic.writing import write_synthetic
from reid.files import write_text
from reid.training.loop import train

RECORD = Path(__file__).parent / "records" / "memory.json"
_KIB_PER_GIB = 1 << 20


def peak_gib() -> float:
    """The largest resident size of this process so far (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_GIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anchors", type=int, default=48)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--keep", choices=("on", "off"), default="off", help="keep freed memory")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    overrides = [
        "data.name=synthetic",
        f"sampler.anchors_per_batch={options.anchors}",
        "run.precision=fp32",
        "run.channels_last=on",
        "run.log_every=1",
        f"run.keep_freed_memory={options.keep}",
    ]
    config = resolve_config("msp_cnn_market1501", None, overrides)
    last = dataclasses.replace(config.stages[-1], iterations=options.steps, epochs=0.0)
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(Path(folder) / "people")
        before = peak_gib()
        result = train(
            dataclasses.replace(config, stages=(last,)), Path(folder) / "people", Path(folder) / "r"
        )
    found = {
        "anchors": options.anchors,
        "losses": sorted(last.loss_weights),
        "steps": result.step,
        "keep_freed_memory": options.keep,
        "precision": "fp32",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seconds_per_step": round(result.seconds / result.step, 1),
        "peak_gib_before_training": round(before, 2),
        "peak_gib": round(peak_gib(), 2),
    }
    print(json.dumps(found, indent=2))
    if options.record:
        known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        known[f"keep_{options.keep}"] = found
        write_text(RECORD, json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
