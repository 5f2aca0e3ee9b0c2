"""Serving a gallery's web page, as one call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from reid.errors import ConfigError
from reid.progress import Say, say
from reid.training.stopping import exit_at_sigterm

from ..evidence.signing import signing_key
from ..gallery.limits import limit_in
from ..gallery.opening import MILVUS
from ..people.detector import PeopleDetector, open_detector
from ..serve.access import Access
from ..serve.access_log import KEPT_DAYS, AccessLog
from ..serve.media import Media
from ..serve.server import GalleryServer
from ..serve.service import GalleryService
from ..serve.users import RIGHTS, new_user
from ..watch.recordings import find_recording
from .model_to_open import ModelToOpen
from .opening import GalleryToOpen, opened, opened_again


@dataclass(frozen=True)
class ServeSettings:
    """How a gallery is served; a site's file has the same names.

    ``port`` 0 takes any free one. ``token`` may be empty for an address that other machines cannot
    reach; ``users`` is a file of named tokens. ``public_url`` is the page's URL behind a reverse
    proxy, ``trusted_proxies`` the addresses whose X-Forwarded headers are believed. Matches up to
    ``max_distance`` are marked as within the limit (default: as measured). ``detector`` finds
    people in uploaded frames; ``frames`` and ``recordings`` are the folders in which whole frames
    and videos are kept. ``access_log`` is a file, beside the gallery by default where there are
    tokens; its lines are removed after ``access_log_days``.

    >>> ServeSettings(port=0).host
    '127.0.0.1'
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str = field(default="", repr=False)
    users: Path | None = None
    public_url: str = ""
    trusted_proxies: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_distance: float | None = None
    detector: Path | None = None
    frames: Path | None = None
    recordings: Path | None = None
    access_log: Path | None = None
    access_log_days: float = KEPT_DAYS
    signing_key: Path | None = None

    def certificate(self) -> tuple[Path, Path] | None:
        """The certificate and its key. Raises ConfigError for one without the other."""
        if self.tls_cert is None and self.tls_key is None:
            return None
        if self.tls_cert is None or self.tls_key is None:
            raise ConfigError("TLS needs both a certificate and its key: --tls-cert and --tls-key")
        return self.tls_cert, self.tls_key

    def log(self, access: Access, gallery: str) -> AccessLog | None:
        """The access log. Raises OutputError if it cannot be written."""
        if self.access_log is None and not access.known:
            return None
        return AccessLog(self.access_log or log_beside(gallery), self.access_log_days)


def serve_gallery(
    model: ModelToOpen,
    gallery: GalleryToOpen,
    settings: ServeSettings,
    ready: Say,
) -> None:
    """Serve the page until Ctrl-C; ``ready`` is called with its URL once it can be opened.

    Damaged images are left out. Raises ConfigError for a missing or malformed token, an address
    that cannot be served on, a certificate that cannot be used and a distance of the other sign,
    OutputError for an access log that cannot be written, and what ``opened`` raises.
    """
    access = Access(
        settings.host,
        settings.token,
        settings.users,
        settings.public_url,
        settings.trusted_proxies,
    )
    certificate = settings.certificate()
    key = signing_key(settings.signing_key) if settings.signing_key else None
    with (
        exit_at_sigterm(),  # until the server listens for it
        opened(model, gallery, partial=True) as (matcher, store),
        opened_again(gallery, matcher) as looking,
        opened_again(gallery, matcher) as writing,
        _detector(settings.detector, model) as detector,
    ):
        service = GalleryService(
            store,
            matcher,
            settings.max_distance,
            looking=looking,
            writing=writing,
            detector=detector,
            media=Media(settings.frames, settings.recordings, find_recording),
            signing_key=key,
        )
        log = settings.log(access, gallery.name)
        with GalleryServer(
            settings.host, settings.port, access, service, certificate=certificate, log=log
        ) as server:
            service.prepare()
            limit = limit_in(store, matcher, settings.max_distance)
            say(f"reid: matches are within the limit up to a distance of {limit.words}")
            if log is not None:
                say(f"reid: who searches is kept in {log.file} for {log.days:g} days")
            ready(server.url)
            with suppress(KeyboardInterrupt):
                server.serve_forever()


def serve_token(name: str, may: tuple[str, ...] = RIGHTS) -> tuple[str, str]:
    """A new token for the user ``name``, and its lines for the file of users.

    Raises ConfigError for a malformed name or right.

    >>> token, lines = serve_token("anna", ("search",))
    >>> lines.splitlines()[0], lines.splitlines()[2]
    ('[users."anna"]', 'may = ["search"]')
    """
    return new_user(name, may)


def log_beside(gallery: str) -> Path:
    """The access log of a gallery: beside its folder, or, for a collection, in this folder."""
    if gallery.startswith(MILVUS):
        collection = gallery.partition("?")[0].rstrip("/").rpartition("/")[2]
        return Path(f"{collection}.access.jsonl")
    folder = Path(gallery)
    return folder.with_name(f"{folder.resolve().name}.access.jsonl")


@contextmanager
def _detector(path: Path | None, model: ModelToOpen) -> Iterator[PeopleDetector | None]:
    if path is None:
        yield None
        return
    with closing(open_detector(path, "cpu", model.threads)) as detector:
        yield detector
