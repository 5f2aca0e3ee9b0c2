"""This machine, and the command that installs a missing library on it."""

from __future__ import annotations

import importlib.util
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reid.runtime.driver import VERSION_FILE

TEGRA_RELEASE = Path("/etc/nv_tegra_release")
"""``# R36 (release), REVISION: 4.3, ...`` on a Jetson."""

_JETPACK_OF_RELEASE = {35: 5, 36: 6, 38: 7, 39: 7}
_JETSON_WHEELS = {
    6: "https://pypi.jetson-ai-lab.io/jp6/cu126",
    7: "https://pypi.jetson-ai-lab.io/sbsa/cu130",
}
"""JetPack -> NVIDIA's index of wheels for it."""
_CUDA_PYTHON = {6: "cuda-python>=12.6,<13", 7: "cuda-python>=13"}


@dataclass(frozen=True, slots=True)
class Machine:
    """``jetpack`` is the major version, 0 on anything but a Jetson."""

    architecture: str
    python: str
    jetpack: int
    has_gpu: bool

    def words(self) -> str:
        """``Jetson, JetPack 6, Python 3.10`` or ``x86_64, Python 3.11, no NVIDIA GPU``."""
        if self.jetpack:
            return f"Jetson, JetPack {self.jetpack}, Python {self.python}"
        gpu = "an NVIDIA driver" if self.has_gpu else "no NVIDIA driver"
        return f"{self.architecture}, Python {self.python}, {gpu}"

    def install_line(self, module: str) -> str:
        """The command that makes ``module`` importable here; empty for an unknown one."""
        if self.jetpack:
            return self._on_jetson(module)
        gpu = 'pip install "reid-toolkit[edge]" tensorrt cuda-python'
        runtime = "onnxruntime-gpu" if self.has_gpu else "onnxruntime"
        return {
            "tensorrt": gpu,
            "tensorrt_rtx": "pip install tensorrt-rtx",
            "cuda": gpu,
            "onnxruntime": f"pip install {runtime}",
            "cv2": 'pip install "opencv-python-headless>=4.8,<5"',
            "torch": 'pip install "reid-toolkit[cpu]"',
        }.get(module, "")

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


def this_machine(
    tegra: Path = TEGRA_RELEASE, driver: Path = VERSION_FILE, architecture: str = ""
) -> Machine:
    """Read from the kernel's and NVIDIA's files."""
    jetpack = 0
    if tegra.is_file():
        release = re.search(r"R(\d+)", tegra.read_text(encoding="utf-8", errors="replace"))
        number = int(release.group(1)) if release else 0
        newest = max(_JETPACK_OF_RELEASE)
        jetpack = _JETPACK_OF_RELEASE.get(number, 7 if number > newest else 5)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    gpu = bool(jetpack) or driver.is_file()
    return Machine(architecture or platform.machine(), version, jetpack, gpu)


NEEDS = {
    ".onnx": (("onnxruntime",), ("cv2",)),
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
