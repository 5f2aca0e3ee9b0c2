"""Serving a gallery's web page, as one call."""

from __future__ import annotations

from contextlib import suppress

from reid.progress import Say

from ..serve.access import Access
from ..serve.server import GalleryServer
from ..serve.service import GalleryService
from .model_to_open import ModelToOpen
from .opening import GalleryToOpen, opened


def serve_gallery(
    model: ModelToOpen, gallery: GalleryToOpen, host: str, port: int, token: str, ready: Say
) -> None:
    """Serve the page until Ctrl-C; ``ready`` is called with its URL once it can be opened.

    ``port`` 0 takes any free one; ``token`` may be empty for an address that other machines cannot
    reach. Damaged images are left out. Raises ConfigError for a missing or malformed token and an
    address that cannot be served on, and what ``opened`` raises.
    """
    access = Access(host, token)
    with (
        opened(model, gallery, partial=True) as (matcher, store),
        GalleryServer(host, port, access, GalleryService(store, matcher)) as server,
    ):
        store.prepare()
        ready(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
