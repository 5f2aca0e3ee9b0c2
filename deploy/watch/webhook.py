"""Track events for a web server: one POST of JSON for each, in order, until it takes them."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import secrets
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from reid import __version__
from reid.closing import Closeable
from reid.errors import ConfigError
from reid.progress import Say

from ..cameras.camera import News

QUEUE = 10_000
"""Events that wait for the server, at most; beyond them the oldest are lost (a choice)."""

KEEP_S = 3600.0
"""How long an event waits for a server that fails (a choice)."""

TIMEOUT_S = 10.0
"""Time limit of one request (a choice)."""

FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 60.0
"""Delay before another attempt, doubled from the first to the longest."""

CLOSING_S = 5.0
"""How long the end waits for what is left."""

_TRY_AGAIN = {408, 425, 429}
_LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Where events are posted to.

    With a ``secret`` a request has ``X-Reid-Signature-256: sha256=HEX``, the HMAC of its body. An
    https server's certificate must be the system's or of the authorities in ``ca``. The URL may
    hold a token: messages show its scheme and host only.
    """

    url: str = field(repr=False)
    secret: str = field(default="", repr=False)
    ca: Path | None = None
    queue: int = QUEUE
    keep_s: float = KEEP_S

    @property
    def shown(self) -> str:
        """The URL's scheme, host and port."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or '...'}{port}"

    def check(self) -> None:
        """Raises ConfigError for a malformed URL or certificates that cannot be used."""
        try:
            parts = urlsplit(self.url)
            right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            right = False
        if not right or any(one.isspace() or not one.isprintable() for one in self.url):
            raise ConfigError("webhook: malformed URL; expected https://host/path")
        if parts.username is not None:
            raise ConfigError("webhook: a user in the URL is not used; sign with a secret instead")
        self.context()

    def context(self) -> ssl.SSLContext:
        """What checks the server's certificate. Raises ConfigError."""
        try:
            return ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"webhook: {self.ca}: expected certificates (PEM): {reason}"
            ) from None


class _Waiting(NamedTuple):
    """An event that waits, since a monotonic time; ``key`` lets the server know it again."""

    since_s: float
    key: str
    body: bytes


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without its event."""

    def redirect_request(self, *arguments: Any, **others: Any) -> None:
        return None


class WebhookSink(Closeable):
    """Posts track events from a thread, which no camera waits for. A context manager.

    An attempt that fails (no connection, 5xx, 408, 425, 429) is repeated, with longer and longer
    delays or what ``Retry-After`` says. Any other answer than 2xx loses the event, and so do a full
    queue and ``keep_s``; lost events are counted and said. Raises ConfigError.
    """

    def __init__(
        self, settings: WebhookSettings, say: Say, clock: Callable[[], float] = time.monotonic
    ) -> None:
        settings.check()
        self.lost = 0
        """Events that the server did not take."""
        self._settings, self._say, self._clock = settings, say, clock
        https = urllib.request.HTTPSHandler(context=settings.context())
        self._opener = urllib.request.build_opener(_NoRedirect, https)
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._deadline_s = float("inf")
        self._failed = ""
        parts = urlsplit(settings.url)
        if parts.scheme == "http" and parts.hostname not in _LOCAL:
            say(f"reid: webhook {settings.shown}: events are sent without encryption; use https")
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Events that the server has not taken."""
        return len(self._waiting)

    def tracks(self, events: Sequence[dict[str, Any]]) -> None:
        """Queue the events of one round."""
        for event in events:
            self._add(event)

    def news(self, news: News) -> None:
        """Queue a camera's change."""
        self._add({"event": "source", **news._asdict(), "time": round(time.time(), 3)})

    def close(self) -> None:
        """Wait a little for what is left; the rest is lost."""
        with self._changed:
            self._ending = True
            self._deadline_s = self._clock() + CLOSING_S
            self._changed.notify_all()
        self._thread.join(CLOSING_S + TIMEOUT_S)
        left = len(self._waiting)
        if left:
            self.lost += left
            self._waiting.clear()
            self._say(f"reid: webhook {self._settings.shown}: {left} events were not delivered")

    def _add(self, event: dict[str, Any]) -> None:
        body = json.dumps(event, allow_nan=False).encode()
        with self._changed:
            self._waiting.append(_Waiting(self._clock(), secrets.token_hex(8), body))
            full = len(self._waiting) > self._settings.queue
            if full:
                self._waiting.popleft()
                self.lost += 1
            self._changed.notify_all()
        if full:
            self._fail(f"{self._settings.queue} events wait, the oldest are lost")

    def _run(self) -> None:
        delay_s = FIRST_DELAY_S
        while (item := self._next()) is not None:
            if self._clock() - item.since_s > self._settings.keep_s:
                self._drop(item, f"an event waited longer than {self._settings.keep_s:g} s")
                continue
            again_s = self._post(item)
            if again_s is None:
                delay_s = FIRST_DELAY_S
                continue
            with self._changed:
                self._changed.wait_for(lambda: self._ending, max(again_s, delay_s))
                left_s = self._deadline_s - self._clock()
            if self._ending:  # a last attempt or two, within the time that is left
                time.sleep(max(0.0, min(FIRST_DELAY_S, left_s)))
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)

    def _next(self) -> _Waiting | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            if not self._waiting or self._clock() > self._deadline_s:
                return None
            return self._waiting[0]

    def _post(self, item: _Waiting) -> float | None:
        """None once the event is dealt with, or the least seconds until the next attempt."""
        try:
            with self._opener.open(self._request(item), timeout=TIMEOUT_S):
                self._done(item)
                return None
        except urllib.error.HTTPError as error:
            with error:
                if error.code >= 500 or error.code in _TRY_AGAIN:
                    self._fail(f"answers {error.code}; trying again, events wait")
                    return _retry_after(error.headers.get("Retry-After"))
                self._drop(item, f"answers {error.code} and takes no events; they are lost")
                return None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            words = getattr(reason, "verify_message", "") or getattr(reason, "strerror", "")
            self._fail(f"{words or type(reason).__name__}; trying again, events wait")
            return 0.0

    def _request(self, item: _Waiting) -> urllib.request.Request:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"reid/{__version__}",
            "X-Reid-Delivery": item.key,
        }
        if self._settings.secret:
            code = hmac.new(self._settings.secret.encode(), item.body, hashlib.sha256)
            headers["X-Reid-Signature-256"] = f"sha256={code.hexdigest()}"
        return urllib.request.Request(self._settings.url, item.body, headers, method="POST")

    def _done(self, item: _Waiting) -> None:
        self._remove(item)
        if self._failed:
            self._failed = ""
            lost = f"; {self.lost} were lost" if self.lost else ""
            self._say(f"reid: webhook {self._settings.shown}: events are taken again{lost}")

    def _drop(self, item: _Waiting, words: str) -> None:
        if self._remove(item):
            self.lost += 1
        self._fail(words)

    def _remove(self, item: _Waiting) -> bool:
        """Whether it was still waiting: a full queue may have lost it meanwhile."""
        with self._changed:
            if self._waiting and self._waiting[0] is item:
                self._waiting.popleft()
                return True
        return False

    def _fail(self, words: str) -> None:
        """One line for each kind of failure, until it works again."""
        if words != self._failed:
            self._failed = words
            self._say(f"reid: webhook {self._settings.shown}: {words}")


def _retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header, at most the longest delay; 0 for a date or none."""
    return min(float(value), LONGEST_DELAY_S) if value and value.isdecimal() else 0.0
