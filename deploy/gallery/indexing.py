"""Describing images into a gallery: only those it has not, in steps that each are kept.

Several processes, on several machines, may fill one gallery: each takes its shard of the
images. A run that was stopped goes on where it was when it is started again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import ConfigError, DataError, ModelFileError
from reid.matching import Matcher
from reid.matching.describing import READ_THREADS, read_ahead
from reid.progress import SILENT, Advance, Reporter
from reid.types import Image, ImageRecord

from .gallery import Box, Gallery, Sighting

IMAGES_AT_ONCE = 1024
"""Images of one transaction: seconds of work are lost where a run is killed."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """What a run did: ``added`` images of ``found``, the others were known, in ``seconds``."""

    found: int
    added: int
    seconds: float


def index_images(
    gallery: Gallery,
    matcher: Matcher[Any],
    sightings: Sequence[Sighting],
    reporter: Reporter = SILENT,
    at_once: int = IMAGES_AT_ONCE,
) -> Indexed:
    """Describe the images that ``sightings`` name and add them.

    Raises DataError for an image that cannot be read, ModelFileError for an output that is not
    finite, OutputError; what was added before stays.
    """
    start, added = time.perf_counter(), 0
    progress = reporter.begin("describing", len(sightings))
    parts = [sightings[at : at + at_once] for at in range(0, len(sightings), at_once)]
    for part, new in zip(parts, _unknown_ahead(gallery, parts), strict=True):
        progress(len(part) - len(new))
        added += add_images(gallery, matcher, _images(new), new, progress)
    return Indexed(len(sightings), added, time.perf_counter() - start)


def add_images(
    gallery: Gallery,
    matcher: Matcher[Any],
    images: Iterable[Image],
    sightings: Sequence[Sighting],
    progress: Advance | None = None,
) -> int:
    """Describe images, (H, W, 3) uint8 BGR, and add them in one transaction; how many were new.

    Raises ModelFileError for an output that is not finite, and what ``Gallery.add`` raises.
    """
    if not sightings:
        return 0
    descriptions = matcher.describe(images, progress)
    bad = np.flatnonzero(~matcher.finite(descriptions))
    if len(bad):
        raise ModelFileError(
            f"the model's output is NaN or infinite for {len(bad)} of {len(sightings)} images, "
            f"the first {sightings[bad[0]].source}; check its weights, or use FP32"
        )
    return gallery.add(descriptions, sightings)


def with_content(sighting: Sighting) -> Sighting:
    """The sighting with the hash of its file. Raises DataError where it cannot be read."""
    try:
        content = Path(sighting.source).read_bytes()
    except OSError as error:
        raise DataError(f"{sighting.source}: cannot be read: {error.strerror or error}") from error
    return dataclasses.replace(sighting, content=content_hash(content))


def content_hash(content: bytes) -> str:
    """What stands for a file's bytes: 128 bits in hexadecimal."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def cropped(image: Image, box: Box | None, source: str) -> Image:
    """The part of an image in a box, as far as it reaches; all of it without one.

    Raises DataError for a box that lies outside.
    """
    if box is None:
        return image
    left, top, width, height = box
    part = image[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
    if 0 in part.shape:
        raise DataError(
            f"{source}: the box {box} (left, top, width, height) lies outside the image of "
            f"{image.shape[1]}x{image.shape[0]} pixels"
        )
    return part


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``number`` of ``of``, counted from 1."""

    number: int
    of: int

    def of_images(self, sightings: Sequence[Sighting], root: Path) -> list[Sighting]:
        """The part's images. Which those are depends on each one's path below ``root`` alone:
        processes that list different images, or list them elsewhere, take none twice."""
        base = os.path.realpath(root)
        return [one for one in sightings if self._has(one.source, base)]

    def of_files(self, files: Sequence[Path], root: Path) -> list[Path]:
        """The part's files, by the same rule."""
        base = os.path.realpath(root)
        return [file for file in files if self._has(str(file), base)]

    def _has(self, path: str, base: str) -> bool:
        if self.of == 1:
            return True
        name = os.path.relpath(os.path.realpath(path), base)
        digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest()
        return int.from_bytes(digest, "little") % self.of == self.number - 1


def shard_from(text: str, environment: Mapping[str, str]) -> Shard:
    """``3/8``; without it what ``torchrun`` tells its processes. Raises ConfigError."""
    if not text:
        rank, world = environment.get("RANK", "0"), environment.get("WORLD_SIZE", "1")
        text = f"{int(rank) + 1 if rank.isdecimal() else rank}/{world}"
    number, _, of = text.partition("/")
    if number.isdecimal() and of.isdecimal() and len(text) < 20 and 1 <= int(number) <= int(of):
        return Shard(int(number), int(of))
    raise ConfigError(f"a shard is written 3/8, the third of eight; found {text!r}")


def _unknown_ahead(
    gallery: Gallery, parts: Sequence[Sequence[Sighting]]
) -> Iterator[list[Sighting]]:
    """Each part's images that the gallery has not; files are hashed one part ahead."""
    with ThreadPoolExecutor(READ_THREADS) as pool:
        ahead = [pool.submit(with_content, one) for one in (parts[0] if parts else ())]
        for number in range(len(parts)):
            hashed = [future.result() for future in ahead]
            following = parts[number + 1 : number + 2]
            ahead = [pool.submit(with_content, one) for part in following for one in part]
            unknown = gallery.unknown(hashed)
            yield [one for one, is_new in zip(hashed, unknown, strict=True) if is_new]


def _images(sightings: Sequence[Sighting]) -> Iterator[Image]:
    """The people, decoded a little ahead."""
    records = [ImageRecord(Path(one.source), 0, 0) for one in sightings]
    for image, one in zip(read_ahead(records), sightings, strict=True):
        yield cropped(image, one.box, one.source)
