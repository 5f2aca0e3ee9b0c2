"""A collection of rows by their ids, as a table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from .milvus_connection import PATIENCE_S, Connection

ROWS_AT_ONCE = 1000
"""Rows per message; Milvus accepts 64 MB."""

ALL = "id >= 0 or id < 0"
"""A filter that every row passes; Milvus deletes nothing without one."""


SOON = "Eventually"
"""For reading what a server has taken in by now. It saves the 0.2 s that it takes to wait for all
writes, which is what a collection's own setting, Strong, means."""


class Table:
    """The rows of a collection; empty if there is none. ``limit_s`` is of one query."""

    def __init__(self, connection: Connection, name: str, limit_s: float) -> None:
        self.name = name
        self._connection, self._limit_s = connection, limit_s
        self._is_there = False

    def make(self, create: Callable[[Any, str], None]) -> None:
        """Create the collection by ``create(client, name)``, if there is none."""
        if not self.is_there():
            self._connection.run(lambda client, left_s: create(client, self.name), PATIENCE_S)
            self.is_there()

    def is_there(self) -> bool:
        """Whether there is a collection; it is loaded."""
        if not self._is_there:
            found = self._connection.call("has_collection", self.name, limit_s=self._limit_s)
            if found:
                self._connection.call("load_collection", self.name, limit_s=PATIENCE_S)
            self._is_there = bool(found)
        return self._is_there

    def some(self, chosen: str, fields: Sequence[str], reading: str = "") -> list[dict[str, Any]]:
        """The rows that pass a filter, with their ids; ``reading`` may be SOON."""
        if not self.is_there():
            return []
        return [dict(row) for row in self._query(chosen, ["id", *fields], reading)]

    def count(self, chosen: str = "", reading: str = "") -> int:
        """How many rows pass a filter; ``reading`` may be SOON."""
        if not self.is_there():
            return 0
        return int(self._query(chosen, ["count(*)"], reading)[0]["count(*)"])

    def _query(self, chosen: str, fields: Sequence[str], reading: str) -> Any:
        return self._connection.call(
            "query",
            self.name,
            filter=chosen,
            output_fields=[*dict.fromkeys(fields)],
            limit_s=self._limit_s,
            **({"consistency_level": reading} if reading else {}),
        )

    def with_ids(
        self, ids: Sequence[int], fields: Sequence[str], reading: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Those of these rows that are there."""
        for at in range(0, len(ids), ROWS_AT_ONCE):
            yield from self.some(f"id in {[*ids[at : at + ROWS_AT_ONCE]]}", fields, reading)

    def every(self, fields: Sequence[str], chosen: str = "") -> Iterator[dict[str, Any]]:
        """All rows, or those that pass a filter, read in batches."""
        if not self.is_there():
            return
        iterator = self._connection.run(
            lambda client, left_s: client.query_iterator(
                self.name,
                batch_size=ROWS_AT_ONCE,
                filter=chosen or ALL,
                output_fields=[*dict.fromkeys(("id", *fields))],
                timeout=left_s,
            ),
            PATIENCE_S,
        )
        while rows := self._connection.run(lambda client, left_s: iterator.next(), PATIENCE_S):
            yield from (dict(row) for row in rows)
        iterator.close()

    def upsert(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add or replace rows, in batches of ROWS_AT_ONCE."""
        for at in range(0, len(rows), ROWS_AT_ONCE):
            batch = [*rows[at : at + ROWS_AT_ONCE]]
            self._connection.call("upsert", self.name, batch, limit_s=PATIENCE_S)

    def delete(self, ids: Collection[int]) -> None:
        """Delete rows, those that are there."""
        numbers = [*ids]
        for at in range(0, len(numbers), ROWS_AT_ONCE):
            batch = numbers[at : at + ROWS_AT_ONCE]
            self._connection.call("delete", self.name, ids=batch, limit_s=PATIENCE_S)

    def compact(self) -> None:
        """Have the server write its files again without deleted rows, some time later."""
        if self.is_there():
            self._connection.call("flush", self.name, limit_s=PATIENCE_S)
            self._connection.call("compact", self.name, limit_s=PATIENCE_S)
