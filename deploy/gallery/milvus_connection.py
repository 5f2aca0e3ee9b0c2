"""Calls to a Milvus server, each with an end: what it costs that a server is gone.

pymilvus retries a call up to 75 times, with pauses of up to 3 s, and takes its ``timeout`` for a
limit only where it is a whole number; calls inside its own have no limit at all. So a call runs in
a thread of its own here. If it is not done in time, the connection is closed, which ends the call,
and the next call makes a new one: after an outage nothing has to be started again.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import grpc
from pymilvus import MilvusClient, MilvusException

from reid.errors import DataError, UnavailableError

SEARCH_S = 2.0
"""The longest that a search, or any other call that a person waits for, may take (a choice)."""

PATIENCE_S = 30.0
"""The same for connecting, adding and erasing, all repetitions included (a choice)."""

BUILD_S = 3600.0
"""The same for building an index (a choice)."""

PAUSE_S = 3.0
"""For so long after a call without an answer every call fails at once (a choice).

So the frames of a camera do not wait, each for the whole time limit.
"""

_SHORTEST_S = 0.05
_AWAY = frozenset({2, 4, 8, *range(101, 107), 200, 201, *range(500, 510), *range(901, 906)})
"""Milvus's codes for what passes: not ready, too many requests, not loaded yet, a node is gone."""
_AWAY_WORDS = (
    "not loaded",
    "not ready",
    "not healthy",
    "unavailable",
    "no available",
    "not found on",
)


class Connection:
    """One server, and the token for it; ``name`` is for messages."""

    def __init__(self, name: str, uri: str, token: str) -> None:
        self._name, self._uri, self._token = name, uri, token
        self._client: Any = None
        self._alias = ""
        self._lock = threading.Lock()
        self._silent_until_s = 0.0
        self._last_words = ""
        self.on_connected: Callable[[Any], None] = lambda client: None
        """Called with each new client."""
        # It would log the URL with every error; the exception says what matters.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

    def call(self, method: str, *arguments: Any, limit_s: float, **options: Any) -> Any:
        """``MilvusClient.method``. Raises UnavailableError after ``limit_s``, DataError."""

        def work(client: Any, left_s: float) -> Any:
            return getattr(client, method)(*arguments, timeout=left_s, **options)

        return self.run(work, limit_s)

    def run(self, work: Callable[[Any, float], Any], limit_s: float) -> Any:
        """``work(client, seconds left)``, ended after ``limit_s``.

        Raises UnavailableError if the server does not answer by then, DataError for what it
        refuses.
        """
        if time.monotonic() < self._silent_until_s:
            raise UnavailableError(f"{self._name}: {self._last_words}")
        done: list[Any] = []
        failed: list[BaseException] = []

        def attempt() -> None:
            end_s = time.monotonic() + limit_s
            try:
                client = self._connected(limit_s)
                done.append(work(client, max(_SHORTEST_S, end_s - time.monotonic())))
            except BaseException as error:  # raised again by the caller's thread
                failed.append(error)

        thread = threading.Thread(target=attempt, name="milvus", daemon=True)
        thread.start()
        thread.join(limit_s)
        if done:
            return done[0]
        if not failed:
            self.close()
            raise self._silence(f"Milvus did not answer within {limit_s:g} s")
        raise self._error_from(failed[0]) from None

    def close(self) -> None:
        """End the connection and what still runs over it; the next call makes a new one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self, limit_s: float) -> Any:
        with self._lock:
            client = self._client
        if client is not None:
            return client
        client = MilvusClient(
            self._uri, token=self._token, timeout=limit_s, alias=f"reid-{uuid.uuid4().hex}"
        )
        self.on_connected(client)
        with self._lock:
            self._client = client
        return client

    def _error_from(self, error: BaseException) -> BaseException:
        if isinstance(error, grpc.RpcError):
            self.close()
            return self._silence(f"Milvus does not answer: {self._words(_details(error))}")
        if isinstance(error, grpc.FutureTimeoutError):
            self.close()
            return self._silence("Milvus does not answer")
        if not isinstance(error, MilvusException):
            return error
        words = self._words(str(error.message or error))
        if _passes(error):
            self.close()
            return self._silence(f"Milvus reports: {words}")
        return DataError(f"{self._name}: Milvus reports: {words}")

    def _silence(self, words: str) -> UnavailableError:
        self._silent_until_s = time.monotonic() + PAUSE_S
        self._last_words = words
        return UnavailableError(f"{self._name}: {words}")

    def _words(self, text: str) -> str:
        """In one line, without secrets."""
        words = " ".join(text.split())
        for secret in (self._token, *self._token.split(":")):
            if secret:
                words = words.replace(secret, "***")
        return words[:300]


def _details(error: grpc.RpcError) -> str:
    details = getattr(error, "details", None)
    return str(details() if callable(details) else error)


def _passes(error: MilvusException) -> bool:
    """Whether a later call may succeed."""
    code = error.code() if callable(error.code) else error.code  # pymilvus has both
    if isinstance(code, grpc.StatusCode):
        return code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    text = str(error.message).lower()
    return code in _AWAY or "fail connecting" in text or any(w in text for w in _AWAY_WORDS)
