"""What a benchmark ran on: model, machine, library versions."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from reid.runtime import Runner

_MIB = 1 << 20

_DISTRIBUTIONS = (
    "reid-toolkit",
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "torch",
)


@dataclass(frozen=True, slots=True)
class Setting:
    """The model and the machine. ``threads`` 0 means the backend's default."""

    network: str
    file_sha256: str
    backend: str
    precision: str
    input_shape: tuple[int, int, int]
    threads: int
    cpu: str
    num_cpus: int
    gpus: tuple[str, ...]
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the fields' order."""
        return dataclasses.asdict(self)

    def heading(self) -> list[str]:
        """Two lines for the terminal."""
        size = "x".join(str(edge) for edge in self.input_shape)
        threads = f"threads {self.threads or 'default'}"
        return [
            f"{self.network} {self.precision} {size}, {self.backend}",
            f"{self.cpu}, {self.num_cpus} CPUs, {threads}; GPU: {', '.join(self.gpus) or 'none'}",
        ]


def setting_of(runner: Runner, threads: int) -> dict[str, Any]:
    """The fields of a Setting for a runner that was opened with ``threads``."""
    manifest = runner.manifest
    return {
        "network": manifest.network,
        "file_sha256": manifest.file_sha256,
        "backend": runner.backend,
        "precision": manifest.precision,
        "input_shape": manifest.preprocess.input_shape,
        "threads": threads,
        "cpu": cpu_name(),
        "num_cpus": len(os.sched_getaffinity(0)),
        "gpus": gpu_names(),
        "versions": _versions(),
    }


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model by the kernel, or its architecture."""
    names = values_after("model name", cpuinfo)
    return names[0] if names else platform.machine()


def gpu_names(
    driver: Path = Path("/proc/driver/nvidia/gpus"),
    board: Path = Path("/proc/device-tree/model"),
) -> tuple[str, ...]:
    """The NVIDIA GPUs that the driver lists, or a Jetson board's name; empty without a GPU."""
    listed = tuple(
        name
        for information in sorted(driver.glob("*/information"))
        for name in values_after("Model", information)
    )
    if listed or not board.is_file():
        return listed
    name = board.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    return (name,) if "Jetson" in name else ()


def values_after(key: str, file: Path) -> list[str]:
    """The values of the ``key : value`` lines in a kernel's text file; none without it."""
    if not file.is_file():
        return []
    pairs = (line.partition(":") for line in file.read_text(encoding="utf-8").splitlines())
    return [value.strip() for name, _, value in pairs if name.strip() == key]


def _versions() -> dict[str, str]:
    """Versions of the installed packages that can affect speed, and of Python."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def gpu_memory_mb() -> float | None:
    """Memory of all processes on all NVIDIA GPUs by nvidia-smi; None without it."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return sum(float(line) for line in found.stdout.split()) * _MIB / 1e6
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
