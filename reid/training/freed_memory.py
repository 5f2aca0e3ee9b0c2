"""Keep the memory that a training step frees for the next step, on a processor.

The C library of Linux maps every large array afresh and unmaps it when it is freed, so each
step touches gigabytes of new pages, which the kernel clears one by one. Kept, the same pages
serve all steps: they are quicker, and take more memory, because the gaps between arrays are not
always of the size that is wanted (``tests/benchmarks/README.md``).
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
from pathlib import Path

ROOMY_GIB = 12.0
"""``auto`` keeps memory where this much is available: twice what the paper's batch takes
(a choice)."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
_NEVER = -1
_MEMINFO, _CGROUP_LIMIT = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")


def keep_freed_memory(wanted: str = "auto") -> bool:
    """From now on this process holds what it frees: always for "on", where there is room for
    "auto". False where it does not, or the C library cannot be asked.
    """
    if wanted == "off" or (wanted == "auto" and available_gib() < ROOMY_GIB):
        return False
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))


def available_gib() -> float:
    """Memory that this process can still have: the system's, and a container's limit of all.

    0.0 where the system does not tell.
    """
    available = 0.0
    with contextlib.suppress(OSError, ValueError):
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) / 2**20
    with contextlib.suppress(OSError, ValueError):
        available = min(available, int(_CGROUP_LIMIT.read_text()) / 2**30)
    return available
