"""The HTTP server around ``GalleryService``: limits, checks and the page's files."""

from __future__ import annotations

import errno
import json
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from reid.errors import ConfigError, ReidError

from .access import Access, Refusal
from .service import GalleryService

MAX_BODY_BYTES = 32 << 20
MAX_CONFIRMATION_BYTES = 4096
MAX_CONNECTIONS = 32
MAX_QUERY_FIELDS = 1000

READ_S = 30.0
"""Time limit for a request to arrive."""

_CHUNK_BYTES = 1 << 16
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class GalleryServer(ThreadingHTTPServer):
    """Serves a gallery on ``host``:``port`` once ``serve_forever`` is called.

    Raises ConfigError if it cannot listen there.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, access: Access, service: GalleryService) -> None:
        self.access, self.service = access, service
        self.files = {
            path: (resources.files(__package__).joinpath(name).read_bytes(), kind)
            for path, (name, kind) in _FILES.items()
        }
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            reasons = {
                errno.EADDRINUSE: "it is in use; choose another --port, or 0 for any free one",
                errno.EACCES: "it is not allowed; choose a --port above 1023",
            }
            reason = reasons.get(error.errno or 0, error.strerror or str(error))
            raise ConfigError(f"cannot serve on port {port} of {host}: {reason}") from None
        except OverflowError:
            raise ConfigError(f"a port is 0 to 65535, found {port}") from None

    @property
    def url(self) -> str:
        """The page's URL."""
        host, port = self.server_address[:2]
        name = f"[{host!s}]" if ":" in str(host) else host
        return f"http://{name!s}:{port}/"

    def server_bind(self) -> None:
        """As the base class, without a DNS lookup of this machine's name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "reid", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or close the connection if there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one request; runs in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class Handler(BaseHTTPRequestHandler):
    """One request per connection; the response is JSON, a picture or one of the page's files."""

    server: GalleryServer
    server_version, sys_version = "reid", ""
    timeout = READ_S

    def setup(self) -> None:
        """Start the time limit for the whole request."""
        super().setup()
        self._patience = threading.Timer(READ_S, self._hang_up)
        self._patience.daemon = True
        self._patience.start()

    def finish(self) -> None:
        """Stop the time limit."""
        self._patience.cancel()
        super().finish()

    def handle(self) -> None:
        """As the base class, but ignores clients that close the connection early."""
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_GET(self) -> None:
        """The page's files, and requests that only read."""
        self._patience.cancel()
        self._answer(
            {
                "/api/gallery": lambda query: self.server.service.summary(),
                "/api/confirmed": lambda query: self.server.service.confirmed(),
            }
        )

    def do_POST(self) -> None:
        """Requests with an image or a confirmation."""
        service = self.server.service
        self._answer(
            {
                "/api/search": lambda query: service.search(self._body(MAX_BODY_BYTES), query),
                "/api/confirm": lambda query: service.confirm(self._body(MAX_CONFIRMATION_BYTES)),
            }
        )

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: URLs show what people search for."""

    def _answer(self, routes: dict[str, Callable[[dict[str, list[str]]], Any]]) -> None:
        try:
            parts = urlsplit(self.path)
            self.server.access.require_own_page(self.headers)
            if self.command == "GET" and parts.path in self.server.files:
                self._send(HTTPStatus.OK, *self.server.files[parts.path])
                return
            self.server.access.require_token(self.headers)
            if self.command == "GET" and parts.path.startswith("/api/picture/"):
                number = parts.path.removeprefix("/api/picture/")
                self._send(HTTPStatus.OK, self.server.service.picture(number), "image/jpeg")
                return
            if parts.path not in routes:
                raise Refusal(HTTPStatus.NOT_FOUND, "no such page")
            query = parse_qs(parts.query, max_num_fields=MAX_QUERY_FIELDS)
            self._send_json(HTTPStatus.OK, routes[parts.path](query))
        except Refusal as error:
            self._send_json(error.status, {"error": str(error)})
        except ReidError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": " ".join(str(error).split())})
        except ValueError:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": "malformed URL"})

    def _body(self, most: int) -> bytes:
        """The request's body. Raises Refusal without one, and for one that is too large."""
        said = self.headers.get("Content-Length", "")
        if not said.isascii() or not said.isdecimal() or len(said) > 12:
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "the header Content-Length is needed")
        if int(said) > most:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {most:,} bytes"
            )
        content = bytearray()
        deadline = time.monotonic() + READ_S
        while len(content) < int(said):
            part = self.rfile.read(min(_CHUNK_BYTES, int(said) - len(content)))
            if not part or time.monotonic() > deadline:
                raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive completely")
            content += part
        self._patience.cancel()
        return bytes(content)

    def _send_json(self, status: HTTPStatus, body: Any) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _hang_up(self) -> None:
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            self.close_connection = True
