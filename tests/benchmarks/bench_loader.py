"""Images/s of the training loader alone: python tests/benchmarks/bench_loader.py [FOLDER]

Without a folder it makes its own images. ``--record`` writes the figures to loader.json
beside this file. Run with OMP_NUM_THREADS=1 to see what one core per worker does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import torch

from reid.config.settings import AugmentConfig, SamplerConfig
from reid.data.images import IMAGE_SUFFIXES
from reid.data.loader import TrainLoader
from reid.data.sampling.pair_sampler import PairSampler
from reid.files import write_text
from reid.model_file.preprocess import Preprocess
from reid.types import ImageRecord

RECORD = Path(__file__).parent / "records" / "loader.json"
SETTINGS = {
    "paper": AugmentConfig(),
    "all": AugmentConfig(colour_jitter_std=0.1, erasing_probability=0.5),
}


def synthetic_images(folder: Path, count: int) -> None:
    """Smoothed noise as 128x64 JPEGs, about as hard to decode as Market-1501's."""
    rng = np.random.default_rng(0)
    for index in range(count):
        small = rng.integers(0, 256, (32, 16, 3), np.uint8)
        picture = cv2.resize(small, (64, 128), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{index:05}.jpg"), picture)


def records_of(folder: Path) -> list[ImageRecord]:
    """Every image of a folder; who is shown does not matter here: ten images a person."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    return [ImageRecord(path, i // 10, i % 2) for i, path in enumerate(paths)]


def rates_of(
    records: list[ImageRecord], augment: AugmentConfig, num_workers: int, seconds: float
) -> tuple[float, float]:
    """Images per second, and per second of this process's core, after the first batches.

    The second is the loader's own cost where other programs share the machine; it is the
    whole cost only without workers.
    """
    sampler = PairSampler(records, SamplerConfig(), seed=0)
    with closing(TrainLoader(records, Preprocess(), augment, sampler, num_workers)) as loader:
        batches = (batch for epoch in range(1_000_000) for batch in loader.batches(epoch))
        for _ in range(2 + 4 * num_workers):  # past what was made ahead
            next(batches)
        images, start, cpu_start = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            images += len(next(batches).images)
        cpu_s = time.process_time() - cpu_start
        return images / (time.perf_counter() - start), images / cpu_s


def measured(folder: Path, workers: list[int], seconds: float, runs: int) -> dict[str, int]:
    """Median rates of ``runs`` interleaved runs of each setting, printed."""
    records = records_of(folder)
    cases = [(name, num) for name in SETTINGS for num in workers]
    rates: dict[tuple[str, int], list[tuple[float, float]]] = {case: [] for case in cases}
    for _ in range(runs):
        for name, num in cases:
            rates[name, num].append(rates_of(records, SETTINGS[name], num, seconds))
    medians: dict[str, int] = {}
    for (name, num), values in rates.items():
        wall, core = (round(float(rate)) for rate in np.median(values, axis=0))
        slowest, fastest = min(values)[0], max(values)[0]
        line = f"augmentation {name:<5}  workers {num}  {wall:5} images/s"
        line += f"  ({slowest:.0f} to {fastest:.0f})"
        medians[f"{name}_{num}_workers"] = wall
        if num == 0:
            line += f"  {core} per core-second"
            medians[f"{name}_per_core_second"] = core
        print(line)
    return medians


def main() -> None:
    """Measure, print, and record where asked to."""
    parser = argparse.ArgumentParser(description="images/s of the training loader alone")
    parser.add_argument("folder", nargs="?", type=Path, help="images; default: made here")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        if options.folder is None:
            synthetic_images(folder, 1000)
        rates = measured(folder, options.workers, options.seconds, options.runs)
    if options.record:
        figures = {
            "images": options.folder.name if options.folder else "synthetic 128x64 JPEG",
            "cores": os.cpu_count(),
            "load_average_1min": round(os.getloadavg()[0], 2),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "opencv": cv2.__version__,
            "images_per_s": rates,
        }
        write_text(RECORD, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
