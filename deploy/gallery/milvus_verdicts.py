"""A gallery's verdicts in a Milvus collection beside it, found by their query.

Collections of earlier versions, ``NAME_confirmed``, are read, and only erased from.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
from typing import Any

from pymilvus import DataType

from .gallery import Confirmation
from .milvus_connection import PATIENCE_S, SEARCH_S, Connection
from .milvus_rows import VECTOR_FIELD, Fields, make_collection, quoted
from .milvus_tables import ROWS_AT_ONCE, Table
from .verdict_file import newest

_FIELDS: Fields = {
    "query": (DataType.VARCHAR, {"max_length": 256}),
    "image": (DataType.INT64, {}),
    "same": (DataType.INT64, {}),
    "time_s": (DataType.DOUBLE, {}),
    "user": (DataType.VARCHAR, {"max_length": 1024}),
}
_SAME = {1: True, 0: False, -1: None}
_NUMBER = {same: number for number, same in _SAME.items()}


class Verdicts:
    """The verdicts of the gallery in ``collection``."""

    def __init__(self, connection: Connection, collection: str, limit_s: float = SEARCH_S) -> None:
        self._table = Table(connection, f"{collection}_verdicts", limit_s)
        self._earlier = Table(connection, f"{collection}_confirmed", limit_s)
        self._earlier_rows: dict[int, Confirmation] | None = None

    def add(self, verdict: Confirmation) -> None:
        """Raises UnavailableError, DataError."""
        self._table.make(self._create)
        row = {
            "id": secrets.randbits(62),
            VECTOR_FIELD: [0.0, 0.0],  # Milvus needs a vector in every collection
            "query": verdict.query,
            "image": verdict.id,
            "same": _NUMBER[verdict.same],
            "time_s": verdict.time_s,
            "user": verdict.user,
        }
        self._table.upsert([row])

    def all(self) -> list[Confirmation]:
        """All of them, by time."""
        found = [*map(_verdict_of, self._table.every([*_FIELDS])), *self._of_earlier().values()]
        return sorted(found, key=lambda one: one.time_s)

    def of_query(self, query: str) -> dict[int, Confirmation]:
        """See ``GalleryStore.verdicts``."""
        rows = self._table.some(f"query == {quoted(query)}", [*_FIELDS])
        earlier = [one for one in self._of_earlier().values() if one.query == query]
        return newest([*earlier, *map(_verdict_of, rows)])

    def erase(self, queries: Collection[str], ids: Collection[int]) -> int:
        """Erase all of these queries and on these images; returns how many."""
        names, numbers = [*map(quoted, queries)], [*map(int, ids)]
        filters = [
            f"{field} in [{', '.join(map(str, values[at : at + ROWS_AT_ONCE]))}]"
            for field, values in (("query", names), ("image", numbers))
            for at in range(0, len(values), ROWS_AT_ONCE)
        ]
        gone = {row["id"] for one in filters for row in self._table.some(one, ["id"])}
        self._table.delete(gone)
        wanted, of_images = frozenset(queries), frozenset(ids)
        earlier = self._of_earlier()
        old = [k for k, one in earlier.items() if one.query in wanted or one.id in of_images]
        self._earlier.delete(old)
        for number in old:
            del earlier[number]
        return len(gone) + len(old)

    def compact(self) -> None:
        """Have Milvus write the files of both again without what was erased."""
        for table in (self._table, self._earlier):
            table.compact()

    def _of_earlier(self) -> dict[int, Confirmation]:
        """Read once: nothing is added to them any more."""
        if self._earlier_rows is None:
            self._earlier_rows = {}
            for row in sorted(self._earlier.every(["said"]), key=lambda row: int(row["id"])):
                query, number, same = json.loads(row["said"])
                verdict = Confirmation(query, number, same, row["id"] / 1e6)
                self._earlier_rows[row["id"]] = verdict
        return self._earlier_rows

    def _create(self, client: Any, name: str) -> None:
        make_collection(client, name, 2, _FIELDS, "", {"index_type": "FLAT"}, PATIENCE_S)


def _verdict_of(row: Any) -> Confirmation:
    same = _SAME[row["same"]]
    return Confirmation(row["query"], row["image"], same, row["time_s"], row["user"])
