"""Time and memory of the cross-correlation loss: python tests/benchmarks/bench_losses.py

One batch of MSP-CNN's second stage: 48 anchors, each with a positive and two negatives, so
144 pairs of 192 maps of (32, 72, 28); forward and backward, searched in one direction.
``--record`` keeps the figures in tests/benchmarks/records/losses.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from reid.files import write_text
from reid.losses.cross_correlation import cross_correlation_loss

RECORD = Path(__file__).parent / "records" / "losses.json"
SHAPE = (32, 72, 28)
PAIRS_PER_ANCHOR = 3
RUNS = 3


def batch(anchors: int, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random maps after a ReLU and a 2x2 maximum, as Pool1's are; pairs as the sampler's."""
    pairs = anchors * PAIRS_PER_ANCHOR
    generator = torch.Generator().manual_seed(0)
    maps = torch.empty(anchors + pairs, *SHAPE)
    channels, height, width = SHAPE
    for one in maps:  # one at a time: the making must not be the peak that is measured
        fine = torch.randn(1, channels, 2 * height, 2 * width, generator=generator)
        one.copy_(torch.nn.functional.max_pool2d(fine, 2)[0].relu_())
    first = torch.arange(anchors).repeat_interleave(PAIRS_PER_ANCHOR)
    second = torch.arange(anchors, anchors + pairs)
    same = torch.arange(pairs) % PAIRS_PER_ANCHOR == 0
    return maps.to(device).requires_grad_(), first.to(device), second.to(device), same.to(device)


def peak_mib(device: str) -> float:
    """The most memory that the process (CPU) or its tensors (CUDA) ever held."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seconds(maps: Tensor, *pairs: Tensor) -> tuple[float, float]:
    """One forward and backward pass, to the end of the device's work: on the wall's clock,
    and of the processor's time, which other programs on the machine do not stretch."""
    start, start_cpu = time.perf_counter(), time.process_time()
    loss = cross_correlation_loss(maps, *pairs)
    torch.autograd.grad(loss, maps)
    loss.item()
    return time.perf_counter() - start, time.process_time() - start_cpu


def main() -> None:
    """Print the median and the fastest of RUNS passes, and the memory they added."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--anchors", type=int, default=48)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    arrays = batch(options.anchors, options.device)
    seconds(*batch(1, options.device))  # libraries load and threads start on their first use
    before = peak_mib(options.device)
    times, cpu_times = zip(*(seconds(*arrays) for _ in range(RUNS)), strict=True)
    figures = {
        "pairs": options.anchors * PAIRS_PER_ANCHOR,
        "device": options.device,
        "threads": options.threads,
        "load_average": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "runs": RUNS,
        "median_s": round(statistics.median(times), 2),
        "fastest_s": round(min(times), 2),
        "fastest_cpu_s": round(min(cpu_times), 2),
        "peak_mib": round(peak_mib(options.device)),
        "added_mib": round(peak_mib(options.device) - before),
    }
    for name, value in figures.items():
        print(f"{name:<14} {value}")
    if options.record:
        write_text(RECORD, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
