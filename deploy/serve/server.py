"""The HTTP server around ``GalleryService``: a socket, uvicorn, and what stands between."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn

from reid.errors import ConfigError
from reid.progress import Say, say

from .access import Access
from .access_log import AccessLog
from .connections import HEADER_S, IDLE_S, MAX_HEADER_BYTES, Connection, Places
from .gate import MAX_BODY_BYTES, Gate
from .metrics import Metrics
from .routes import application, page_files
from .service import GalleryService
from .work import Work

__all__ = ["MAX_BODY_BYTES", "GalleryServer"]

_STOP_S = 5
"""How long running requests may take once the server is asked to stop."""

_BACKLOG = 1024

TIDY_S = 60
"""How often expired queries and lines of the access log are looked for."""

_FILES = 4096
"""Files that this process may have open, where the system allows it: sockets, segments, videos."""


class GalleryServer:
    """Serves a gallery on ``host``:``port`` once ``serve_forever`` is called.

    With ``certificate`` (a certificate and its key, PEM) it speaks TLS. Raises ConfigError if it
    cannot listen there, or for a certificate that cannot be used.
    """

    def __init__(
        self,
        host: str,
        port: int,
        access: Access,
        service: GalleryService,
        *,
        certificate: tuple[Path, Path] | None = None,
        log: AccessLog | None = None,
    ) -> None:
        self.access, self.service = access, service
        self.metrics, self.work, self._log = Metrics(), Work(), log
        self.places = Places()
        self.places.refused = self.metrics.refused
        self.metrics.watch("reid_serve_connections", "Open sockets.", lambda: len(self.places.open))
        files = page_files()
        self.app = application(service, self.work, self.metrics, files)
        gate = Gate(self.app, access, self.metrics, log, set(files))
        self._scheme = "https" if certificate else "http"
        self._tls = Tls(*certificate) if certificate else None
        self.socket = listening_socket(host, port)
        self.server_address: tuple[str, int] = self.socket.getsockname()[:2]
        protocol = type("ServedConnection", (Connection,), {"places": self.places})
        config = uvicorn.Config(
            gate,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=_STOP_S,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            callback_notify=self._tidy,
            timeout_notify=TIDY_S,
        )
        config.load()
        config.ssl = self._tls.context if self._tls else None
        self._server = _Server(config)

    def __enter__(self) -> GalleryServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.server_close()

    @property
    def url(self) -> str:
        """The page's URL; the public one where it is known."""
        if self.access.public_url:
            return f"{self.access.public.origin}{self.access.public.path}/"
        host, port = self.server_address
        name = f"[{host}]" if ":" in host else host
        return f"{self._scheme}://{name}:{port}/"

    def serve_forever(self) -> None:
        """Serve until ``shutdown`` is called, or, in the main thread, Ctrl-C or SIGTERM."""
        allow_files()
        with _ends_without_error(self.shutdown):
            self._server.run(sockets=[self.socket])

    async def _tidy(self) -> None:
        """Let go of what has expired, though no request comes."""
        self.service.held.expire()
        if self._tls is not None:
            self._tls.renew()
        if self._log is not None:
            await self._log.tidy()

    def shutdown(self) -> None:
        """Stop ``serve_forever``, from another thread."""
        self._server.should_exit = True

    def server_close(self) -> None:
        """Release the socket and the threads."""
        self.socket.close()
        self.work.close()
        if self._log is not None:
            self._log.close()


class _Server(uvicorn.Server):
    """As the base class, with a time limit for the handshake of TLS, as for a header."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        config, loop = self.config, asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state={}, _loop=loop
            )

        self.servers = [
            await loop.create_server(
                protocol,
                sock=one,
                ssl=config.ssl,
                backlog=_BACKLOG,
                ssl_handshake_timeout=HEADER_S if config.ssl else None,
            )
            for one in sockets or ()
        ]
        self.started = True


def allow_files() -> None:
    """Raise this process's own limit of open files, where the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(_BACKLOG)
    except OverflowError:
        made.close()
        raise ConfigError(f"a port is 0 to 65535, found {port}") from None
    except OSError as error:
        made.close()
        reasons = {
            errno.EADDRINUSE: "it is in use; choose another --port, or 0 for any free one",
            errno.EACCES: "it is not allowed; choose a --port above 1023",
        }
        reason = reasons.get(error.errno or 0, error.strerror or str(error))
        raise ConfigError(f"cannot serve on port {port} of {host}: {reason}") from None
    made.setblocking(False)
    return made


class Tls:
    """TLS 1.2 or newer with a certificate chain and its key, both PEM.

    Raises ConfigError for files that cannot be used.
    """

    def __init__(self, certificate: Path, key: Path, say: Say = say) -> None:
        self._certificate, self._key, self._say = certificate, key, say
        self._seen = self._stamp()
        self.context = self._made()

    def renew(self) -> None:
        """Use a certificate that was renewed; where it cannot be used the former one stays."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._made()
        except ConfigError as error:
            self._say(f"reid: {error}; the former certificate stays")
            return
        self.context.load_cert_chain(self._certificate, self._key, password="")

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # An empty password: OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror if not isinstance(error, ssl.SSLError) else error.reason
            raise ConfigError(
                f"cannot use {self._certificate} and {self._key} for TLS: {reason or error}; "
                "expected a certificate chain and its unencrypted key, both PEM"
            ) from None
        return context

    def _stamp(self) -> tuple[int, ...]:
        try:
            files = [os.stat(one) for one in (self._certificate, self._key)]
        except OSError:
            return ()
        return tuple(one.st_mtime_ns for one in files)


@contextmanager
def _ends_without_error(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM calls ``stop``, also before uvicorn listens for it, and ends in no error.

    uvicorn raises it again once it stopped. An exception in place of ``stop`` could come in the
    middle of the event loop's start.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stopped(number: int, frame: FrameType | None) -> None:
        stop()

    before = signal.signal(signal.SIGTERM, stopped)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
