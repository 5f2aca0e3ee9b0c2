"""Sockets within limits: a slow or idle one never takes the place of a request.

uvicorn's own limits count connections and idle seconds between requests. They wait for a request's
header without end, and answer whoever comes when all places are taken by those who send nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .gate import problem, problem_headers
from .refusals import Refusal

MAX_CONNECTIONS = 512
"""Most sockets at a time (a choice); a process may have 1,024 files open by default."""

MAX_HEADER_BYTES = 32 << 10

HEADER_S = 10.0
"""Time limit for a request's header to arrive (a choice)."""

IDLE_S = 15
"""How long a connection without a request is kept open (a choice)."""

UNREAD_S = 30.0
"""How long a client may leave an answer unread (a choice)."""

_LINGER_S = 2.0


class Places:
    """The open sockets of a server; for the event loop's thread."""

    def __init__(self, most: int = MAX_CONNECTIONS) -> None:
        self.most = most
        self.open: dict[Connection, None] = {}
        self.refused: Callable[[int], object] = lambda status: None

    def take(self, new: Connection) -> bool:
        """Whether there is a place: one that is free, or that of the oldest that sends no request.

        Those that showed a valid token before give way after others, and those whose body still
        arrives last.
        """
        if len(self.open) >= self.most:
            waiting = [one for one in self.open if not one.is_busy or one.is_sending]
            if not waiting:
                return False
            min(waiting, key=lambda one: (one.is_sending, one.known)).drop()
        self.open[new] = None
        return True


class Connection(H11Protocol):
    """One socket. ``known`` is set once it showed a valid token."""

    places: ClassVar[Places]

    def __init__(self, *details: Any, **named: Any) -> None:
        super().__init__(*details, **named)
        self.app_state = {**self.app_state, "connection": self}
        self.known = False
        self._begun = self._turned_away = False
        self._header: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_sending(self) -> bool:
        """Whether a request's body still arrives."""
        return self.is_busy and bool(self.cycle.more_body)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place, or answer that there is no free one."""
        super().connection_made(transport)
        if self.places.take(self):
            self._watch_header()
        else:
            self._turn_away()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self.places.open.pop(self, None)
        _cancel(self._header)
        self._header = None
        _cancel(self._unread)
        self._unread = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As the base class, within the time for a header."""
        if self._turned_away:
            return
        self._begun = True
        super().data_received(data)
        self._watch_header()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A client that sent all it has to say still gets its answer."""
        if not self.is_busy or self.cycle.more_body or self.scheme == "https":
            return None
        self.cycle.keep_alive = False
        return True

    def on_response_complete(self) -> None:
        """As the base class; the next header has a time limit of its own."""
        self._begun = False
        super().on_response_complete()
        self._watch_header()

    def pause_writing(self) -> None:
        """As the base class, for a while: who does not read an answer loses it."""
        super().pause_writing()
        _cancel(self._unread)
        self._unread = None
        self._unread = self.loop.call_later(UNREAD_S, self.drop)

    def resume_writing(self) -> None:
        """As the base class."""
        super().resume_writing()
        _cancel(self._unread)
        self._unread = None

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request as all others, in JSON."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        lines = {431: f"the header has more than {MAX_HEADER_BYTES:,} bytes"}
        self._answer(Refusal(HTTPStatus(status), lines.get(status, "malformed request")))

    def drop(self) -> None:
        """Close at once."""
        self.places.open.pop(self, None)
        self.transport.abort()

    def _watch_header(self) -> None:
        """Begin the time for a header, or end it."""
        if self.is_busy or self.transport.is_closing():
            _cancel(self._header)
            self._header = None
        elif self._header is None and self.timeout_keep_alive_task is None:
            self._header = self.loop.call_later(HEADER_S, self._too_slow)

    def _too_slow(self) -> None:
        self._header = None
        if self.is_busy or self.transport.is_closing():
            return
        if self._begun:
            self._answer(
                Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive completely")
            )
        else:
            self.transport.close()

    def _turn_away(self) -> None:
        """Answer 503, and read on for a moment: closing at once would reset the socket."""
        self._turned_away = True
        line = "too many connections; try again"
        refusal = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, line, retry_after_s=1)
        self._answer(refusal, close=False)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._header = self.loop.call_later(_LINGER_S, self.transport.abort)

    def _answer(self, refusal: Refusal, *, close: bool = True) -> None:
        self.places.refused(refusal.status.value)
        content = problem(refusal)
        headers = {
            **problem_headers(refusal),
            "Content-Length": str(len(content)),
            "Connection": "close",
        }
        answer = h11.Response(
            status_code=refusal.status.value,
            headers=list(headers.items()),
            reason=refusal.status.phrase.encode(),
        )
        events = (answer, h11.Data(data=content), h11.EndOfMessage())
        try:
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        except h11.LocalProtocolError:  # in the middle of an answer
            self.transport.abort()
            return
        if close:
            self.transport.close()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
