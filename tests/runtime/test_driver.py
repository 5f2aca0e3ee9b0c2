"""The driver's version decides which TensorRT and cuda-python are named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reid.errors import MissingPackageError
from reid.runtime import device_memory, tensorrt_module
from reid.runtime.driver import Driver, driver_words, this_driver

PROPRIETARY = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024
GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)
"""
OPEN = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)
GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)
"""
TEGRA = "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (b)\n"


def libraries(nvml: str = "", cuda: int = 0) -> Callable[[str], Any]:
    """Stands for ``ctypes.CDLL``: NVML of a driver, and libcuda of a version such as 12040."""

    def driver_version(text: Any, size: int) -> int:
        assert len(nvml) < size
        text.value = nvml.encode()
        return 0

    def cuda_version(number: Any) -> int:
        number._obj.value = cuda
        return 0

    found = {}
    if nvml:
        found["libnvidia-ml.so.1"] = SimpleNamespace(
            nvmlInit_v2=lambda: 0,
            nvmlSystemGetDriverVersion=driver_version,
            nvmlShutdown=lambda: 0,
        )
    if cuda:
        found["libcuda.so.1"] = SimpleNamespace(cuDriverGetVersion=cuda_version)

    def load(name: str) -> Any:
        if name not in found:
            raise OSError(f"{name}: cannot open shared object file")
        return found[name]

    return load


@pytest.mark.parametrize(
    ("text", "load", "expected"),
    [
        (PROPRIETARY, libraries(), Driver("550.54.14", 12)),
        (OPEN, libraries(), Driver("580.65.06", 13)),
        (TEGRA, libraries(cuda=12060), Driver("540.4.0", 12)),
        (PROPRIETARY, libraries(cuda=13000), Driver("550.54.14", 13)),  # libcuda for compatibility
        ("", libraries("576.02", 12090), Driver("576.02", 12)),  # WSL has no such file
        ("", libraries(cuda=13000), Driver()),  # a container without a driver
        (PROPRIETARY.replace("550.54.14", "470.256.02"), libraries(), Driver("470.256.02", 11)),
        ("", libraries(), Driver()),
    ],
)
def test_the_version_is_read_from_the_kernel_module_or_nvml(
    tmp_path: Path, text: str, load: Callable[[str], Any], expected: Driver
) -> None:
    file = tmp_path / "version"
    if text:
        file.write_text(text)
    assert this_driver(file, load) == expected


@pytest.mark.parametrize(
    ("driver", "line"),
    [
        (Driver(), "pip install tensorrt cuda-python"),
        (Driver("580.65.06", 13), "pip install tensorrt cuda-python"),
        (Driver("579.99", 12), 'pip install tensorrt-cu12 "cuda-python<13"'),
    ],
)
def test_before_cuda_13_the_packages_are_those_for_cuda_12(driver: Driver, line: str) -> None:
    assert driver.install == line


def test_a_missing_package_is_named_as_the_driver_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tensorrt_module, device_memory):
        monkeypatch.setattr(module, "this_driver", lambda: Driver("550.54.14", 12))
    for name in ("tensorrt", "pycuda", "pycuda.driver", "cuda"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("cuda.bindings", "cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match="pip install tensorrt-cu12 "):
        tensorrt_module.load_tensorrt("tensorrt")
    with pytest.raises(MissingPackageError, match="cuda-python<13"):
        device_memory.open_device()


def test_the_words_about_a_driver_name_its_version_and_what_it_runs() -> None:
    assert "no NVIDIA driver" in driver_words(Driver())
    assert "update the driver" in driver_words(Driver("470.82.01", 11))
    words = driver_words(Driver("550.54.14", 12))
    assert "550.54.14" in words
    assert 'pip install tensorrt-cu12 "cuda-python<13"' in words
