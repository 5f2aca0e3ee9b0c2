"""Recognise images by their bytes: which test images were trained on.

A file that was renamed, moved or given to another person keeps its bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from reid.data.images import read_image_file
from reid.types import ImageRecord, Split

HASH_BYTES = 16
"""128 bits: no two of a billion images meet by chance."""

_AT_ONCE = 1024
"""Files that wait for a thread, so that memory does not grow with the data."""


def hash_of(content: bytes) -> bytes:
    """The hash of a file's bytes, ``HASH_BYTES`` long; the same as a gallery's."""
    return hashlib.blake2b(content, digest_size=HASH_BYTES).digest()


def image_hashes(
    records: Sequence[ImageRecord],
    progress: Callable[[int, int], object] = lambda done, total: None,
    threads: int = 0,
) -> Iterator[bytes]:
    """The hash of each image's file, in order; one image per thread is in memory.

    Of more than a thousand images ``progress`` is called with (done, total) now and then;
    ``threads`` 0 is two per core, as reading waits for the disk. Raises DataError for a file that
    cannot be read.

    >>> trained = frozenset(image_hashes(split.train))
    >>> trained.intersection(image_hashes(split.query))
    frozenset()
    """
    with ThreadPoolExecutor(threads or 2 * (os.cpu_count() or 1)) as pool:
        for at in range(0, len(records), _AT_ONCE):
            part = records[at : at + _AT_ONCE]
            yield from pool.map(_hash_of_file, part)
            if len(records) > _AT_ONCE:
                progress(at + len(part), len(records))


@dataclass(frozen=True, slots=True)
class TrainedImages:
    """Hashes that a model keeps of its training images and people, in place of bytes and names.

    Anyone who has an image or a name can find out whether it was trained on, and nothing else.

    ``images`` are hashes of files, ``people`` those of ``people_hashes``.
    """

    images: frozenset[bytes] = frozenset()
    people: frozenset[bytes] = frozenset()


def people_hashes(split: Split, records: Sequence[ImageRecord], root: Path) -> dict[bytes, str]:
    """A hash of each person in the records -> the name; empty for published datasets.

    The hash is of dataset, data root and name: elsewhere the same name may be another person.
    """
    place = f"{split.dataset}\0{root.resolve()}\0"
    names = {split.names[one.person_id] for one in records if one.person_id in split.names}
    return {hash_of((place + name).encode("utf-8", "surrogateescape")): name for name in names}


def _hash_of_file(record: ImageRecord) -> bytes:
    return hash_of(read_image_file(record.path))
