"""A process that trains holds the memory that its steps free."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PAGES = """
import ctypes, resource, sys
from reid.training.kept_memory import keep_freed_memory
kept = sys.argv[1] == "kept" and keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def once():
    size = 64 << 20  # more than the C library ever keeps by itself
    array = libc.malloc(size)
    ctypes.memset(array, 1, size)
    libc.free(array)
once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def new_pages(how: str) -> int:
    """Pages the kernel had to give while 64 MiB were taken and freed four more times."""
    command = [sys.executable, "-c", PAGES, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_that_was_freed_serves_again_without_new_pages() -> None:
    assert new_pages("kept") < 100
    assert new_pages("plain") > 100  # four times 16,384 pages of 4 KiB, fewer of huge ones
