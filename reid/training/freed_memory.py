"""Keep the memory that a training step frees for the next step, on a CPU.

Linux's C library maps memory anew for every large array and unmaps it when the array is freed, so
each step touches gigabytes of new pages, which the kernel clears one by one. Keeping the pages
is faster, but takes more memory because the gaps between arrays do not always have the right
size (``tests/benchmarks/README.md``).
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
from pathlib import Path

ROOMY_GIB = 12.0
"""``auto`` keeps memory if this much is available: twice what the paper's batch needs (chosen
here)."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
_NEVER = -1
_MEMINFO, _CGROUP_LIMIT = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")


def keep_freed_memory(wanted: str = "auto") -> bool:
    """Make this process keep freed memory: always for "on", if memory allows for "auto".

    Returns whether it does; False too if the C library has no such setting.
    """
    if wanted == "off" or (wanted == "auto" and available_gib() < ROOMY_GIB):
        return False
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))


def available_gib() -> float:
    """Memory that this process can still get, by the system and a container's limit.

    0.0 if the system does not report it.
    """
    available = 0.0
    with contextlib.suppress(OSError, ValueError):
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) / 2**20
    with contextlib.suppress(OSError, ValueError):
        available = min(available, int(_CGROUP_LIMIT.read_text()) / 2**30)
    return available
