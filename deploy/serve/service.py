"""What the HTTP API does: the gallery's summary, searches, pictures, verdicts.

Its methods block; they run in the threads of ``reid.deploy.serve.work``. A search, a look at a
picture and a verdict each have a store and a lock of their own, so that a search never waits for
a writer.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from reid.data.images import decode_image
from reid.errors import DataError, ModelFileError
from reid.matching import Matcher
from reid.model_file.thresholds import Limit
from reid.types import Image

from ..evidence.writing import Evidence, Picture, evidence_zip
from ..gallery import ANYWHERE, Box, Confirmation, GalleryEntry, GalleryStore, Match, Where
from ..gallery.filters import where_from_values
from ..gallery.indexing import content_hash, cropped
from ..gallery.limits import limit_in
from ..gallery.pictures import jpeg, picture_of
from ..gallery.results import limit_to_json, to_json
from ..gallery.times import text_from_seconds
from ..people.detector import PeopleDetector
from .media import Media
from .queries import HeldQueries, HeldQuery
from .refusals import Refusal
from .users import User

DECODED_AT_ONCE = 2
"""Images decoded at the same time: the largest take 120 MB each."""


_ERASED = "no such image in the gallery; it may have been erased"


@dataclass(frozen=True)
class Asked:
    """How a search was asked for, beside its image."""

    k: int = 20
    where: Where = ANYWHERE
    queries: tuple[str, ...] = ()
    """Hashes of held queries."""
    ids: tuple[int, ...] = ()
    """Images of the gallery as queries."""
    learn: bool = False
    show_different: bool = False


@dataclass
class Turn:
    """A store, which one thread uses at a time."""

    store: GalleryStore
    lock: threading.Lock = field(default_factory=threading.Lock)


class GalleryService:
    """Serves one gallery with one matcher, which one thread uses at a time.

    ``looking`` and ``writing`` are the same gallery, opened again; without them one store does
    everything.
    """

    def __init__(
        self,
        gallery: GalleryStore,
        matcher: Matcher[Any],
        max_distance: float | None = None,
        *,
        looking: GalleryStore | None = None,
        writing: GalleryStore | None = None,
        detector: PeopleDetector | None = None,
        media: Media | None = None,
        signing_key: Ed25519PrivateKey | None = None,
    ) -> None:
        self.held = HeldQueries()
        self.media = media or Media()
        self._signing_key = signing_key
        self._matcher, self._max_distance, self._detector = matcher, max_distance, detector
        self._searching = Turn(gallery)
        self._looking = Turn(looking) if looking is not None else self._searching
        self._writing = Turn(writing) if writing is not None else self._looking
        self._detecting = threading.Lock()
        self._decoding = threading.BoundedSemaphore(DECODED_AT_ONCE)

    @property
    def name(self) -> str:
        """The gallery's location, without credentials."""
        return self._looking.store.name

    def prepare(self) -> None:
        """Build the index and read the verdicts now, so that the first search need not."""
        with self._searching.lock:
            self._searching.store.prepare()
        self._verdicts([image_query(0)])

    def summary(self, user: User) -> dict[str, Any]:
        """What is in the gallery, to filter by, and what the user may do."""
        with self._looking.lock:
            store = self._looking.store
            found, left_out = store.summary(), store.left_out
        return {
            "gallery": self.name,
            "model": dict(self._matcher.identity),
            "images": found.images,
            "people": list(found.people),
            "cameras": list(found.cameras),
            "first": text_from_seconds(found.first_s) or None,
            "last": text_from_seconds(found.last_s) or None,
            "left_out": left_out or None,
            "user": user.name,
            "may": list(user.may),
            "people_detector": self._detector is not None,
        }

    def ready(self) -> None:
        """Raises ReidError where the gallery cannot be searched."""
        with self._looking.lock:
            len(self._looking.store)

    def hold(self, content: bytes, box: Box | None, user: User) -> HeldQuery:
        """Describe the part of an image file in ``box``, and hold its features for the user.

        Raises DataError for a file that is not an image and for a box outside it, ModelFileError
        for features that are not finite.
        """
        with self._decoding:
            image = cropped(decode_image(content, "the image"), box, "the image")
            small = jpeg(image)
        with self._searching.lock:
            described = self._matcher.describe([image])
        if not self._matcher.finite(described).all():
            raise ModelFileError("the model's output is NaN or infinite; use FP32")
        pieces = self._matcher.pieces(described)
        num_bytes = len(small) + sum(a.nbytes for piece in pieces for a in piece.values())
        name = content_hash(content + repr(box).encode())
        height, width = image.shape[:2]
        query = HeldQuery(name, described, width, height, small, num_bytes)
        self.held.hold(user.name, query)
        return query

    def search_image(
        self, content: bytes, box: Box | None, asked: Asked, user: User
    ) -> dict[str, Any]:
        """The matches of an image file, or of its part in ``box``; raises what ``hold`` does."""
        start = time.perf_counter()
        query = self.hold(content, box, user)
        return self._search([query], asked, start)

    def search_held(self, asked: Asked, user: User) -> dict[str, Any]:
        """The matches of several queries: each image's distance is the smallest of them.

        Raises Refusal for queries that are no longer held, DataError for none at all and for
        images that are gone.
        """
        if not asked.queries and not asked.ids:
            raise DataError("a search needs queries or ids")
        return self._search(self.held.take(user.name, asked.queries), asked, time.perf_counter())

    def _search(self, queries: Sequence[HeldQuery], asked: Asked, start: float) -> dict[str, Any]:
        names = [*(one.name for one in queries), *map(image_query, asked.ids)]
        verdicts = self._verdicts(names)
        confirmed = [number for number, one in verdicts.items() if one.same] if asked.learn else []
        ids = tuple(dict.fromkeys((*asked.ids, *confirmed)))
        different = {number for number, one in verdicts.items() if asked.learn and not one.same}
        with self._searching.lock:
            store = self._searching.store
            described = self._described(store, queries, ids)
            found = store.search(described, asked.k + len(different), asked.where)
            left_out = store.left_out
            limit = limit_in(store, self._matcher, self._max_distance)
        merged = nearest_of(found)
        matches = [one for one in merged if one.id not in different][: asked.k]
        if asked.show_different:
            matches += [one for one in merged if one.id in different]
        return {
            "query": names[0],
            "queries": len(queries) + len(ids),
            "seconds": time.perf_counter() - start,
            "left_out": left_out or None,
            "limit": limit_to_json(limit),
            "matches": [self._match(one, limit, verdicts.get(one.id)) for one in matches],
        }

    def _described(
        self, store: GalleryStore, queries: Sequence[HeldQuery], ids: Sequence[int]
    ) -> Any:
        """The features of held queries and of images of the gallery, as one description."""
        pieces = [piece for one in queries for piece in self._matcher.pieces(one.described)]
        if ids:
            try:
                pieces += self._matcher.pieces(store.features(ids))
            except DataError:  # it names the gallery's folder
                raise Refusal(HTTPStatus.NOT_FOUND, _ERASED) from None
        return self._matcher.from_pieces(pieces)

    def _match(self, match: Match, limit: Limit, verdict: Confirmation | None) -> dict[str, Any]:
        return {
            **to_json(match, limit),
            "has_frame": self.media.has_frame(match.entry),
            "has_video": self.media.has_video(match.entry),
            "confirmed": verdict.same if verdict else None,
            "confirmed_by": (verdict.user or None) if verdict else None,
        }

    def _verdicts(self, names: Sequence[str]) -> dict[int, Confirmation]:
        """The newest verdict on each image, of all these queries."""
        found: dict[int, Confirmation] = {}
        with self._looking.lock:
            said = [self._looking.store.verdicts(name) for name in names]
        for number, one in (pair for some in said for pair in some.items()):
            if number not in found or found[number].time_s <= one.time_s:
                found[number] = one
        return found

    def entry(self, number: int) -> GalleryEntry:
        """An image of the gallery. Raises Refusal if there is none."""
        with self._looking.lock:
            entry = self._looking.store.entry(number) if abs(number) < 2**63 else None
        if entry is None:
            raise Refusal(HTTPStatus.NOT_FOUND, _ERASED)
        return entry

    def picture(self, number: int) -> bytes:
        """A JPEG of an image of the gallery. Raises Refusal if there is none."""
        entry = self.entry(number)
        try:
            with self._decoding:
                return picture_of(entry)
        except DataError:
            # The error does not name the file's path.
            raise Refusal(
                HTTPStatus.NOT_FOUND, "this image has no picture, or its file is gone"
            ) from None

    def frame(self, number: int) -> bytes:
        """The JPEG of the whole frame. Raises Refusal if it is not kept."""
        entry = self.entry(number)
        with self._decoding:
            return self.media.frame(entry)

    def people(self, content: bytes) -> dict[str, Any]:
        """The people in a frame. Raises Refusal without a detector, DataError."""
        if self._detector is None:
            raise Refusal(
                HTTPStatus.NOT_IMPLEMENTED, "no people detector; start `reid serve` with --detector"
            )
        with self._decoding:
            image = decode_image(content, "the image")
        with self._detecting:
            (found,) = self._detector.detect([image])
        height, width = image.shape[:2]
        return {
            "width": width,
            "height": height,
            "people": [
                {"box": box, "score": score}
                for box, score in zip(
                    _inside(found.boxes, image), found.scores.tolist(), strict=True
                )
                if min(box[2:]) > 0
            ],
        }

    def confirm(self, query: str, number: int, same: bool | None, user: User) -> None:
        """Keep a verdict. Raises Refusal for an image that is not there, OutputError."""
        self.entry(number)
        with self._writing.lock:
            self._writing.store.confirm(Confirmation(query, number, same, time.time(), user.name))

    def evidence(self, asked: Asked, note: str, query_pictures: bool, user: User) -> bytes:
        """The ZIP file of these images, with their distances from the queries.

        Raises Refusal for a query that is no longer held and an image that is gone.
        """
        queries = self.held.take(user.name, asked.queries)
        entries = {number: self.entry(number) for number in asked.ids}
        verdicts = self._verdicts([one.name for one in queries])
        with self._searching.lock:
            store = self._searching.store
            limit = limit_in(store, self._matcher, self._max_distance)
            distances = {}
            if queries:
                described = self._described(store, queries, ())
                found = store.search(described, len(asked.ids), Where(ids=asked.ids))
                distances = {one.id: one.distance for one in nearest_of(found)}
        images = [
            self._evidence_of(number, entry, distances.get(number), limit, verdicts.get(number))
            for number, entry in entries.items()
        ]
        facts = {
            "made": text_from_seconds(time.time()),
            "made_by": user.name,
            "note": note,
            "gallery": Path(self.name).name,
            "model": dict(self._matcher.identity),
            "limit": limit_to_json(limit),
        }
        pictures = [(one.name, one.picture if query_pictures else None) for one in queries]
        return evidence_zip(Evidence(facts, images, pictures), self._signing_key)

    def _evidence_of(
        self,
        number: int,
        entry: GalleryEntry,
        distance: float | None,
        limit: Limit,
        verdict: Confirmation | None,
    ) -> Picture:
        try:
            with self._decoding:
                picture = picture_of(entry)
        except DataError:  # its file is gone
            picture = None
        facts = to_json(Match(number, math.nan if distance is None else distance, entry), limit)
        known = {"distance": distance, "within": facts["within"] if distance is not None else None}
        said = {
            "confirmed": verdict.same if verdict else None,
            "confirmed_by": (verdict.user or None) if verdict else None,
        }
        return Picture({**facts, **known, "content": entry.content or None, **said}, picture)

    def confirmed(self) -> list[dict[str, Any]]:
        """All verdicts, in order."""
        with self._looking.lock:
            said = self._looking.store.confirmed()
        return [
            {
                "query": one.query,
                "id": str(one.id),
                "same": one.same,
                "time": text_from_seconds(one.time_s),
                "user": one.user,
            }
            for one in said
        ]


def image_query(number: int) -> str:
    """The hash under which verdicts are kept that were given while searching with an image."""
    return content_hash(f"image {number} of the gallery".encode())


def nearest_of(found: Sequence[Sequence[Match]]) -> list[Match]:
    """The matches of several queries as one list: each image once, with its smallest distance."""
    best: dict[int, Match] = {}
    for matches in found:
        for one in matches:
            if one.id not in best or one.distance < best[one.id].distance:
                best[one.id] = one
    return sorted(best.values(), key=lambda one: one.distance)


def where_asked(
    people: Sequence[str], cameras: Sequence[str], since: str | None, until: str | None
) -> Where:
    """The filter of a request. Raises DataError for malformed times."""
    return where_from_values(people, cameras, since or None, until or None)


def box_from_text(text: str) -> Box | None:
    """``left,top,width,height`` in pixels; None for an empty text. Raises DataError."""
    if not text:
        return None
    try:
        left, top, width, height = (int(word) for word in text[:100].split(","))
    except ValueError:
        raise DataError("a box is left,top,width,height in pixels") from None
    if min(width, height) < 1 or max(map(abs, (left, top, width, height))) >= 2**31:
        raise DataError("a box is at least 1x1 pixel")
    return left, top, width, height


def _inside(boxes: Any, image: Image) -> list[list[int]]:
    """Corners (n, 4), clipped at the image's border, as left, top, width, height."""
    height, width = image.shape[:2]
    low = np.clip(np.floor(boxes[:, :2]), 0, (width, height))
    high = np.clip(np.ceil(boxes[:, 2:]), 0, (width, height))
    whole: list[list[int]] = np.concatenate([low, high - low], axis=1).astype(int).tolist()
    return whole
