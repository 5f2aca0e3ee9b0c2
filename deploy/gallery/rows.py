"""The rows of a gallery as columns: new ones, their keys, and the checksums of each."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from reid.errors import DataError, ModelFileError
from reid.matching.columns import Column
from reid.matching.matcher import VECTOR
from reid.types import BoolArray

from .gallery import GalleryEntry

DESCRIBED = "described."
"""Prefix of the features' columns."""

DESCRIBED_CHECK, ENTRY_CHECK = "check.described", "check.entry"
"""Columns with a CRC-32 of each row: of its features, and of all else."""

NAMES = ("person", "camera", "run", "model")
NUMBERS = ("time_us", "offset_us", "frame", "track")
TEXTS = ("source", "picture", "picture_ref")
UNKNOWN = int(np.iinfo(np.int64).min)
"""Stands for a number that is not known."""

_NO_BOX = (0, 0, 0, 0)
_FINITE_BYTES = 1 << 24
"""Features looked at together."""


def new_rows(
    described: Mapping[str, Column], entries: Sequence[GalleryEntry], keys: Column, first_id: int
) -> tuple[dict[str, Column], dict[str, list[str]]]:
    """Columns and names of rows that are numbered from ``first_id`` on.

    Raises DataError for an impossible box or number.
    """
    for one in entries:
        if one.box is not None and not (min(one.box[2:]) > 0 and max(map(abs, one.box)) < 2**31):
            raise DataError(f"{one.source}: a box is at least 1x1 pixel, found {one.box}")
        if not all(abs(number or 0) < 2**62 for number in (one.frame, one.track)):
            raise DataError(f"{one.source}: a frame or track has an impossible number")
    columns: dict[str, Column] = {
        "id": np.arange(first_id, first_id + len(entries), dtype=np.int64),
        "key": keys,
        "time_us": _numbers([_us(one.time_s) for one in entries]),
        "offset_us": _numbers([_us(one.seconds) for one in entries]),
        "frame": _numbers([one.frame for one in entries]),
        "track": _numbers([one.track for one in entries]),
        "box": np.array([one.box or _NO_BOX for one in entries], np.int32).reshape(-1, 4),
    }
    names: dict[str, list[str]] = {}
    for name in NAMES:
        codes: dict[str, int] = {}
        numbers = [codes.setdefault(getattr(one, name), len(codes)) for one in entries]
        columns[name], names[name] = np.array(numbers, np.int32), list(codes)
    columns |= joined_texts("source", [text_bytes(one.source) for one in entries])
    columns |= joined_texts("picture", [one.picture for one in entries])
    columns |= joined_texts("picture_ref", [text_bytes(one.picture_ref) for one in entries])
    columns |= {DESCRIBED + name: array for name, array in described.items()}
    return columns, names


def joined_texts(name: str, parts: Sequence[bytes]) -> dict[str, Column]:
    """The two columns of a text."""
    return {
        f"{name}.bytes": np.frombuffer(b"".join(parts), np.uint8),
        f"{name}.ends": np.array([*accumulate(map(len, parts))], np.int64),
    }


def keys_of(entries: Sequence[GalleryEntry]) -> Column:
    """(N,) uint64: hashes of what identifies each image.

    With ten million images a collision is expected in one of 370,000 galleries.
    """
    keys = [_key("" if one.content else one.source, one) for one in entries]
    return np.array(keys, np.uint64)


def earlier_keys_of(entries: Sequence[GalleryEntry]) -> Column:
    """(N,) uint64: the keys in galleries of earlier versions, where a path was part of them."""
    return np.array([_key(one.source, one) for one in entries], np.uint64)


def _key(source: str, entry: GalleryEntry) -> int:
    text = "\0".join((source, str(entry.box), entry.content or str(entry.time_s)))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def microseconds(time_s: float) -> int:
    """Whole microseconds. Raises DataError for an impossible time."""
    if not abs(time_s) < 1e12:
        raise DataError(f"a time is in seconds since 1970, found {time_s}")
    return round(time_s * 1e6)


def finite_rows(described: Mapping[str, Column]) -> BoolArray:
    """(n,): whether a row's features are finite, and its vector's length is.

    A vector of huge numbers is infinitely far from every other: no search would find it.
    """
    count = len(next(iter(described.values()), ()))
    finite = np.ones(count, np.bool_)
    for name, array in described.items():
        step = max(1, _FINITE_BYTES // max(1, array[:1].nbytes))
        for at in range(0, count, step):
            part = array[at : at + step].reshape(len(array[at : at + step]), -1)
            with np.errstate(over="ignore", invalid="ignore"):
                sizes = np.einsum("nd,nd->n", part, part) if name == VECTOR else part
            finite[at : at + step] &= np.isfinite(sizes.reshape(len(part), -1)).all(axis=1)
    return finite


def require_finite(described: Mapping[str, Column], entries: Sequence[GalleryEntry]) -> None:
    """Raise ModelFileError, which names the first image, for features that are not finite."""
    bad = np.flatnonzero(~finite_rows(described))
    if len(bad):
        raise ModelFileError(
            f"the features of {len(bad)} of {len(entries)} images are NaN, infinite or too large, "
            f"the first of {entries[bad[0]].source}; check the model's weights, or use FP32"
        )


def described_checks(described: Mapping[str, Column]) -> Column:
    """(n,) int32: the CRC-32 of each row's features."""
    arrays = [np.ascontiguousarray(described[name]) for name in sorted(described)]
    checks = np.zeros(len(arrays[0]), np.uint32)
    for row in range(len(checks)):
        check = 0
        for array in arrays:
            check = zlib.crc32(array[row], check)
        checks[row] = check
    return checks.view(np.int32)


def entry_check(numbers: Sequence[int], names: Sequence[str], texts: Sequence[bytes]) -> int:
    """The CRC-32 of a row's labels, texts and picture, as int32.

    It does not depend on the file that the row is in, so that it travels with the row.
    """
    check = zlib.crc32(json.dumps([numbers, names, [*map(len, texts)]]).encode())
    for text in texts:
        check = zlib.crc32(text, check)
    return check - (1 << 32) if check >= 1 << 31 else check


def _numbers(values: Sequence[int | None]) -> Column:
    return np.array([UNKNOWN if value is None else value for value in values], np.int64)


def _us(time_s: float | None) -> int | None:
    return None if time_s is None else microseconds(time_s)


def text_bytes(text: str) -> bytes:
    """A path as it is stored."""
    return text.encode("utf-8", "surrogateescape")
