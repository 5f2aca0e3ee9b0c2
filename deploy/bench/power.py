"""Power and clocks during a benchmark, if the machine reports them.

A Jetson's power rails are in the kernel's hwmon files (INA3221). Of a desktop GPU the energy
counter is read (see ``nvml``), or nvidia-smi if it has none. Any other machine has no meter, and
its power stays unknown.
"""

from __future__ import annotations

import os
import pty
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Protocol

from .nvml import NvmlGpu

HWMON = Path("/sys/class/hwmon")
SAMPLE_S = 0.1
"""Interval between two samples, of the rails, of the GPU's clocks and of nvidia-smi."""

TOTAL_RAILS = ("VDD_IN", "VIN")
"""The rail of a Jetson module's whole input, if it has one: Orin Nano and NX, Thor [inferred]."""

FED_BY = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
"""AGX Orin's memory rail is fed by its 5 V input [inferred], so it is not counted again."""

NOT_CONNECTED = "NC"
"""Name of two unconnected channels of AGX Orin's second chip."""

POWER_FIELDS = ("power.draw.instant", "power.draw")
"""nvidia-smi's names of the power: now (newer drivers), or a mean over a second."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Watts of the module or card; clocks in MHz, 0 if unknown."""

    watts: float
    gpu_mhz: float = 0.0
    memory_mhz: float = 0.0


class Meter(Protocol):
    """Samples between ``start`` and ``stop``."""

    name: str

    def start(self) -> None: ...

    def stop(self) -> list[Sample]: ...


@dataclass(slots=True)
class Power:
    """The samples of a measured block, filled when it ends; empty without a meter."""

    meter: str = ""
    samples: list[Sample] = field(default_factory=list)

    @property
    def watts(self) -> float | None:
        """Mean power."""
        return fmean(sample.watts for sample in self.samples) if self.samples else None

    @property
    def gpu_mhz(self) -> float | None:
        """Mean clock of the GPU."""
        known = [sample.gpu_mhz for sample in self.samples if sample.gpu_mhz]
        return fmean(known) if known else None

    @property
    def memory_mhz(self) -> float | None:
        """Mean clock of the GPU's memory."""
        known = [sample.memory_mhz for sample in self.samples if sample.memory_mhz]
        return fmean(known) if known else None


@contextmanager
def measured(meter: Meter | None) -> Iterator[Power]:
    """Measure the power of the block; empty without a meter."""
    power = Power()
    if meter is None:
        yield power
        return
    meter.start()
    try:
        yield power
    finally:
        power.meter, power.samples = meter.name, meter.stop()


def open_meter(
    on_gpu: bool,
    hwmon: Path = HWMON,
    nvidia_smi: str = "nvidia-smi",
    open_gpu: Callable[[str], NvmlGpu] = NvmlGpu,
) -> Meter | None:
    """The machine's power meter; None if it has none that works.

    A Jetson's rails cover CPU and GPU; a card's own meter only work ``on_gpu``.
    """
    rails = _rails(hwmon)
    if rails:
        return RailMeter(rails)
    if not on_gpu:
        return None
    gpu = first_visible()
    with suppress(OSError):
        return EnergyMeter(open_gpu(gpu))
    meters = (SmiMeter(nvidia_smi, gpu, power) for power in POWER_FIELDS)
    return next((meter for meter in meters if meter.answers()), None)


Rail = tuple[Path, Path]
"""Files of millivolts and milliamperes."""


def _rails(hwmon: Path) -> dict[str, Rail]:
    """Name -> its files: the module's whole input, or all rails that add up to it."""
    found: dict[str, Rail] = {}
    for chip in sorted(hwmon.glob("*")):
        if _text(chip / "name") != "ina3221":
            continue
        for label in sorted(chip.glob("in*_label")):
            number = label.name.removeprefix("in").removesuffix("_label")
            # A disabled channel cannot be read; an unconnected one means nothing.
            if _text(chip / f"in{number}_enable") == "0" or _text(label) == NOT_CONNECTED:
                continue
            files = chip / f"in{number}_input", chip / f"curr{number}_input"
            if all(file.is_file() for file in files):
                found[_text(label)] = files
    whole = {name: files for name, files in found.items() if name in TOTAL_RAILS}
    own = {name: files for name, files in found.items() if FED_BY.get(name) not in found}
    return whole or own


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


class Sampler:
    """Calls ``read`` in a thread, at once and then every ``SAMPLE_S``; None is no sample."""

    def __init__(self, read: Callable[[], Sample | None]) -> None:
        self._read = read
        self._ended = threading.Event()
        self._samples: list[Sample] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            sample = self._read()
            if sample is not None:
                self._samples.append(sample)
            if self._ended.wait(SAMPLE_S):
                return

    def stop(self) -> list[Sample]:
        self._ended.set()
        self._thread.join()
        return self._samples


class RailMeter:
    """A Jetson's power rails; the watts are their sum."""

    def __init__(self, rails: dict[str, Rail]) -> None:
        self._rails = rails
        self.name = "rails " + ", ".join(rails)

    def start(self) -> None:
        self._sampler = Sampler(self._sample)

    def stop(self) -> list[Sample]:
        return self._sampler.stop()

    def _sample(self) -> Sample | None:
        try:
            return Sample(
                sum(
                    float(_text(volts)) * float(_text(amperes)) / 1e6
                    for volts, amperes in self._rails.values()
                )
            )
        except ValueError:
            return None  # a rail without a reading this time


class EnergyMeter:
    """A GPU's energy counter; every sample has the mean power of the whole block."""

    name = "NVML energy counter"

    def __init__(self, gpu: NvmlGpu) -> None:
        self._gpu = gpu

    def start(self) -> None:
        self._sampler = Sampler(self._clocks)
        self._started, self._joules = time.perf_counter(), self._gpu.joules()

    def stop(self) -> list[Sample]:
        try:
            joules = self._gpu.joules() - self._joules
        except OSError:
            joules = 0.0
        watts = joules / (time.perf_counter() - self._started)
        clocks = self._sampler.stop()
        # A block shorter than the counter's step has no figure.
        return [replace(sample, watts=watts) for sample in clocks] if joules > 0 else []

    def _clocks(self) -> Sample:
        try:
            return Sample(0.0, *self._gpu.clocks_mhz())
        except OSError:
            return Sample(0.0)


def first_visible(environment: Mapping[str, str] = os.environ) -> str:
    """CUDA's first GPU: its index or UUID; nvidia-smi takes either.

    Without CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA numbers the fastest GPU first, nvidia-smi the first
    slot; the numbers differ on machines with different GPUs.
    """
    return environment.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip() or "0"


class SmiMeter:
    """One GPU, read through nvidia-smi."""

    name = "nvidia-smi"

    def __init__(
        self, nvidia_smi: str = "nvidia-smi", gpu: str = "0", power: str = "power.draw"
    ) -> None:
        self._command = [
            nvidia_smi,
            f"--id={gpu}",
            f"--query-gpu={power},clocks.sm,clocks.mem",
            "--format=csv,noheader,nounits",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def answers(self) -> bool:
        """Whether nvidia-smi is there and reports power."""
        try:
            found = subprocess.run(
                self._command, capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return bool(_samples(found.stdout))

    def start(self) -> None:
        # A terminal: into a file or a pipe it may write in large blocks, lost when it is ended.
        self._output, terminal = pty.openpty()
        try:
            self._process = subprocess.Popen(
                [*self._command, f"--loop-ms={int(1000 * SAMPLE_S)}"],
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=subprocess.DEVNULL,
            )
        finally:
            os.close(terminal)
        self._text = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        # Linux ends a terminal that has no writer any more with an error.
        with suppress(OSError):
            while block := os.read(self._output, 4096):
                self._text += block

    def stop(self) -> list[Sample]:
        if self._process is None:
            return []
        self._process.terminate()
        self._process.wait()
        self._process = None
        self._reader.join()
        os.close(self._output)
        return _samples(self._text.decode(errors="replace"))


def _samples(lines: str) -> list[Sample]:
    """From lines such as ``87.31, 1980, 2619``; lines without numbers are skipped."""
    found = []
    for line in lines.splitlines():
        try:
            watts, gpu, memory = (float(word) for word in line.split(","))
        except ValueError:
            continue
        found.append(Sample(watts, gpu, memory))
    return found
