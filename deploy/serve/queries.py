"""Queries held in memory for a while, so that a search with several needs no second upload."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from .refusals import Refusal

HELD_S = 30 * 60.0
"""How long a query is held after its last use (a choice)."""

MAX_HELD = 1000
"""Most queries of one user (a choice); the oldest goes first."""

MAX_HELD_IN_ALL = 5000

MAX_HELD_BYTES = 1 << 30
"""Most memory of all: a network that compares pairs has features of many megabytes."""


@dataclass(frozen=True, slots=True)
class HeldQuery:
    """The features of one query image, its size in pixels, and a small JPEG of it."""

    name: str
    described: Any
    width: int
    height: int
    picture: bytes
    num_bytes: int


class HeldQueries:
    """Queries by user and hash; safe in all threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, str], tuple[float, HeldQuery]] = OrderedDict()
        self._num_bytes = 0

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._held)

    def hold(self, user: str, query: HeldQuery) -> None:
        """Hold a query of a user, or hold it for longer."""
        with self._lock:
            self._remove((user, query.name))
            self._held[user, query.name] = (self._clock(), query)
            self._num_bytes += query.num_bytes
            self._expire()
            own = [key for key in self._held if key[0] == user]
            for key in own[: max(0, len(own) - MAX_HELD)]:
                self._remove(key)
            while len(self._held) > 1 and (
                len(self._held) > MAX_HELD_IN_ALL or self._num_bytes > MAX_HELD_BYTES
            ):
                self._remove(next(iter(self._held)))

    def take(self, user: str, names: Sequence[str]) -> list[HeldQuery]:
        """The queries of these hashes. Raises Refusal that lists those no longer held."""
        with self._lock:
            self._expire()
            gone = tuple(name for name in names if (user, name) not in self._held)
            if gone:
                raise Refusal(
                    HTTPStatus.GONE, "a query is no longer held; send its image again", gone=gone
                )
            found = []
            for name in names:
                _, query = self._held[user, name]
                self._held[user, name] = (self._clock(), query)
                self._held.move_to_end((user, name))
                found.append(query)
            return found

    def expire(self) -> None:
        """Let go of queries that were not used for ``HELD_S``."""
        with self._lock:
            self._expire()

    def _expire(self) -> None:
        before = self._clock() - HELD_S
        while self._held:
            key, (used, _) = next(iter(self._held.items()))
            if used > before:
                return
            self._remove(key)

    def _remove(self, key: tuple[str, str]) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._num_bytes -= held[1].num_bytes
