"""The NVIDIA driver of this machine, and the packages that it can run.

Libraries for CUDA 13, which ``pip install tensorrt`` brings, need a driver of 580 or newer.
TensorRT's for CUDA 12 need 535.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
"""``NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 ...``; not in WSL."""

DRIVERS = {13: 580, 12: 535}
"""CUDA's major version -> the oldest driver that TensorRT for it runs on."""
NEWEST, OLDEST = max(DRIVERS), min(DRIVERS)

_CUDA = ("libcuda.so.1", "nvcuda.dll")
NVML = ("libnvidia-ml.so.1", "nvml.dll")
_VERSION_BYTES = 96

Load = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Driver:
    """``version`` is such as ``550.54.14``, empty if there is no driver; ``cuda`` the newest major
    version of CUDA that it runs, 0 if unknown."""

    version: str = ""
    cuda: int = 0

    @property
    def is_old(self) -> bool:
        """Whether it is too old for the packages that pip installs by default."""
        return 0 < self.cuda < NEWEST

    @property
    def tensorrt(self) -> str:
        """The TensorRT package for pip."""
        return f"tensorrt-cu{OLDEST}" if self.is_old else "tensorrt"

    @property
    def cuda_python(self) -> str:
        """The cuda-python package for pip, quoted for a shell."""
        return f'"cuda-python<{NEWEST}"' if self.is_old else "cuda-python"

    @property
    def install(self) -> str:
        """The command that installs what runs an engine here."""
        return f"pip install {self.tensorrt} {self.cuda_python}"

    def words(self) -> str:
        """``NVIDIA driver 550.54.14 (CUDA 12)``."""
        if not self.version:
            return "no NVIDIA driver"
        return f"NVIDIA driver {self.version}" + (f" (CUDA {self.cuda})" if self.cuda else "")

    def fault(self) -> str:
        """What is wrong if TensorRT for no CUDA can run on it; else empty."""
        if _major(self.version) in range(1, DRIVERS[OLDEST]):
            return (
                f"TensorRT needs an NVIDIA driver of {DRIVERS[OLDEST]} or newer, found "
                f"{self.version}; update the driver, best to {DRIVERS[NEWEST]} or newer"
            )
        return ""


def this_driver(kernel_module: Path = KERNEL_MODULE, load: Load = ctypes.CDLL) -> Driver:
    """Ask the kernel module's file, NVML and the CUDA driver, which need no package."""
    version = _of_kernel_module(kernel_module) or _of_nvml(load)
    # Without a driver, libcuda may be there all the same: containers bring one for compatibility.
    return Driver(version, _newest_cuda(load) or _cuda_of(version)) if version else Driver()


def driver_words(driver: Driver | None = None) -> str:
    """The driver's version, and what to do if it is missing or too old."""
    found = driver or this_driver()
    if not found.version:
        return (
            "no NVIDIA driver is loaded: install one, or use a machine that has a GPU; on a "
            "Jetson, use the TensorRT of its JetPack"
        )
    return found.fault() or (
        f"{found.words()}: CUDA {NEWEST} needs {DRIVERS[NEWEST]} or newer, CUDA {OLDEST} "
        f"{DRIVERS[OLDEST]}; install a newer driver, or what this one runs: {found.install}"
    )


def _of_kernel_module(file: Path) -> str:
    try:
        first = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except OSError:
        return ""
    found = re.search(r"\s(\d{3,}\.\d+(?:\.\d+)*)\s", f"{first} ")
    return found[1] if found else ""


def _of_nvml(load: Load) -> str:
    nvml = library(NVML, load)
    if nvml is None or nvml.nvmlInit_v2() != 0:
        return ""
    text = ctypes.create_string_buffer(_VERSION_BYTES)
    failed = nvml.nvmlSystemGetDriverVersion(text, _VERSION_BYTES)
    nvml.nvmlShutdown()
    return "" if failed else text.value.decode("ascii", "replace")


def _newest_cuda(load: Load) -> int:
    """From ``cuDriverGetVersion``, which needs no ``cuInit`` and gives 12040 for CUDA 12.4."""
    cuda, number = library(_CUDA, load), ctypes.c_int()
    if cuda is None or cuda.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return 0
    return number.value // 1000


def _cuda_of(version: str) -> int:
    """The newest CUDA of a driver by its version; 11 below CUDA 12's drivers."""
    number = _major(version)
    return next((cuda for cuda, oldest in DRIVERS.items() if number >= oldest), OLDEST - 1)


def _major(version: str) -> int:
    number = version.partition(".")[0]
    return int(number) if number.isdecimal() else 0


def library(names: tuple[str, ...], load: Load = ctypes.CDLL) -> Any:
    """The first of the libraries that loads; None if none does."""
    for name in names:
        try:
            return load(name)
        except OSError:
            continue
    return None
