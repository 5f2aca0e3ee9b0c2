"""This machine, and the command that installs a missing library on it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from reid.runtime.driver import DRIVERS, NEWEST, Driver, this_driver

TEGRA_RELEASE = Path("/etc/nv_tegra_release")
"""``# R36 (release), REVISION: 4.3, ...`` on a Jetson."""

_JETPACK_OF_RELEASE = {35: 5, 36: 6, 38: 7, 39: 7}
_JETSON_WHEELS = {
    6: "https://pypi.jetson-ai-lab.io/jp6/cu126",
    7: "https://pypi.jetson-ai-lab.io/sbsa/cu130",
}
"""JetPack -> NVIDIA's index of wheels for it."""
_CUDA_PYTHON = {6: "cuda-python>=12.6,<13", 7: "cuda-python>=13"}


_TENSORRT_13 = ("tensorrt", "tensorrt-cu13", "tensorrt-cu13-libs", "tensorrt-cu13-bindings")
"""Distributions of TensorRT for CUDA 13; the last is there in every kind of installation by pip."""


@dataclass(frozen=True, slots=True)
class Machine:
    """``jetpack`` is the major version, 0 on anything but a Jetson."""

    architecture: str
    python: str
    jetpack: int
    has_gpu: bool
    driver: Driver = field(default_factory=Driver)

    def words(self) -> str:
        """``Jetson, JetPack 6, Python 3.10`` or ``x86_64, Python 3.11, no NVIDIA driver``."""
        if self.jetpack:
            return f"Jetson, JetPack {self.jetpack}, Python {self.python}"
        return f"{self.architecture}, Python {self.python}, {self.driver.words()}"

    def install_line(self, module: str) -> str:
        """The command that makes ``module`` importable here; empty for an unknown one."""
        if self.jetpack:
            return self._on_jetson(module)
        gpu = f'{self.driver.install} "reid-toolkit[edge]"'
        runtime = "onnxruntime-gpu" if self.has_gpu else "onnxruntime"
        return {
            "tensorrt": gpu,
            "tensorrt_rtx": "pip install tensorrt-rtx",
            "cuda": gpu,
            "onnxruntime": f"pip install {runtime}",
            "openvino": 'pip install "reid-toolkit[edge,openvino]"',
            "cv2": 'pip install "opencv-python-headless>=4.8,<5"',
            "torch": 'pip install "reid-toolkit[cpu]"',
        }.get(module, "")

    def driver_fault(self, version_of: Callable[[str], str] = importlib.metadata.version) -> str:
        """Why no engine can run with this driver and the packages installed; empty if none is seen.

        JetPack's driver and its TensorRT come together.
        """
        if 0 < self.jetpack < min(_CUDA_PYTHON):
            return f"JetPack {self.jetpack} has TensorRT 8, expected 10.3 or newer; update JetPack"
        if self.jetpack or not self.driver.version:
            return ""
        if self.driver.fault() or not self.driver.is_old:
            return self.driver.fault()
        has_tensorrt = bool(_version(_TENSORRT_13[-1], version_of))
        bindings = _version("cuda-bindings", version_of)
        has_bindings = bindings.partition(".")[0] == str(NEWEST)
        found = [_TENSORRT_13[1]] * has_tensorrt + [f"cuda-bindings {bindings}"] * has_bindings
        if not found:
            return ""
        uninstall = f"pip uninstall {' '.join(_TENSORRT_13)}; " if has_tensorrt else ""
        return (
            f"CUDA {NEWEST} needs an NVIDIA driver of {DRIVERS[NEWEST]} or newer, found "
            f"{self.driver.version} with {' and '.join(found)}; update the driver, or: {uninstall}"
            f"{self.driver.install}"
        )

    def _on_jetson(self, module: str) -> str:
        wheels = _JETSON_WHEELS.get(self.jetpack)
        index = f" --index-url {wheels}" if wheels else ""
        system = "sudo apt-get install {}, and a venv made with --system-site-packages"
        return {
            "tensorrt": system.format("nvidia-jetpack python3-libnvinfer"),
            "cuda": f'pip install "{_CUDA_PYTHON.get(self.jetpack, "cuda-python")}"',
            "onnxruntime": f"pip install onnxruntime-gpu{index}",
            "cv2": 'pip install "opencv-python-headless>=4.8,<5"',
            "torch": f"pip install torch{index}",
        }.get(module, "")


def _version(distribution: str, version_of: Callable[[str], str]) -> str:
    """Empty if it is not installed."""
    try:
        return version_of(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def this_machine(
    tegra: Path = TEGRA_RELEASE, driver: Driver | None = None, architecture: str = ""
) -> Machine:
    """Read from the kernel's and NVIDIA's files and libraries; ``driver`` is asked for if None."""
    jetpack = 0
    if tegra.is_file():
        release = re.search(r"R(\d+)", tegra.read_text(encoding="utf-8", errors="replace"))
        number = int(release.group(1)) if release else 0
        newest = max(_JETPACK_OF_RELEASE)
        jetpack = _JETPACK_OF_RELEASE.get(number, 7 if number > newest else 5)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    driver = driver or this_driver()
    gpu = bool(jetpack or driver.version)
    return Machine(architecture or platform.machine(), version, jetpack, gpu, driver)


NEEDS = {
    ".onnx": (("onnxruntime",), ("cv2",)),
    ".xml": (("openvino",), ("cv2",)),
    ".engine": (("tensorrt",), ("pycuda", "cuda"), ("cv2",)),
    ".plan": (("tensorrt",), ("pycuda", "cuda"), ("cv2",)),
    ".pt": (("torch",), ("cv2",)),
}
"""File suffix -> modules that it needs, one of each group."""


def is_installed(name: str) -> bool:
    """Whether ``name`` can be imported, without importing it.

    The namespace ``cuda`` is also used by other packages than cuda-python.
    """
    if name != "cuda":
        return importlib.util.find_spec(name) is not None
    try:
        parts = [importlib.util.find_spec(f"cuda.{part}") for part in ("bindings", "cudart")]
    except ModuleNotFoundError:
        return False
    return any(parts)


def missing(
    suffix: str,
    flavour: str = "tensorrt",
    found: Callable[[str], object] = is_installed,
) -> list[str]:
    """The missing modules for a file of this kind; of a group the last."""
    groups = [
        tuple(flavour if name == "tensorrt" else name for name in group)
        for group in NEEDS.get(suffix, ())
    ]
    return [group[-1] for group in groups if not any(found(name) for name in group)]
