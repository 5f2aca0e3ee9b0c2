"""Training speed of the whole loop against the bare network: python tests/benchmarks/bench_train.py

Rounds of ``reid train`` (loader, augmentation, stage 1's losses, solver, log) alternate with
rounds of the bare forward and backward pass on a batch of the same size, in one process, so
that a drift of the machine's speed meets both. ``--data-root`` takes real images; without it
people are drawn. ``--record`` keeps the figures in tests/benchmarks/records/train.json.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from reid.config.settings import TrainConfig
from reid.config.toml import resolve_config
from reid.data.synthetic.writing import write_synthetic
from reid.files import write_text
from reid.training.arithmetic import Arithmetic
from reid.training.checkpoint import build_configured_network
from reid.training.loop import train

RECORD = Path(__file__).parent / "records" / "train.json"
SKIPPED = 2
"""Steps at the start of a round, in which memory is first touched."""


def whole_loop(config: TrainConfig, data_root: Path) -> list[float]:
    """Images per second of each step of ``reid train``."""
    with tempfile.TemporaryDirectory() as folder:
        train(config, data_root, Path(folder) / "run")
        with (Path(folder) / "run" / "log.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    return [float(row["images_per_s"]) for row in rows[SKIPPED:]]


def bare_network(config: TrainConfig, batch: int, identities: int, steps: int) -> list[float]:
    """Images per second of each forward pass, softmax loss and backward pass, nothing else."""
    arithmetic = Arithmetic("cpu", config.run.precision, config.run.channels_last == "on")
    network = arithmetic.place(build_configured_network(config, identities).train())
    images = arithmetic.layout(torch.randn(batch, *config.preprocess.input_shape))
    labels = torch.randint(0, identities, (batch,))
    rates = []
    for _ in range(steps):
        start = time.perf_counter()
        with arithmetic.autocast():
            loss = torch.nn.functional.cross_entropy(network(images).fc8, labels)
        network.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        rates.append(batch / (time.perf_counter() - start))
    return rates[SKIPPED:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--data", default="market1501")
    parser.add_argument("--anchors", type=int, default=12, help="each with three other images")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, name = options.data_root, options.data
        if root is None:
            root, name = Path(folder), "synthetic"
            write_synthetic(root)
        overrides = [
            f"data.name={name}",
            f"sampler.anchors_per_batch={options.anchors}",
            f"stages.0.iterations={options.steps}",
            f"run.precision={options.precision}",
            "run.channels_last=on",
            "run.log_every=1",
        ]
        config = resolve_config("msp_cnn_market1501", None, overrides)
        config = dataclasses.replace(config, stages=config.stages[:1])
        batch = options.anchors * (2 + config.sampler.negatives_per_positive)
        loop: list[float] = []
        bare: list[float] = []
        for _ in range(options.rounds):
            bare += bare_network(config, batch, 501, options.steps)
            loop += whole_loop(config, root)
    found = {
        "data": name,
        "batch": batch,
        "precision": options.precision,
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "loop_images_per_s": round(statistics.median(loop), 2),
        "bare_images_per_s": round(statistics.median(bare), 2),
        "ratio": round(statistics.median(loop) / statistics.median(bare), 3),
    }
    print(json.dumps(found, indent=2))
    if options.record:
        write_text(RECORD, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
