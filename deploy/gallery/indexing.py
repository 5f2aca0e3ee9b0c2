"""Adding images to a gallery: only new ones, in steps that are committed one by one.

Several processes, on several machines, can fill one gallery: each adds its shard of the images. A
stopped run continues where it was when it is started again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reid.data.content import hash_of
from reid.data.images import read_image, read_image_file
from reid.errors import ConfigError, DataError, ModelFileError, few_of
from reid.matching import Matcher
from reid.matching.describing import READ_THREADS, done_ahead
from reid.progress import SILENT, Advance, Reporter
from reid.types import Image

from .gallery import Box, GalleryEntry, GalleryStore, Labelled

IMAGES_AT_ONCE = 1024
"""Images per transaction: a killed run loses seconds of work at most."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """The result of a run: ``added`` of ``found`` images were new; it took ``seconds``.

    ``unreadable`` has a line for each file that cannot be read. Of the images that were there,
    ``labelled`` got a person, camera or time that they lacked, ``differing`` have another person or
    camera than they were listed with, which they keep, and ``moved`` got a new path, because there
    is no file at theirs.
    """

    found: int
    added: int
    seconds: float
    unreadable: tuple[str, ...] = ()
    labelled: int = 0
    differing: int = 0
    moved: int = 0


def index_images(
    gallery: GalleryStore,
    matcher: Matcher[Any],
    entries: Sequence[GalleryEntry],
    reporter: Reporter = SILENT,
    at_once: int = IMAGES_AT_ONCE,
) -> Indexed:
    """Compute the features of the images of ``entries`` and add them.

    Images that cannot be read are left out, and named in the result. Raises ModelFileError for an
    output that is not finite, OutputError; images added before the error stay.
    """
    start, added, place = time.perf_counter(), 0, ResolvedPaths()
    unreadable: list[str] = []
    known: list[GalleryEntry] = []
    progress = reporter.begin("describing", len(entries))
    parts = [entries[at : at + at_once] for at in range(0, len(entries), at_once)]
    for part, listed in zip(parts, _sorted_ahead(gallery, parts, place), strict=True):
        progress(len(part) - len(listed.new))
        unreadable += listed.unreadable
        known += listed.known
        if listed.new:
            read: list[GalleryEntry] = []
            images = _images(listed.new, read, unreadable, progress)
            added += add_images(gallery, matcher, images, read, progress)
    labelled = gallery.label(known) if known else Labelled(0, 0, 0)
    seconds = time.perf_counter() - start
    return Indexed(len(entries), added, seconds, tuple(unreadable), *labelled)


def require_all_read(unreadable: Sequence[str]) -> None:
    """Raise DataError that names the first files that could not be read, if there are any."""
    if unreadable:
        count = "1 file" if len(unreadable) == 1 else f"{len(unreadable):,} files"
        raise DataError(
            f"{count} cannot be read, all others are in the gallery: "
            f"{few_of(unreadable, between='; ')}"
        )


def add_images(
    gallery: GalleryStore,
    matcher: Matcher[Any],
    images: Iterable[Image],
    entries: Sequence[GalleryEntry],
    progress: Advance | None = None,
) -> int:
    """Add images, (H, W, 3) uint8 BGR, in one transaction; returns how many were new.

    ``entries`` may grow with ``images``. Raises ModelFileError for an output that is not finite,
    and what ``GalleryStore.add`` raises.
    """
    descriptions = matcher.describe(images, progress)
    if not entries:
        return 0
    bad = np.flatnonzero(~matcher.finite(descriptions))
    if len(bad):
        raise ModelFileError(
            f"the model's output is NaN or infinite for {len(bad)} of {len(entries)} images, "
            f"the first {entries[bad[0]].source}; check its weights, or use FP32"
        )
    return gallery.add(descriptions, entries)


def with_content(entry: GalleryEntry) -> GalleryEntry:
    """The entry with the hash of its file. Raises DataError if it cannot be read."""
    return dataclasses.replace(entry, content=content_hash(read_image_file(entry.source)))


def content_hash(content: bytes) -> str:
    """A hash of a file's bytes: 128 bits in hexadecimal."""
    return hash_of(content).hex()


def cropped(image: Image, box: Box | None, source: str) -> Image:
    """The part of an image in a box, clipped at the border; the whole image without a box.

    Raises DataError for a box outside the image.
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

    def of_images(self, entries: Sequence[GalleryEntry], root: Path) -> list[GalleryEntry]:
        """The shard's images. It depends only on each image's path below ``root``, so processes
        never take the same image, even if they list different ones or mount them elsewhere."""
        base = os.path.realpath(root)
        return [one for one in entries if self._has(one.source, base)]

    def of_files(self, files: Sequence[Path], root: Path) -> list[Path]:
        """The shard's files, by the same rule."""
        base = os.path.realpath(root)
        return [file for file in files if self._has(str(file), base)]

    def _has(self, path: str, base: str) -> bool:
        if self.of == 1:
            return True
        name = os.path.relpath(os.path.realpath(path), base)
        digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest()
        return int.from_bytes(digest, "little") % self.of == self.number - 1


def shard_from(text: str, environment: Mapping[str, str]) -> Shard:
    """Parse ``3/8``; without it use ``torchrun``'s variables. Raises ConfigError."""
    if not text:
        rank, world = environment.get("RANK", "0"), environment.get("WORLD_SIZE", "1")
        text = f"{int(rank) + 1 if rank.isdecimal() else rank}/{world}"
    number, _, of = text.partition("/")
    if number.isdecimal() and of.isdecimal() and len(text) < 20 and 1 <= int(number) <= int(of):
        return Shard(int(number), int(of))
    raise ConfigError(f"a shard is written 3/8, the third of eight; found {text!r}")


class ResolvedPaths:
    """Call it for a file's path in which no folder is a link, so that a file has one name.

    The file itself may be a link: its name, and not that of what it leads to, is the image's.
    """

    def __init__(self) -> None:
        self._real_folder = lru_cache(1 << 16)(os.path.realpath)  # many images to a folder

    def __call__(self, path: str) -> str:
        folder, name = os.path.split(path)
        return os.path.join(self._real_folder(folder), name)


class _Listed(NamedTuple):
    """A part's images with the hashes of their files; a line for each that cannot be read."""

    new: list[GalleryEntry]
    known: list[GalleryEntry]
    unreadable: list[str]


def _sorted_ahead(
    gallery: GalleryStore, parts: Sequence[Sequence[GalleryEntry]], place: ResolvedPaths
) -> Iterator[_Listed]:
    """Each part's images, each under one name; files are hashed one part ahead.

    Galleries of earlier versions know an image by the path that was given.
    """
    with ThreadPoolExecutor(READ_THREADS) as pool:
        ahead = [pool.submit(_hashed, one) for one in (parts[0] if parts else ())]
        for number in range(len(parts)):
            results = [future.result() for future in ahead]
            following = parts[number + 1 : number + 2]
            ahead = [pool.submit(_hashed, one) for part in following for one in part]
            hashed = [one for one in results if isinstance(one, GalleryEntry)]
            named = [dataclasses.replace(one, source=place(one.source)) for one in hashed]
            unknown = gallery.unknown(named)
            if named != hashed:
                unknown &= gallery.unknown(hashed)
            yield _Listed(
                [one for one, is_new in zip(named, unknown, strict=True) if is_new],
                [one for one, is_new in zip(named, unknown, strict=True) if not is_new],
                [str(one) for one in results if isinstance(one, DataError)],
            )


def _hashed(entry: GalleryEntry) -> GalleryEntry | DataError:
    try:
        return with_content(entry)
    except DataError as error:
        return error


def _images(
    entries: Sequence[GalleryEntry],
    read: list[GalleryEntry],
    unreadable: list[str],
    progress: Advance,
) -> Iterator[Image]:
    """The cropped images, decoded a little ahead; their entries go to ``read``."""
    for one, image in zip(entries, done_ahead(entries, _decoded), strict=True):
        if isinstance(image, DataError):
            unreadable.append(str(image))
            progress(1)
        else:
            read.append(one)
            yield image


def _decoded(entry: GalleryEntry) -> Image | DataError:
    try:
        return cropped(read_image(entry.source), entry.box, entry.source)
    except DataError as error:
        return error
