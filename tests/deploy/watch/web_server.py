"""A web server that takes events, and answers as it is asked to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WebServer(ThreadingHTTPServer):
    """Keeps (headers, event) of what it answered 200; ``answers`` are the codes of the first."""

    daemon_threads = True

    def __init__(
        self, answers: Sequence[int] = (), headers: dict[str, str] | None = None, port: int = 0
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answers, self.headers = list(answers), headers or {}
        self.taken: list[tuple[Message, dict[str, Any], bytes]] = []
        self.asked = 0
        self.changed = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/events?token=s3cret"

    def until(self, count: int) -> list[dict[str, Any]]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.taken) >= count, 60)
            return [event for _, event, _ in self.taken]


class _Handler(BaseHTTPRequestHandler):
    server: WebServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.changed:
            self.server.asked += 1
            code = self.server.answers.pop(0) if self.server.answers else 200
            if code == 200:
                self.server.taken.append((self.headers, json.loads(body), body))
            self.server.changed.notify_all()
        self.send_response(code)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@contextmanager
def web_server(answers: Sequence[int] = (), port: int = 0, **headers: str) -> Iterator[WebServer]:
    with WebServer(answers, headers, port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
