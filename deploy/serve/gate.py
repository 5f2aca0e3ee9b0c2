"""What every request passes before its route: guards, the user, and its body within limits.

The body is read here, after the token was checked and within a time limit, so that a route never
waits for a socket.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from .access import Access
from .access_log import AccessLog
from .metrics import Metrics
from .refusals import Refusal
from .users import ANYONE, User

MAX_BODY_BYTES = 32 << 20
MAX_JSON_BYTES = 64 << 10
MAX_CONFIRMATION_BYTES = 4096

MAX_BODIES_BYTES = 1 << 30
"""Most memory of all bodies at a time; a request beyond it is asked to come again (a choice)."""

BODY_S = 60.0
"""Time limit for a body to arrive (a choice): 32 MB at 4.5 Mbit/s."""

QUIET_S = 10.0
"""Longest pause within a body (a choice)."""

LINGER_S = 2.0
"""How long the rest of a refused body is read, so that its sender sees the answer."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN = ("/healthz", "/readyz")
"""Answered without a token, to any Host: they say nothing but that the server works."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]


@dataclass
class Request:
    """What the gate found out; a route finds it as ``scope["state"]["request"]``."""

    client: str = ""
    user: User = ANYONE
    accepted: bool = False
    """The request has a valid token, or needs none."""
    wrong_token: bool = False
    log: dict[str, Any] = field(default_factory=dict)
    """What a route adds to the line of the access log."""


class Gate:
    """An ASGI application around the routes of ``app``; ``files`` need no token."""

    def __init__(
        self, app: App, access: Access, metrics: Metrics, log: AccessLog | None, files: set[str]
    ) -> None:
        self._app, self._access, self._metrics, self._log = app, access, metrics, log
        self._files = files
        self._bodies_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        start, request = time.perf_counter(), Request()
        # A HEAD is a GET whose body the server leaves out.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        path = self._own_path(scope["path"])
        state = {**scope.get("state", {}), "request": request}
        inner = {**scope, "method": method, "path": path, "raw_path": None, "state": state}
        status, unlogged = 0, False

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal status, unlogged
            if unlogged:
                return  # no answer goes out that the access log does not have
            if message["type"] == "http.response.start":
                status = message["status"]
                try:
                    await self._note(inner, request, status)
                except Refusal as error:
                    status, unlogged = error.status.value, True
                    await _send_refusal(error, send)
                    await send({"type": "http.response.body", "body": b""})
                    return
                named = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(one for one in _RAW_HEADERS if one[0] not in named),
                ]
            await send(message)

        held = 0
        try:
            headers = headers_of(scope)
            peer = (scope.get("client") or ("", 0))[0]
            request.client = self._access.client_of(peer, headers)
            if path not in _OPEN:
                self._access.require_own_page(headers, peer)
            if path == self._access.public.path and path:
                await _redirect(f"{path}/", answer)
                return
            if not self._is_open(path):
                request.wrong_token = "authorization" in headers
                request.user = self._access.user_of(headers, request.client)
                request.accepted, request.wrong_token = True, False
                if connection := state.get("connection"):
                    connection.known = True
            body = b""
            if method == "POST":
                body = await self._body(headers, path, receive)
                held = len(body)
                self._bodies_bytes += held
            await self._app(inner, _replayed(body, receive), answer)
        except Refusal as error:
            await refuse(error, answer, receive)
        finally:
            self._bodies_bytes -= held
            route = getattr(inner.get("route"), "path", "none")
            self._metrics.answered(route, method, status, time.perf_counter() - start)

    def _own_path(self, path: str) -> str:
        """The path without the public URL's, which a proxy may pass on or leave out."""
        prefix = self._access.public.path
        return path.removeprefix(prefix) if prefix and path.startswith(f"{prefix}/") else path

    def _is_open(self, path: str) -> bool:
        """Whether a path needs no token: the page's files; a ticket is a secret of its own."""
        return path in self._files or path in _OPEN or path.startswith("/api/media/")

    async def _note(self, scope: Scope, request: Request, status: int) -> None:
        if status in (401, 403, 421, 429, 503):
            self._metrics.refused(status)
        wrong = request.wrong_token and status == HTTPStatus.UNAUTHORIZED
        if self._log is None or not (request.accepted or wrong):
            return  # those without a token could fill the disk
        if not scope["path"].startswith("/api/"):
            return
        path = scope["path"].removeprefix("/api/").partition("/")[0][:40]
        try:
            await self._log.write(request.user.name, request.client, path, status, request.log)
        except Refusal:
            self._metrics.log_failures.inc()
            raise

    async def _body(self, headers: MutableMapping[str, str], path: str, receive: Receive) -> bytes:
        """The request's body. Raises Refusal without a length, and for one that is too large."""
        said = headers.get("content-length", "")
        if not said.isascii() or not said.isdecimal() or len(said) > 12:
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "the header Content-Length is needed")
        most = most_bytes(path, headers.get("content-type", ""))
        if int(said) > most:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {most:,} bytes"
            )
        arrived = bytearray()
        try:
            await asyncio.wait_for(self._arrive(arrived, receive), BODY_S)
            return bytes(arrived)
        except asyncio.TimeoutError:
            raise Refusal(
                HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive completely"
            ) from None
        finally:
            self._bodies_bytes -= len(arrived)

    async def _arrive(self, arrived: bytearray, receive: Receive) -> None:
        """Fill ``arrived`` with the body. Raises Refusal where all bodies take too much memory."""
        more = True
        while more:
            message = await asyncio.wait_for(receive(), QUIET_S)
            if message["type"] == "http.disconnect":
                raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive completely")
            part, more = message.get("body", b""), message.get("more_body", False)
            arrived += part
            self._bodies_bytes += len(part)
            if self._bodies_bytes > MAX_BODIES_BYTES:
                raise Refusal(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "too many images arrive at once",
                    retry_after_s=1,
                )


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers by their names in lower case; of one given twice all values, with commas."""
    found: dict[str, str] = {}
    for raw_name, raw in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw.decode("latin-1")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def most_bytes(path: str, kind: str) -> int:
    """The limit of a body: images are large."""
    if path == "/api/confirm":
        return MAX_CONFIRMATION_BYTES
    return MAX_JSON_BYTES if is_json(kind) or path == "/api/evidence" else MAX_BODY_BYTES


def is_json(kind: str) -> bool:
    """Whether a Content-Type says JSON."""
    return kind.partition(";")[0].strip().lower() == "application/json"


def problem(error: Refusal) -> bytes:
    """The JSON of a refusal."""
    body: dict[str, Any] = {"error": str(error)}
    if error.gone:
        body["gone"] = list(error.gone)
    return json.dumps(body).encode()


def problem_headers(error: Refusal) -> dict[str, str]:
    """The headers of a refusal, beside those of every answer."""
    headers = {"Content-Type": "application/json"}
    if error.retry_after_s:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


async def refuse(error: Refusal, send: Send, receive: Receive) -> None:
    """Send a refusal, and close the connection, because the body may not have been read."""
    await _send_refusal(error, send)
    # Closing a socket with bytes unread would reset it before the answer is seen.
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_drained(receive), LINGER_S)
    await send({"type": "http.response.body", "body": b""})


async def _send_refusal(error: Refusal, send: Send) -> None:
    """All of a refusal but the end of its body."""
    content = problem(error)
    headers = {
        **problem_headers(error),
        "Content-Length": str(len(content)),
        "Connection": "close",
    }
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status.value, "headers": raw})
    await send({"type": "http.response.body", "body": content, "more_body": True})


async def _redirect(place: str, send: Send) -> None:
    headers = [(b"location", place.encode("ascii", "replace")), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 308, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _drained(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body that was read, then what follows it."""
    given = False

    async def replay() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
