"""A gallery in a Milvus collection, named as in ``reid.deploy.gallery.milvus_address``.

A collection holds vectors; a network that compares pairs needs a gallery in a folder. Milvus
commits batches, not whole transactions: an interrupted addition can be repeated safely, because an
image's key is its primary key.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from reid.errors import ConfigError, DataError, ModelFileError
from reid.matching import Matcher, model_differences
from reid.matching.matcher import VECTOR
from reid.types import BoolArray, FloatArray

from .gallery import ANYWHERE, Confirmation, GalleryEntry, Labelled, Match, Summary, Where
from .labels import differs, with_missing_labels
from .milvus_address import Address, address_from
from .milvus_connection import BUILD_S, PATIENCE_S, Connection
from .milvus_index import FLAT, HNSW, kind_of, replace_index, search_params, settings_of, wanted
from .milvus_names import Names
from .milvus_rows import (
    DYNAMIC_TEXTS,
    FIELDS,
    PLACE,
    TRACK,
    VECTOR_FIELD,
    entry_of,
    filter_of,
    ids_of,
    make_collection,
    row_of,
)
from .milvus_tables import ROWS_AT_ONCE, SOON, Table
from .milvus_verdicts import Verdicts
from .no_model import NoModel
from .rows import require_finite

_LABELS = ("person", "camera", "time_us", "source", "box")
_DYNAMIC = (PLACE, TRACK, *DYNAMIC_TEXTS)
_FORMAT = "reid gallery 1"


def open_milvus(
    name: str,
    matcher: Matcher[Any] | None,
    create: bool,
    say: Callable[[str], object] = lambda line: None,
) -> MilvusGallery:
    """See ``open_gallery``. Raises ConfigError for a malformed name, or a pair network."""
    address = address_from(name)
    if matcher is not None and {VECTOR} != _described(matcher).keys():
        raise ConfigError(
            "a Milvus collection holds vectors, but this network compares feature maps; make its "
            "gallery in a folder: --gallery FOLDER"
        )
    return MilvusGallery(address, matcher, create, say)


class MilvusGallery:
    """The ``GalleryStore`` of one collection."""

    def __init__(
        self,
        address: Address,
        matcher: Matcher[Any] | None,
        create: bool,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.name = name = address.name
        connection = Connection(name, address.uri, address.token)
        collection, limit_s = address.collection, address.search_s
        self._collection, self._connection, self._say = collection, connection, say
        self._is_lite = name.startswith("milvus:") and not name.startswith("milvus://")
        self._limit_s = limit_s
        self._images = Table(connection, collection, limit_s)
        self._names = Names(connection, self._images, limit_s)
        self._verdicts = Verdicts(connection, collection, limit_s)
        if not connection.call("has_collection", collection, limit_s=PATIENCE_S):
            if not create or matcher is None:
                raise DataError(
                    f"{name}: no such collection; make it: reid index MODEL IMAGES --gallery"
                )
            self._create(matcher)
        identity = self._read_about()
        self._matcher: Matcher[Any] = matcher if matcher is not None else NoModel(identity)
        self._require_same_model(identity)
        self._tell_of_index()
        connection.run(self._loaded, PATIENCE_S)
        connection.on_connected = lambda client: self._loaded(client, PATIENCE_S)

    @property
    def left_out(self) -> str:
        """Empty: Milvus checks its own files."""
        return ""

    def __len__(self) -> int:
        return self._images.count()

    def count(self, where: Where) -> int:
        """See ``GalleryStore``."""
        return self._images.count(filter_of(where))

    def unknown(self, entries: Sequence[GalleryEntry]) -> BoolArray:
        """See ``GalleryStore``."""
        ids, earlier = ids_of(entries), ids_of(entries, earlier=True)
        known = {row["id"] for row in self._images.with_ids([*ids, *earlier], ["id"])}
        pairs = zip(ids, earlier, strict=True)
        return np.array([known.isdisjoint(pair) for pair in pairs], np.bool_)

    def label(self, entries: Sequence[GalleryEntry]) -> Labelled:
        """See ``GalleryStore``. Rows with new labels are written again, with their features."""
        ids, earlier = ids_of(entries), ids_of(entries, earlier=True)
        given = dict(zip((*ids, *earlier), (*entries, *entries), strict=True))
        labelled = differing = moved = 0
        changed: list[tuple[int, GalleryEntry]] = []
        for row in self._images.with_ids([*given], self._fields):
            before, entry = entry_of(row), given[row["id"]]
            now = with_missing_labels(before, entry)
            differing += differs(now, entry)
            if now != before:
                changed.append((row["id"], now))
                moved += now.source != before.source
                labelled += dataclasses.replace(now, source=before.source) != before
        if changed:
            self._write_again(changed)
        return Labelled(labelled, differing, moved)

    def add(self, descriptions: Any, entries: Sequence[GalleryEntry]) -> int:
        """See ``GalleryStore``; each batch of 1000 images is one transaction."""
        new = self.unknown(entries)
        vectors = _vectors(self._matcher, descriptions)
        require_finite({VECTOR: vectors}, entries)
        checkpoint = str(self._matcher.identity.get("checkpoint", ""))
        numbers = ids_of(entries)
        chosen = {numbers[at]: at for at in np.flatnonzero(new).tolist()}
        rows = [
            row_of(
                number,
                vectors[at],
                dataclasses.replace(entries[at], model=entries[at].model or checkpoint),
                self._has_place,
            )
            for number, at in chosen.items()
        ]
        if rows:
            self._names.add([entries[at] for at in chosen.values()])
            self._images.upsert(rows)
        return len(rows)

    def put(self, descriptions: Any, ids: Sequence[int], entries: Sequence[GalleryEntry]) -> None:
        """Add or replace images under these ids, as they were in another collection."""
        vectors = _vectors(self._matcher, descriptions)
        require_finite({VECTOR: vectors}, entries)
        checkpoint = str(self._matcher.identity.get("checkpoint", ""))
        rows = [
            row_of(number, vector, dataclasses.replace(one, model=checkpoint), self._has_place)
            for number, vector, one in zip(ids, vectors, entries, strict=True)
        ]
        self._names.add(entries)
        self._images.upsert(rows)

    def delete(self, where: Where) -> int:
        """See ``GalleryStore``. It can be repeated where it was stopped.

        Milvus removes the rows from its files later, when it compacts them, as it is asked to.
        """
        count = 0
        wheres = [where]
        if len(where.ids) > ROWS_AT_ONCE:
            parts = range(0, len(where.ids), ROWS_AT_ONCE)
            wheres = [
                dataclasses.replace(where, ids=where.ids[at : at + ROWS_AT_ONCE]) for at in parts
            ]
        for one in wheres:
            rows = [*self._images.every(["person", "camera"], filter_of(one))]
            ids = [int(row["id"]) for row in rows]
            if ids:
                self._verdicts.erase((), ids)
                self._images.delete(ids)
                self._verdicts.erase((), ids)  # those that were given meanwhile
                self._names.removed({(k, row[k]) for row in rows for k in ("person", "camera")})
            count += len(ids)
        return count

    def search(self, descriptions: Any, k: int = 10, where: Where = ANYWHERE) -> list[list[Match]]:
        """See ``GalleryStore``."""
        if k < 1:
            raise ConfigError(f"k is at least 1, found {k}")
        queries = _vectors(self._matcher, descriptions)
        if not len(queries):
            return []
        found = self._connection.call(
            "search",
            self._collection,
            data=list(queries),
            limit=k,
            filter=filter_of(where),
            output_fields=self._labels,
            search_params=search_params(k),
            limit_s=self._limit_s,
        )
        return [
            [
                Match(hit["id"], max(0.0, hit["distance"]) ** 0.5, entry_of(hit["entity"]))
                for hit in hits
            ]
            for hits in found
        ]

    def features(self, ids: Sequence[int]) -> Any:
        """See ``GalleryStore``."""
        found = {row["id"]: row for row in self._images.with_ids([*ids], [VECTOR_FIELD], SOON)}
        gone = [number for number in ids if number not in found]
        if gone:
            raise DataError(f"{self.name} has no image {gone[0]} any more; it may have been erased")
        vectors = [np.asarray(found[number][VECTOR_FIELD], np.float32) for number in ids]
        return self._matcher.from_pieces([{VECTOR: np.stack(vectors)}] if vectors else [])

    def entry(self, number: int) -> GalleryEntry | None:
        """See ``GalleryStore``."""
        rows = self._images.some(f"id == {int(number)}", [*self._labels, "picture"], SOON)
        return entry_of(rows[0]) if rows else None

    def listed(
        self, where: Where = ANYWHERE, *, pictures: bool = False
    ) -> Iterator[tuple[int, GalleryEntry]]:
        """See ``GalleryStore``."""
        fields = self._fields if pictures else self._labels
        for row in self._images.every(fields, filter_of(where)):
            yield int(row["id"]), entry_of(row)

    def summary(self) -> Summary:
        """See ``GalleryStore``; the names and times are kept beside the images."""
        people, cameras, first, last = self._names.read()
        spans = (None if time_us is None else time_us / 1e6 for time_us in (first, last))
        return Summary(len(self), people, cameras, *spans)

    def confirm(self, confirmation: Confirmation) -> None:
        """See ``GalleryStore``; verdicts are in another collection."""
        self._verdicts.add(confirmation)

    def confirmed(self) -> list[Confirmation]:
        """See ``GalleryStore``."""
        return self._verdicts.all()

    def verdicts(self, query: str) -> dict[int, Confirmation]:
        """See ``GalleryStore``."""
        return self._verdicts.of_query(query)

    def forget_verdicts(self, queries: Collection[str], ids: Collection[int] = ()) -> int:
        """See ``GalleryStore``."""
        return self._verdicts.erase(queries, ids)

    def prepare(self) -> None:
        """Build another index if the gallery's size asks for one, or it has one of Milvus's choice.

        Meanwhile it cannot be searched.
        """
        kind = self._kind()
        best = wanted(kind, len(self), is_lite=self._is_lite)
        if kind != best:
            self._say(f"{self.name}: building a {best} index in place of {kind or 'none'}")
            self._connection.run(
                lambda client, left_s: replace_index(
                    client, self._collection, best, left_s, self._say
                ),
                BUILD_S,
            )
        elif kind == HNSW:
            self._connection.call("flush", self._collection, limit_s=BUILD_S)

    def compact(self) -> None:
        """Ask Milvus to remove what was erased from its files."""
        if not self._is_lite:  # which cannot be asked
            self._images.compact()
            self._verdicts.compact()

    def close(self) -> None:
        """See ``GalleryStore``."""
        self._connection.close()

    @property
    def model(self) -> dict[str, str]:
        """The identity of the model that the gallery was made with."""
        return dict(self._read_about())

    def _create(self, matcher: Matcher[Any]) -> None:
        dim = _described(matcher)[VECTOR].shape[1]
        about = json.dumps({"format": _FORMAT, "model": dict(matcher.identity)})
        self._connection.run(
            lambda client, left_s: make_collection(
                client, self._collection, dim, FIELDS, about, settings_of(FLAT), left_s
            ),
            PATIENCE_S,
        )

    def _loaded(self, client: Any, left_s: float) -> None:
        """Have Milvus load the collection; first make the index that a stopped process owes it."""
        if not kind_of(client, self._collection, left_s):
            replace_index(client, self._collection, FLAT, left_s, self._say)
        client.load_collection(self._collection, timeout=left_s)

    def _kind(self) -> str:
        found = self._connection.run(
            lambda client, left_s: kind_of(client, self._collection, left_s), PATIENCE_S
        )
        return str(found)

    def _tell_of_index(self) -> None:
        kind = self._kind()
        if kind == "AUTOINDEX" and not self._is_lite:
            self._say(
                f"{self.name} has an index of Milvus's choice, which misses people where a filter "
                "leaves few images; reid index replaces it"
            )

    def _read_about(self) -> dict[str, str]:
        """The model of the collection. Raises ModelFileError if it is another program's."""
        collection = self._connection.call(
            "describe_collection", self._collection, limit_s=PATIENCE_S
        )
        about = collection.get("description", "")
        self._has_place = bool(collection.get("enable_dynamic_field"))
        self._labels = [*_LABELS, *(_DYNAMIC if self._has_place else ())]
        self._fields = [*self._labels, "picture"]
        try:
            found = json.loads(about)
            model = found["model"] if found["format"] == _FORMAT else None
        except (KeyError, TypeError, ValueError):
            model = None
        if not isinstance(model, dict):
            raise ModelFileError(
                f"{self.name} is not a gallery of this toolkit; name another collection"
            )
        return model

    def _require_same_model(self, found: dict[str, str]) -> None:
        differences = model_differences(found, self._matcher.identity)
        if differences:
            raise ModelFileError(
                f"{self.name} was made with another model: {differences}; use it with that model, "
                "or index the images into another collection"
            )

    def _write_again(self, changed: Sequence[tuple[int, GalleryEntry]]) -> None:
        """Replace rows by these entries, with the features that they have."""
        self._names.add([entry for _, entry in changed])
        for at in range(0, len(changed), ROWS_AT_ONCE):
            part = dict(changed[at : at + ROWS_AT_ONCE])
            vectors = self._images.with_ids([*part], [VECTOR_FIELD])
            self._images.upsert(
                [
                    row_of(row["id"], row[VECTOR_FIELD], part[row["id"]], self._has_place)
                    for row in vectors
                ]
            )


def _described(matcher: Matcher[Any]) -> dict[str, FloatArray]:
    """The arrays of the features of zero images."""
    pieces = matcher.pieces(matcher.describe([]))
    return {name: np.asarray(array) for name, array in pieces[0].items()} if pieces else {}


def _vectors(matcher: Matcher[Any], descriptions: Any) -> FloatArray:
    return np.concatenate([piece[VECTOR] for piece in matcher.pieces(descriptions)])
