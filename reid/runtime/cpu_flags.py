"""What this machine's CPU has instructions for."""

from __future__ import annotations

import platform
from pathlib import Path

_CPU_FLAGS = Path("/proc/cpuinfo")
_INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Instructions for products of 8-bit integers: VNNI and AMX of x86, the dot products of ARM."""


def has_int8_instructions(cpuinfo: Path = _CPU_FLAGS) -> bool | None:
    """Whether this CPU multiplies 8-bit integers faster than floats; None if it cannot be read."""
    if platform.system() != "Linux":
        return None
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    flags = {
        flag
        for line in text.splitlines()
        if line.lower().startswith(("flags", "features"))
        for flag in line.partition(":")[2].split()
    }
    return any(flag in flags for flag in _INT8_FLAGS) if flags else None
