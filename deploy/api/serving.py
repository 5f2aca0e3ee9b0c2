"""Serving a gallery's web page, as one call."""

from __future__ import annotations

from contextlib import suppress

from reid.progress import Say, say

from ..gallery.limits import limit_in
from ..serve.access import Access
from ..serve.server import GalleryServer
from ..serve.service import GalleryService
from .model_to_open import ModelToOpen
from .opening import GalleryToOpen, opened


def serve_gallery(
    model: ModelToOpen,
    gallery: GalleryToOpen,
    host: str,
    port: int,
    token: str,
    ready: Say,
    max_distance: float | None = None,
) -> None:
    """Serve the page until Ctrl-C; ``ready`` is called with its URL once it can be opened.

    ``port`` 0 takes any free one; ``token`` may be empty for an address that other machines cannot
    reach. Matches up to ``max_distance`` are marked as within the limit (default: as measured).
    Damaged images are left out. Raises ConfigError for a missing or malformed token, an address
    that cannot be served on and a distance of the other sign, and what ``opened`` raises.
    """
    access = Access(host, token)
    with (
        opened(model, gallery, partial=True) as (matcher, store),
        GalleryServer(host, port, access, GalleryService(store, matcher, max_distance)) as server,
    ):
        store.prepare()
        limit = limit_in(store, matcher, max_distance)
        say(f"reid: matches are within the limit up to a distance of {limit.words}")
        ready(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
