"""Writers that die and disks that are full leave a gallery as it was."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def quick_folder() -> Iterator[str]:
    """In memory where it can be: a kill is the same there, and a flush takes no time."""
    home = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=home) as folder:
        yield folder


def module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"tests.deploy.gallery.{name}", *arguments]


def test_fifty_killed_writers_leave_all_that_was_committed_and_nothing_else(
    quick_folder: str,
) -> None:
    done = subprocess.run(
        module("killed_writers", f"{quick_folder}/gallery"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(
        r"50 writers killed, (\d+) while they wrote a file; (\d+) said\n", done.stdout
    )
    assert found, done.stdout
    assert int(found[1]) > 0
    assert int(found[2]) > 1


def small_disk() -> list[str]:
    """A command's beginning: a file system of 5 MB for it alone, hidden from all others."""
    return ["unshare", "--user", "--map-root-user", "--mount"]


def test_a_full_disk_leaves_the_gallery_as_it_was(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=5m none {tmp_path}"
    may = shutil.which("unshare") and subprocess.run(
        [*small_disk(), "sh", "-c", mount], capture_output=True, check=False
    )
    if not may or may.returncode:
        pytest.skip("needs unshare and mount, to make a small disk")
    done = subprocess.run(
        [
            *small_disk(),
            "sh",
            "-c",
            f'{mount} && exec "$@"',
            "sh",
            *module("full_disk", str(tmp_path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    *refused, last = done.stdout.splitlines()
    assert len(refused) == 4
    assert all("the disk is full; free some space" in line for line in refused)
    assert last.startswith("went on with")
