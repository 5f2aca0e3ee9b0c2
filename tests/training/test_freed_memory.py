"""A process that trains holds the memory that its steps free."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from reid.training import freed_memory
from reid.training.freed_memory import available_gib, keep_freed_memory

PAGES = """
import ctypes, resource, sys
from reid.training.freed_memory import keep_freed_memory
keep_freed_memory(sys.argv[1])
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
    assert new_pages("on") < 100
    assert new_pages("off") > 100  # four times 16,384 pages of 4 KiB, fewer of huge ones


def system_that_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meminfo: str, limit: str
) -> None:
    for name, text in (("_MEMINFO", meminfo), ("_CGROUP_LIMIT", limit)):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(freed_memory, name, tmp_path / name)


@pytest.mark.parametrize(
    ("meminfo", "limit", "expected"),
    [
        ("MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\n", "max\n", 16.0),
        ("MemAvailable: 16777216 kB\n", "4294967296\n", 4.0),  # a container's
        ("MemTotal: 33554432 kB\n", "max\n", 0.0),
    ],
)
def test_available_memory_is_the_systems_or_the_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meminfo: str, limit: str, expected: float
) -> None:
    system_that_tells(tmp_path, monkeypatch, meminfo, limit)
    assert available_gib() == expected


def test_without_room_memory_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system_that_tells(tmp_path, monkeypatch, "MemAvailable: 8388608 kB\n", "max\n")
    assert not keep_freed_memory("auto")
    assert not keep_freed_memory("off")
