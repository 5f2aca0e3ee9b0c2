"""The requests of the web page: the gallery's summary, a search, a picture, a confirmation."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from reid.data.images import decode_image
from reid.errors import ConfigError, DataError, ModelFileError
from reid.matching import Matcher

from ..gallery import Box, Confirmation, GalleryStore, Where
from ..gallery.filters import where_from_values
from ..gallery.indexing import content_hash, cropped
from ..gallery.limits import limit_in
from ..gallery.pictures import picture_of
from ..gallery.results import limit_to_json, to_json
from ..gallery.times import text_from_seconds

DECODED_AT_ONCE = 2
"""Images decoded at the same time: the largest take 120 MB each."""

MAX_MATCHES = 200
MAX_NAMES = 200
"""Most values of one filter."""

Query = Mapping[str, Sequence[str]]
"""A URL's query string: each name with its values."""


class GalleryService:
    """Serves one gallery with one matcher, which one thread uses at a time."""

    def __init__(
        self, gallery: GalleryStore, matcher: Matcher[Any], max_distance: float | None = None
    ) -> None:
        self._gallery, self._matcher = gallery, matcher
        self._max_distance = max_distance
        self._turn = threading.Lock()
        self._decoding = threading.BoundedSemaphore(DECODED_AT_ONCE)

    def summary(self) -> dict[str, Any]:
        """What is in the gallery, to filter by."""
        with self._turn:
            found = self._gallery.summary()
            left_out = self._gallery.left_out
        return {
            "gallery": self._gallery.name,
            "model": dict(self._matcher.identity),
            "images": found.images,
            "people": list(found.people),
            "cameras": list(found.cameras),
            "first": text_from_seconds(found.first_s) or None,
            "last": text_from_seconds(found.last_s) or None,
            "left_out": left_out or None,
        }

    def search(self, content: bytes, query: Query) -> dict[str, Any]:
        """The matches of an image file, or of its part in the query's ``box``.

        Raises DataError for a file that is not an image and for malformed filters, ConfigError
        for ``k``.
        """
        k, box, where = _count(query), _box(query), _where(query)
        with self._decoding:
            image = cropped(decode_image(content, "the image"), box, "the image")
        start = time.perf_counter()
        with self._turn:
            described = self._matcher.describe([image])
            if not self._matcher.finite(described).all():
                raise ModelFileError("the model's output is NaN or infinite; use FP32")
            (matches,) = self._gallery.search(described, k, where)
            said = self._gallery.confirmed()
            left_out = self._gallery.left_out
            limit = limit_in(self._gallery, self._matcher, self._max_distance)
        name = content_hash(content + repr(box).encode())
        confirmed = {one.id: one.same for one in said if one.query == name}
        return {
            "query": name,
            "seconds": time.perf_counter() - start,
            "left_out": left_out or None,
            "limit": limit_to_json(limit),
            "matches": [
                {**to_json(one, limit), "confirmed": confirmed.get(one.id)} for one in matches
            ],
        }

    def picture(self, number: str) -> bytes:
        """A JPEG of an image of the gallery. Raises DataError if there is none."""
        if not number.isascii() or not number.lstrip("-").isdecimal() or len(number) > 20:
            raise DataError("a picture's number is a whole number")
        with self._turn:
            entry = self._gallery.entry(max(-(2**63), min(int(number), 2**63 - 1)))
        if entry is None:
            raise DataError("no such image in the gallery; it may have been erased")
        try:
            with self._decoding:
                return picture_of(entry)
        except DataError:
            # The error does not name the file's path.
            raise DataError("this image has no picture, or its file is gone") from None

    def confirm(self, content: bytes) -> dict[str, Any]:
        """Keep ``{"query": ..., "id": ..., "same": ...}``. Raises DataError, OutputError."""
        try:
            said = json.loads(content)
            query, number, same = (said[name] for name in ("query", "id", "same"))
        except (ValueError, TypeError, KeyError, RecursionError):
            raise DataError(
                'expected {"query": HASH, "id": NUMBER, "same": true or false}'
            ) from None
        is_name = isinstance(query, str) and len(query) == 32 and query.isalnum()
        if not is_name or type(number) is not int or type(same) is not bool:
            raise DataError("a confirmation has a query's hash, an image's id and true or false")
        with self._turn:
            if abs(number) >= 2**63 or self._gallery.entry(number) is None:
                raise DataError("no such image in the gallery; it may have been erased")
            self._gallery.confirm(Confirmation(query, number, same, time.time()))
        return {"confirmed": same}

    def confirmed(self) -> list[dict[str, Any]]:
        """All confirmations."""
        with self._turn:
            said = self._gallery.confirmed()
        return [
            {
                "query": one.query,
                "id": one.id,
                "same": one.same,
                "time": text_from_seconds(one.time_s),
            }
            for one in said
        ]


def _count(query: Query) -> int:
    text = (query.get("k") or ["20"])[-1]
    if text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MAX_MATCHES:
        return int(text)
    raise ConfigError(f"k is 1 to {MAX_MATCHES}")


def _box(query: Query) -> Box | None:
    text = (query.get("box") or [""])[-1]
    if not text:
        return None
    try:
        left, top, width, height = (int(word) for word in text[:100].split(","))
    except ValueError:
        raise DataError("a box is left,top,width,height in pixels") from None
    if min(width, height) < 1 or max(map(abs, (left, top, width, height))) >= 2**31:
        raise DataError("a box is at least 1x1 pixel")
    return left, top, width, height


def _where(query: Query) -> Where:
    people, cameras = ((query.get(name) or ())[:MAX_NAMES] for name in ("person", "camera"))
    since, until = ((query.get(name) or [""])[-1] for name in ("since", "until"))
    return where_from_values(people, cameras, since or None, until or None)
