"""NVIDIA's driver on this machine, for the messages about one that is missing or too old."""

from __future__ import annotations

import re
from pathlib import Path

VERSION_FILE = Path("/proc/driver/nvidia/version")


def driver_words(file: Path = VERSION_FILE) -> str:
    """The driver's version, and what to do if it is older than CUDA needs."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return (
            f"no NVIDIA driver is loaded (no {file}): install one, or use a machine that has a "
            "GPU; on a Jetson, use the TensorRT of its JetPack"
        )
    found = re.search(r"\b\d{3,}(\.\d+)+", text)
    return (
        f"the NVIDIA driver here is {found.group() if found else 'of unknown version'}; CUDA 13 "
        "needs 580 or newer, CUDA 12 525: for an older one install a newer driver, or an older "
        'CUDA (pip install tensorrt-cu12 "cuda-python<13")'
    )
