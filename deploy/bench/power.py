"""Power and clocks during a benchmark, if the machine reports them.

A Jetson's power rails are in the kernel's hwmon files (INA3221); a desktop GPU is read through
nvidia-smi. Any other machine has no meter, and its power stays unknown.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Protocol

HWMON = Path("/sys/class/hwmon")
SAMPLE_S = 0.1
"""Interval between two samples, of the rails and of nvidia-smi."""

TOTAL_RAILS = ("VDD_IN", "VIN")
"""The rail of a Jetson module's whole input, if it has one: Orin Nano and NX, Thor [inferred]."""

FED_BY = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
"""AGX Orin's memory rail is fed by its 5 V input [inferred], so it is not counted again."""

NOT_CONNECTED = "NC"
"""Name of two unconnected channels of AGX Orin's second chip."""

_QUERY = "power.draw,clocks.sm,clocks.mem"


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


def open_meter(on_gpu: bool, hwmon: Path = HWMON, nvidia_smi: str = "nvidia-smi") -> Meter | None:
    """The machine's power meter; None if it has none that works.

    A Jetson's rails cover CPU and GPU; a card's own meter only work ``on_gpu``.
    """
    rails = _rails(hwmon)
    if rails:
        return RailMeter(rails)
    if not on_gpu:
        return None
    meter = SmiMeter(nvidia_smi, first_visible())
    return meter if meter.answers() else None


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


class RailMeter:
    """A Jetson's power rails, read in a thread; the watts are their sum."""

    def __init__(self, rails: dict[str, Rail]) -> None:
        self._rails = rails
        self.name = "rails " + ", ".join(rails)
        self._ended = threading.Event()
        self._samples: list[Sample] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._ended.clear()
        self._samples = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> list[Sample]:
        self._ended.set()
        self._thread.join()
        return self._samples

    def _watch(self) -> None:
        while True:
            try:
                watts = sum(
                    float(_text(volts)) * float(_text(amperes)) / 1e6
                    for volts, amperes in self._rails.values()
                )
            except ValueError:
                pass  # a rail without a reading this time
            else:
                self._samples.append(Sample(watts))
            if self._ended.wait(SAMPLE_S):
                return


def first_visible(environment: Mapping[str, str] = os.environ) -> str:
    """CUDA's first GPU: its index or UUID; nvidia-smi takes either.

    Without CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA numbers the fastest GPU first, nvidia-smi the first
    slot; the numbers differ on machines with different GPUs.
    """
    return environment.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip() or "0"


class SmiMeter:
    """One GPU, read through nvidia-smi."""

    def __init__(self, nvidia_smi: str = "nvidia-smi", gpu: str = "0") -> None:
        self.name = "nvidia-smi"
        self._command = [
            nvidia_smi,
            f"--id={gpu}",
            f"--query-gpu={_QUERY}",
            "--format=csv,noheader,nounits",
        ]
        self._process: subprocess.Popen[str] | None = None
        self._open = ExitStack()

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
        with ExitStack() as stack:
            # A file, because a pipe would fill up after some minutes and block nvidia-smi.
            self._output = stack.enter_context(tempfile.TemporaryFile("w+"))
            self._process = subprocess.Popen(
                [*self._command, f"--loop-ms={int(1000 * SAMPLE_S)}"],
                stdout=self._output,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._open = stack.pop_all()

    def stop(self) -> list[Sample]:
        if self._process is None:
            return []
        self._process.terminate()
        self._process.wait()
        self._process = None
        with self._open:
            self._output.seek(0)
            return _samples(self._output.read())


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
