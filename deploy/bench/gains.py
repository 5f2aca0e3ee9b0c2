"""What INT8 gains on this machine over the FP32 and FP16 files that lie beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import ReidError
from reid.model_file.opening import ModelFile
from reid.model_file.quantisation import INT8
from reid.progress import SILENT, Reporter
from reid.runtime import Runner, open_runner
from reid.runtime.cpu_flags import has_int8_instructions

from .latency import draw_crops

OTHERS = ("fp32", "fp16")
ROUNDS = 5
"""Turns of each file at each batch size; the median counts."""

NO_GAIN = 1.05
"""Below this many times another file's rate INT8 gains nothing worth its loss of accuracy."""

NO_VNNI = "this CPU has no instructions for products of 8-bit integers (VNNI): expect no gain"


@dataclass(frozen=True, slots=True)
class Gain:
    """Crops per second of the network at one batch size, by precision; INT8 is one of them."""

    batch_size: int
    crops_per_s: dict[str, float]

    def words(self) -> str:
        """``batch 8: int8 216 crops/s, 4.15 times fp32 (52)``, or that it gains nothing."""
        own = self.crops_per_s[INT8]
        others = [
            (name, own / rate, rate) for name, rate in self.crops_per_s.items() if name != INT8
        ]
        ratios = ", ".join(f"{ratio:.2f} times {name} ({rate:.0f})" for name, ratio, rate in others)
        lost = [name for name, ratio, _ in others if ratio < NO_GAIN]
        verdict = f": no gain over {' and '.join(lost)} here" if lost else ""
        return f"batch {self.batch_size}: int8 {own:.0f} crops/s, {ratios}{verdict}"


def gains(
    runner: Runner,
    path: Path,
    batch_sizes: Sequence[int],
    *,
    device: str = "auto",
    threads: int = 0,
    reporter: Reporter = SILENT,
) -> tuple[Gain, ...]:
    """Time an INT8 file and those of the same model beside it by turns; empty without any."""
    with ExitStack() as stack:
        runners = {INT8: runner}
        for precision, file in beside(path).items():
            try:
                other = stack.enter_context(open_runner(file, device, threads))
            except ReidError as error:
                reporter.say(f"not compared with {file.name}: {error}")
                continue
            if other.manifest.model_sha256 == runner.manifest.model_sha256:
                runners[precision] = other
        if len(runners) == 1:
            return ()
        advance = reporter.begin("comparing", len(batch_sizes))
        found = []
        for size in batch_sizes:
            found.append(_by_turns(runners, size))
            advance(1, f"batch {size}")
        return tuple(found)


def beside(path: Path) -> dict[str, Path]:
    """Precision -> the file of that precision beside an INT8 file, by its name."""
    symmetric = path.name.replace(f".{INT8}.x86.", f".{INT8}.")
    files = {
        name: path.with_name(symmetric.replace(f".{INT8}.", f".{name}."))
        for name in OTHERS
        if f".{INT8}." in symmetric
    }
    return {name: file for name, file in files.items() if file.is_file()}


def notes_on_int8(path: Path, on_gpu: bool, cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Lines about an INT8 file: whether this CPU is made for it, and whether it is proven."""
    notes = []
    if not on_gpu and has_int8_instructions(cpuinfo) is False:
        notes.append(NO_VNNI)
    file = ModelFile.at(path)
    made = file.manifest.quantisation if file.has_manifest_beside else None
    if made is not None and not made.proven_on:
        notes.append("not proven: the accuracy of this file was not measured on real images")
    return notes


def _by_turns(runners: dict[str, Runner], size: int) -> Gain:
    crops = draw_crops(size)
    inputs: dict[str, dict[str, Any]] = {}
    for name, runner in runners.items():
        manifest = runner.manifest
        inputs[name] = {manifest.input_name: manifest.preprocess.batch(crops)}
        runner.run(inputs[name])
    times: dict[str, list[int]] = {name: [] for name in runners}
    for _ in range(ROUNDS):
        for name, runner in runners.items():
            began = time.perf_counter_ns()
            runner.run(inputs[name])
            times[name].append(time.perf_counter_ns() - began)
    rates = {name: size / (float(np.median(each)) / 1e9) for name, each in times.items()}
    return Gain(size, rates)
