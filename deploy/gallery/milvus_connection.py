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
from typing import Any, NamedTuple

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

_REFUSED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class _NotInTimeError(Exception):
    """There is no connection yet."""


class _Attempt:
    """A function that runs in a thread of its own, which does not keep the process alive."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self._work, self._done = work, threading.Event()
        threading.Thread(target=self._run, name="milvus", daemon=True).start()

    def wait(self, limit_s: float) -> bool:
        """Whether it ended, with ``result`` or ``error``."""
        return self._done.wait(limit_s)

    def __enter__(self) -> None:
        """While it runs."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> bool:
        """Keep the error for the caller's thread, which raises it."""
        self.error = error
        self._done.set()
        return True

    def _run(self) -> None:
        with self:
            self.result = self._work()


class _Connecting(NamedTuple):
    """An attempt to connect, and until when it is waited for."""

    attempt: _Attempt
    until_s: float


class Connection:
    """One server, and the token for it; ``name`` is for messages."""

    def __init__(self, name: str, uri: str, token: str) -> None:
        self._name, self._uri, self._token = name, uri, token
        self._client: Any = None
        self._lock = threading.Lock()
        self._connecting: _Connecting | None = None
        self._silent_until_s = 0.0
        self._last_words = ""
        self.on_connected: Callable[[Any], None] = lambda client: None
        """Called with each new client."""
        # It would log the URL with every error; the exception says what matters.
        for logger in ("pymilvus", "pymilvus.milvus_client"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)

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
        end_s = time.monotonic() + limit_s
        try:
            client = self._connected(limit_s)
            left_s = max(_SHORTEST_S, end_s - time.monotonic())
            attempt = _Attempt(lambda: work(client, left_s))
            answered = attempt.wait(left_s)
        except _NotInTimeError:
            raise self._silence(f"Milvus did not answer within {limit_s:g} s") from None
        if not answered:
            self.close()
            raise self._silence(f"Milvus did not answer within {limit_s:g} s")
        if attempt.error is not None:
            raise self._error_from(attempt.error) from None
        return attempt.result

    def close(self) -> None:
        """End the connection and what still runs over it; the next call makes a new one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self, limit_s: float) -> Any:
        """The client. Connecting goes on beyond ``limit_s``, for a later call to have it."""
        with self._lock:
            if self._client is not None:
                return self._client
            now_s = time.monotonic()
            if self._connecting is None or now_s > self._connecting.until_s:
                self._connecting = _Connecting(_Attempt(self._connect), now_s + PATIENCE_S)
            connecting = self._connecting
        if not connecting.attempt.wait(limit_s):
            raise _NotInTimeError
        with self._lock:
            if self._connecting is connecting:
                self._connecting = None
                if connecting.attempt.error is None:
                    self._client = connecting.attempt.result
        if connecting.attempt.error is not None:
            raise self._error_from(connecting.attempt.error)
        return connecting.attempt.result

    def _connect(self) -> Any:
        client = MilvusClient(
            self._uri, token=self._token, timeout=PATIENCE_S, alias=f"reid-{uuid.uuid4().hex}"
        )
        self.on_connected(client)
        return client

    def _error_from(self, error: BaseException) -> BaseException:
        if isinstance(error, grpc.RpcError):
            code = getattr(error, "code", lambda: None)()
            if code in _REFUSED:
                return DataError(f"{self._name}: Milvus refuses: {self._words(_details(error))}")
            self.close()
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                return self._silence("Milvus did not answer in time")
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
