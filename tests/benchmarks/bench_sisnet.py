"""What SiSNet's second scale and its DRC loss cost: python tests/benchmarks/bench_sisnet.py

Four ways to train ResNet-50 on 256x128 images and their 192x96 copies take turns, round by
round in one process, so that a drift of the machine's speed meets all: the bare forward and
backward pass of both scales under a softmax loss; ``reid train`` of the poster's Baseline (one
scale), of SiSNet, and of SiSNet + DRC, loader, augmentation and solver included. The memory is
the most that a process of its own held while it trained SiSNet + DRC, libraries included.
``--record`` keeps the figures in tests/benchmarks/records/sisnet.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from reid.config.settings import TrainConfig
from reid.config.toml import resolve_config
from reid.data.synthetic.writing import write_synthetic
from reid.files import write_text
from reid.models.sisnet.network import SisNetOutput
from reid.training.arithmetic import Arithmetic
from reid.training.checkpoint import build_configured_network
from reid.training.loop import train

RECORD = Path(__file__).parent / "records" / "sisnet.json"
SKIPPED = 1
"""Steps at the start of a round, in which memory is first touched."""
_KIB_PER_GIB = 1 << 20

ROWS = {
    "baseline": ("network.two_scales=false", "stages.0.loss_weights.drc=0.0"),
    "sisnet": ("stages.0.loss_weights.drc=0.0",),
    "sisnet_drc": (),
}
"""The rows of the poster's tables, as settings."""


def bare_network(config: TrainConfig, identities: int, steps: int) -> list[float]:
    """Seconds of each forward pass of both scales, softmax losses and backward pass."""
    batch = config.sampler.identities_per_batch * config.sampler.images_per_identity
    arithmetic = Arithmetic("cpu", config.run.precision, config.run.channels_last == "on")
    network = arithmetic.place(build_configured_network(config, identities).train())
    images = arithmetic.layout(torch.randn(batch, *config.preprocess.input_shape))
    labels = torch.randint(0, identities, (batch,))
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        with arithmetic.autocast():
            output: SisNetOutput = network(images)
            losses = [
                torch.nn.functional.cross_entropy(branch.logits, labels)
                for branch in output.branches
            ]
        network.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(losses).sum())
        seconds.append(time.perf_counter() - start)
    return seconds[SKIPPED:]


def whole_loop(config: TrainConfig, data_root: Path) -> list[float]:
    """Seconds of each step of ``reid train``."""
    with tempfile.TemporaryDirectory() as folder:
        train(config, data_root, Path(folder) / "run")
        with (Path(folder) / "run" / "log.csv").open(newline="") as file:
            rates = [float(row["images_per_s"]) for row in csv.DictReader(file)]
    batch = config.sampler.identities_per_batch * config.sampler.images_per_identity
    return [batch / rate for rate in rates[SKIPPED:]]


def peak_gib(config: TrainConfig, data_root: Path) -> float:
    """The largest resident size of a fresh process that trains."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_trained_peak, (config, data_root))


def _trained_peak(config: TrainConfig, data_root: Path) -> float:
    whole_loop(config, data_root)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_GIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--identities", type=int, default=4, help="of a batch, four images each")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    overrides = [
        "data.name=synthetic",
        "data.num_workers=0",
        f"network.depth={options.depth}",
        f"sampler.identities_per_batch={options.identities}",
        "stages.0.epochs=0",
        f"stages.0.iterations={options.steps}",
        "run.precision=fp32",
        "run.channels_last=on",
        "run.log_every=1",
    ]
    configs = {
        name: resolve_config("sisnet_market1501", None, [*overrides, *row])
        for name, row in ROWS.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_synthetic(root)
        ways: dict[str, Callable[[], list[float]]] = {
            "bare": partial(bare_network, configs["sisnet"], 60, options.steps),
            **{name: partial(whole_loop, config, root) for name, config in configs.items()},
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                seconds[name] += way()
        memory = peak_gib(configs["sisnet_drc"], root)
    step = {name: statistics.median(times) for name, times in seconds.items()}
    batch = 4 * options.identities
    found = {
        "network": f"ResNet-{options.depth}, 256x128 and 192x96",
        "batch": batch,
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "step_s": {name: round(each, 3) for name, each in step.items()},
        "images_per_s": {name: round(batch / each, 2) for name, each in step.items()},
        "sisnet_over_bare": round(step["bare"] / step["sisnet"], 3),
        "second_scale_costs": round(step["sisnet"] / step["baseline"] - 1, 3),
        "drc_costs": round(step["sisnet_drc"] / step["sisnet"] - 1, 4),
        "peak_gib": round(memory, 2),
    }
    print(json.dumps(found, indent=2))
    if options.record:
        write_text(RECORD, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
