"""A gallery on a disk that fills up: python -m tests.deploy.gallery.full_disk FOLDER

FOLDER is on a small file system of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from reid.deploy.gallery import Confirmation, Where
from reid.deploy.gallery.opening import open_gallery
from reid.errors import OutputError
from tests.deploy.gallery.conftest import vector_matcher
from tests.deploy.gallery.killed_writers import batch

BATCH = 1000


def refused(change: Callable[..., object], *arguments: object) -> str:
    try:
        change(*arguments)
    except OutputError as error:
        return str(error)
    raise SystemExit("nothing was refused")


def main(folder: Path) -> None:
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(3 << 20))
    gallery = open_gallery(str(folder / "gallery"), vector_matcher(), create=True)
    number = 0
    try:
        while True:
            gallery.add(*batch(number, BATCH))
            number += 1
    except OutputError as error:
        print(error)
    with open(folder / "rest", "wb", buffering=0) as rest:
        for size in (4096, 1):
            while fits(rest, size):
                pass
    files = sorted(Path(gallery.name).iterdir())
    print(refused(gallery.add, *batch(number, BATCH)))
    print(refused(gallery.confirm, Confirmation("ab", 1, True, 0.0)))
    print(refused(gallery.delete, Where(people=("1",))))
    assert sorted(Path(gallery.name).iterdir()) == files, "something was left or lost"
    for one in (gallery, open_gallery(gallery.name, vector_matcher())):
        assert len(one) == BATCH * number
        assert one.search(batch(1, BATCH)[0][:1], 1)[0][0].entry.source == "1/0"
    ballast.unlink()
    assert gallery.add(*batch(number, BATCH)) == BATCH
    print("went on with", len(gallery))


def fits(file: IO[bytes], size: int) -> bool:
    try:
        return file.write(bytes(size)) == size
    except OSError:
        return False


if __name__ == "__main__":
    main(Path(sys.argv[1]))
