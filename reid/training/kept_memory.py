"""Keep the memory that a training step frees for the next step, on a processor.

The C library of Linux maps every large array afresh and unmaps it when it is freed, so each
step touches gigabytes of new pages, which the kernel clears one by one. Kept, the same pages
serve all steps. Measured on two cores (AVX2, a virtual machine), fp32, channels-last, one step:
CSN's batch of 129 pairs 7.9 s -> 5.1 s, MSP-CNN's 48 images 5.6 s -> 4.8 s; the most memory
held rose by 7 to 22 %.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
_NEVER = -1


def keep_freed_memory() -> bool:
    """From now on this process holds what it frees; False where the C library cannot be asked."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
