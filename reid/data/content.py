"""Recognise images by their bytes: which test images were trained on.

A file that was renamed, moved or given to another person keeps its bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

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
    progress: Callable[[int], object] = lambda count: None,
    threads: int = 0,
) -> Iterator[bytes]:
    """The hash of each image's file, in order; one image per thread is in memory.

    ``progress`` is called with the number of images done since; ``threads`` 0 is two per core,
    as reading waits for the disk. Raises DataError for a file that cannot be read.

    >>> hashes = frozenset(image_hashes(split.train))
    >>> trained_on(split.query, hashes)
    ()
    """
    with ThreadPoolExecutor(threads or 2 * (os.cpu_count() or 1)) as pool:
        for at in range(0, len(records), _AT_ONCE):
            part = records[at : at + _AT_ONCE]
            yield from pool.map(_hash_of_file, part)
            progress(len(part))


def trained_on(
    records: Sequence[ImageRecord],
    hashes: Collection[bytes],
    progress: Callable[[int], object] = lambda count: None,
) -> tuple[ImageRecord, ...]:
    """Those of the images whose bytes are among ``hashes``. Raises what ``image_hashes`` raises."""
    known = frozenset(hashes)
    found = zip(records, image_hashes(records, progress), strict=True)
    return tuple(record for record, digest in found if digest in known)


def names_in(split: Split, records: Sequence[ImageRecord]) -> frozenset[str]:
    """The names of the people in some of a split's images; empty for published datasets."""
    ids = {record.person_id for record in records}
    return frozenset(split.names[one] for one in ids if one in split.names)


def names_trained_on(split: Split, trained: Collection[str]) -> tuple[str, ...]:
    """The names that test people share with training people, sorted.

    Under one data root that is probably, but not surely, the same person.
    """
    tested = names_in(split, (*split.query, *split.gallery))
    return tuple(sorted(tested.intersection(trained)))


def _hash_of_file(record: ImageRecord) -> bytes:
    return hash_of(read_image_file(record.path))
