"""Writers that are killed at random moments: python -m tests.deploy.gallery.killed_writers FOLDER

A process of its own, because forking is safe only where no thread runs. A writer adds batches
and deletes some, and says so when each is committed; after every kill the gallery must open with
all that was said, and every batch must be there whole or not at all.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from reid.deploy.gallery import GalleryEntry, Where
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.gallery.store import Store
from reid.types import FloatArray
from tests.deploy.gallery.conftest import DIM, vector_matcher

ROUNDS = 50
BATCH = 40
LONGEST_S = 0.08


def batch(number: int, count: int = BATCH) -> tuple[FloatArray, list[GalleryEntry]]:
    """The images of batch ``number``: they are known by their own vectors."""
    vectors = np.random.default_rng(number + 1).standard_normal((count, DIM)).astype(np.float32)
    said = str(number)
    return vectors, [GalleryEntry(f"{said}/{i}", said, content=f"{said}.{i}") for i in range(count)]


def write(name: str, first: int, said: int) -> None:
    """Add batches, delete every third again, until killed."""
    gallery = open_gallery(name, vector_matcher())
    for number in range(first, first + 1000):
        gallery.add(*batch(number))
        os.write(said, f"+{number}\n".encode())
        if number % 3 == 0:
            os.write(said, f"?{number}\n".encode())
            gallery.delete(Where(people=(str(number),)))
            os.write(said, f"-{number}\n".encode())


def num_files(name: str) -> int:
    """Files of rows, whole or not."""
    return sum(entry.endswith((".safetensors", ".part")) for entry in os.listdir(name))


def check(name: str, report: str) -> None:
    """All that was said to be done is done, and nothing by halves."""
    gallery = open_gallery(name, vector_matcher())
    state = {line[1:]: line[0] for line in report.splitlines()}
    there = set(gallery.summary().people)
    assert {number for number, what in state.items() if what == "+"} <= there
    assert not {number for number, what in state.items() if what == "-"} & there
    assert len(gallery) == BATCH * len(there), "half a batch"
    for number in random.sample(sorted(there), min(3, len(there))):
        vectors, entries = batch(int(number))
        for matches, entry in zip(gallery.search(vectors, 1), entries, strict=True):
            assert matches[0].distance < 1e-2
            assert matches[0].entry.source == entry.source


def main(name: str) -> None:
    random.seed(0)
    # The parent has done everything once, so that its children lose no time with imports.
    open_gallery(name, vector_matcher(), create=True).add(*batch(-1))
    report, unfinished = "+-1\n", 0
    for number in range(ROUNDS):
        reads, writes = os.pipe()
        child = os.fork()
        if not child:
            write(name, 1000 * number, writes)
        os.close(writes)
        time.sleep(random.uniform(0, LONGEST_S))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reads) as pipe:
            report += pipe.read()
        unfinished += num_files(name) > len(Store(Path(name)).segments)
        check(name, report)
    print(
        f"{ROUNDS} writers killed, {unfinished} while they wrote a file; {report.count('+')} said"
    )


if __name__ == "__main__":
    main(sys.argv[1])
