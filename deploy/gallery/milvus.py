"""A gallery in a Milvus collection: ``milvus://[user:password@]host:port/collection[?tls]``.

Without a host the collection is in a file of Milvus Lite: ``milvus:FOLDER/file.db/collection``.
A collection holds vectors; a network that compares pairs needs a gallery in a folder. Milvus
commits batches, not whole transactions: an interrupted addition can be repeated safely, because an
image's key is its primary key.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from pymilvus import MilvusClient, MilvusException

from reid.errors import ConfigError, DataError, ModelFileError
from reid.matching import Matcher, model_differences
from reid.matching.matcher import VECTOR
from reid.types import BoolArray, FloatArray

from .gallery import ANYWHERE, Confirmation, GalleryEntry, Labelled, Match, Summary, Where
from .milvus_rows import (
    CONFIRMED_FIELDS,
    FIELDS,
    PLACE,
    UNKNOWN_US,
    confirmation_of,
    entry_of,
    filter_of,
    ids_of,
    make_collection,
    row_of,
)
from .rows import microseconds, require_finite

DEFAULT_PORT = 19530
PATIENCE_S = 30.0
ROWS_AT_ONCE = 1000
"""Rows per message; Milvus accepts 64 MB."""

_LABELS = ("person", "camera", "time_us", "source", "box")
_COLLECTION = re.compile(r"[A-Za-z_]\w{0,200}", re.ASCII)
_FORMAT = "reid gallery 1"


def open_milvus(name: str, matcher: Matcher[Any], create: bool) -> MilvusGallery:
    """See ``open_gallery``. Raises ConfigError for a malformed name, or a pair network."""
    try:
        parts = urlsplit(name)
        host, port = parts.hostname, parts.port
        place, _, collection = parts.path.rpartition("/")
        if not _COLLECTION.fullmatch(collection) or not (host or place):
            raise ValueError("no collection")
        if parts.query not in ("", "tls") or parts.fragment:
            raise ValueError("unknown option; a misspelt tls would send the password unencrypted")
    except ValueError:
        raise ConfigError(
            "a Milvus gallery is named milvus://host:port/collection, with ?tls at the end for an "
            "encrypted connection, or milvus:FILE.db/collection for Milvus Lite; found "
            f"{_without_secrets(name)}"
        ) from None
    if {VECTOR} != _described(matcher).keys():
        raise ConfigError(
            "a Milvus collection holds vectors, but this network compares feature maps; make its "
            "gallery in a folder: --gallery FOLDER"
        )
    user, password = (unquote(word or "") for word in (parts.username, parts.password))
    token = f"{user}:{password}" if user or password else ""
    scheme = "https" if parts.query == "tls" else "http"
    uri = f"{scheme}://{host}:{port or DEFAULT_PORT}" if host else place
    return MilvusGallery(_without_secrets(name), uri, token, collection, matcher, create)


class MilvusGallery:
    """The ``GalleryStore`` of one collection."""

    def __init__(
        self,
        name: str,
        uri: str,
        token: str,
        collection: str,
        matcher: Matcher[Any],
        create: bool,
    ) -> None:
        self.name = name
        self._collection, self._confirmed = collection, f"{collection}_confirmed"
        self._matcher = matcher
        self._secrets = [word for word in (token, *token.split(":")) if word]
        # It would log the URL with every error; the exception says what matters.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        with self._errors():
            self._client = MilvusClient(uri, token=token, timeout=PATIENCE_S)
            if not self._client.has_collection(collection):
                if not create:
                    raise DataError(
                        f"{name}: no such collection; make it: reid index MODEL IMAGES --gallery"
                    )
                self._create()
            self._require_same_model()
            self._client.load_collection(collection)

    @property
    def left_out(self) -> str:
        """Empty: Milvus checks its own files."""
        return ""

    def __len__(self) -> int:
        return self._count("")

    def count(self, where: Where) -> int:
        """See ``GalleryStore``."""
        return self._count(filter_of(where))

    def unknown(self, entries: Sequence[GalleryEntry]) -> BoolArray:
        """See ``GalleryStore``."""
        ids, earlier = ids_of(entries), ids_of(entries, earlier=True)
        known = {row["id"] for row in self._rows([*ids, *earlier], ["id"])}
        pairs = zip(ids, earlier, strict=True)
        return np.array([known.isdisjoint(pair) for pair in pairs], np.bool_)

    def label(self, entries: Sequence[GalleryEntry]) -> Labelled:
        """Only counts images with other labels, or without: a row of Milvus is not changed."""
        ids, earlier = ids_of(entries), ids_of(entries, earlier=True)
        given = dict(zip((*ids, *earlier), (*entries, *entries), strict=True))
        rows = self._rows([*given], ["id", "person", "camera"])
        pairs = [((row["person"], row["camera"]), given[row["id"]]) for row in rows]
        given_another = (now != (one.person or now[0], one.camera or now[1]) for now, one in pairs)
        return Labelled(0, sum(given_another), 0)

    def add(self, descriptions: Any, entries: Sequence[GalleryEntry]) -> int:
        """See ``GalleryStore``; each batch of 1000 images is one transaction."""
        new = self.unknown(entries)
        vectors = _vectors(self._matcher, descriptions)
        require_finite({VECTOR: vectors}, entries)
        rows = {
            number: row_of(number, vector, entry, self._has_place)
            for number, vector, entry, is_new in zip(
                ids_of(entries), vectors, entries, new, strict=True
            )
            if is_new
        }
        batches = list(rows.values())
        with self._errors():
            for at in range(0, len(batches), ROWS_AT_ONCE):
                self._client.upsert(self._collection, batches[at : at + ROWS_AT_ONCE])
        return len(rows)

    def delete(self, where: Where) -> int:
        """See ``GalleryStore``."""
        chosen = filter_of(where) or "id >= 0 or id < 0"
        count = self._count(chosen)
        with self._errors():
            self._client.delete(self._collection, filter=chosen)
        return count

    def search(self, descriptions: Any, k: int = 10, where: Where = ANYWHERE) -> list[list[Match]]:
        """See ``GalleryStore``."""
        if k < 1:
            raise ConfigError(f"k is at least 1, found {k}")
        queries = _vectors(self._matcher, descriptions)
        if not len(queries):
            return []
        with self._errors():
            found = self._client.search(
                self._collection,
                data=list(queries),
                limit=k,
                filter=filter_of(where),
                output_fields=self._labels,
            )
        return [
            [
                Match(hit["id"], max(0.0, hit["distance"]) ** 0.5, entry_of(hit["entity"]))
                for hit in hits
            ]
            for hits in found
        ]

    def entry(self, number: int) -> GalleryEntry | None:
        """See ``GalleryStore``."""
        rows = self._query(f"id == {int(number)}", [*self._labels, "picture"])
        return entry_of(rows[0]) if rows else None

    def summary(self) -> Summary:
        """See ``GalleryStore``; reads all labels in batches."""
        rows = list(self._every(self._collection, ["person", "camera", "time_us"]))
        times = [row["time_us"] / 1e6 for row in rows if row["time_us"] != UNKNOWN_US]
        return Summary(
            len(rows),
            tuple(sorted({row["person"] for row in rows} - {""})),
            tuple(sorted({row["camera"] for row in rows} - {""})),
            min(times, default=None),
            max(times, default=None),
        )

    def confirm(self, confirmation: Confirmation) -> None:
        """See ``GalleryStore``; confirmations are in another collection."""
        row = {
            "id": microseconds(confirmation.time_s),
            "vector": [0.0, 0.0],  # Milvus needs a vector in every collection
            "said": json.dumps([confirmation.query, confirmation.id, confirmation.same]),
        }
        with self._errors():
            if not self._client.has_collection(self._confirmed):
                make_collection(self._client, self._confirmed, 2, CONFIRMED_FIELDS, "")
            self._client.upsert(self._confirmed, [row])

    def confirmed(self) -> list[Confirmation]:
        """See ``GalleryStore``."""
        with self._errors():
            if not self._client.has_collection(self._confirmed):
                return []
            self._client.load_collection(self._confirmed)
        rows = sorted((row["id"], row["said"]) for row in self._every(self._confirmed, ["said"]))
        return [confirmation_of(said, time_us / 1e6) for time_us, said in rows]

    def prepare(self) -> None:
        """Nothing to do: Milvus keeps its own index."""

    def close(self) -> None:
        """See ``GalleryStore``."""
        self._client.close()

    def _create(self) -> None:
        dim = _described(self._matcher)[VECTOR].shape[1]
        about = json.dumps({"format": _FORMAT, "model": dict(self._matcher.identity)})
        make_collection(self._client, self._collection, dim, FIELDS, about)

    def _require_same_model(self) -> None:
        collection = self._client.describe_collection(self._collection)
        about = collection.get("description", "")
        self._has_place = bool(collection.get("enable_dynamic_field"))
        self._labels = [*_LABELS, *([PLACE] if self._has_place else [])]
        try:
            found = json.loads(about)
            model = found["model"] if found["format"] == _FORMAT else None
        except (KeyError, TypeError, ValueError):
            model = None
        if model is None:
            raise ModelFileError(
                f"{self.name} is not a gallery of this toolkit; name another collection"
            )
        differences = model_differences(model, self._matcher.identity)
        if differences:
            raise ModelFileError(
                f"{self.name} was made with another model: {differences}; use it with that model, "
                "or index the images into another collection"
            )

    def _rows(self, ids: Sequence[int], fields: list[str]) -> Iterator[dict[str, Any]]:
        for at in range(0, len(ids), ROWS_AT_ONCE):
            yield from self._query(f"id in {[*ids[at : at + ROWS_AT_ONCE]]}", fields)

    def _count(self, chosen: str) -> int:
        return int(self._query(chosen, ["count(*)"])[0]["count(*)"])

    def _query(self, chosen: str, fields: list[str]) -> list[dict[str, Any]]:
        with self._errors():
            rows = self._client.query(self._collection, filter=chosen, output_fields=fields)
        return [dict(row) for row in rows]

    def _every(self, collection: str, fields: list[str]) -> Iterator[dict[str, Any]]:
        with self._errors():
            iterator = self._client.query_iterator(
                collection, batch_size=ROWS_AT_ONCE, output_fields=["id", *fields]
            )
            while rows := iterator.next():
                yield from rows
            iterator.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Milvus's errors as DataError in one line, without secrets."""
        try:
            yield
        except MilvusException as error:
            words = " ".join(str(error.message or error).split())
            for secret in self._secrets:
                words = words.replace(secret, "***")
            raise DataError(f"{self.name}: Milvus reports: {words[:300]}") from None


def _described(matcher: Matcher[Any]) -> dict[str, FloatArray]:
    """The arrays of the features of zero images."""
    pieces = matcher.pieces(matcher.describe([]))
    return {name: np.asarray(array) for name, array in pieces[0].items()} if pieces else {}


def _vectors(matcher: Matcher[Any], descriptions: Any) -> FloatArray:
    return np.concatenate([piece[VECTOR] for piece in matcher.pieces(descriptions)])


def _without_secrets(name: str) -> str:
    return re.sub(r"//.*@", "//", name)
