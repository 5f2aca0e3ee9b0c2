"""A server that is running over a small gallery, and requests to it."""

from __future__ import annotations

import http.client
import json
import logging
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from reid.deploy.gallery import GalleryEntry, GalleryStore
from reid.deploy.gallery.indexing import add_images
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.serve.access import Access
from reid.deploy.serve.server import GalleryServer
from reid.deploy.serve.service import GalleryService
from reid.matching import VectorMatcher
from reid.types import Image

TOKEN = "a-token-of-many-characters"

Answer = tuple[int, http.client.HTTPMessage, bytes]
"""Status, headers (in any case) and body."""


def person(number: int) -> Image:
    """A person in a colour of their own."""
    image = np.zeros((32, 16, 3), np.uint8)
    image[:16] = (37 * number % 256, 11 * number % 256, 90)
    image[16:] = (20, 61 * number % 256, 30)
    return image


def png(image: Image) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def filled_gallery(folder: Path, matcher: VectorMatcher) -> GalleryStore:
    """A new gallery in the folder; see ``fill``."""
    gallery = open_gallery(str(folder / "gallery"), matcher, create=True)
    fill(gallery, folder, matcher)
    return gallery


def fill(gallery: GalleryStore, folder: Path, matcher: VectorMatcher) -> None:
    """Twelve people from files, two cameras, one from a camera that has no files, and one whose
    file is no image."""
    entries = []
    for number in range(12):
        path = folder / f"{number}.png"
        path.write_bytes(png(person(number)))
        entries.append(GalleryEntry(str(path), f"p{number}", f"c{number % 2}", 60.0 * number))
    live = GalleryEntry(
        "rtsp://gate", time_s=1.0, picture=cv2.imencode(".jpg", person(50))[1].tobytes()
    )
    secret = GalleryEntry("/etc/passwd", content="x")
    add_images(gallery, matcher, map(person, (*range(12), 50, 60)), [*entries, live, secret])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass
class Site:
    """A server that is running, and requests to it."""

    server: GalleryServer
    gallery: GalleryStore
    errors: list[str]

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        return ask(self.server.server_address, method, path, body, **headers)

    def ask_json(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """POST a JSON message; the status and the answer."""
        headers = {"Content_Type": "application/json", **headers}
        status, _, content = self.ask("POST", path, json.dumps(body).encode(), **headers)
        return status, json.loads(content)

    def search(self, image: bytes, query: str = "", **headers: str) -> Any:
        status, _, body = self.ask("POST", f"/api/search?{query}", image, **headers)
        assert status == 200, body
        return json.loads(body)


def ask(
    address: tuple[str, int],
    method: str,
    path: str,
    body: bytes | None = None,
    tls: ssl.SSLContext | None = None,
    **headers: str,
) -> Answer:
    """One request on a connection of its own."""
    connection = (
        http.client.HTTPSConnection(*address, timeout=20, context=tls)
        if tls
        else http.client.HTTPConnection(*address, timeout=20)
    )
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


class _Kept(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.ERROR)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def running(
    gallery: GalleryStore, matcher: VectorMatcher, access: Access, **details: Any
) -> Iterator[Site]:
    """A server in a thread; ``errors`` gets what it would log."""
    made = details.pop("service", None) or GalleryService(gallery, matcher)
    server = GalleryServer("127.0.0.1", 0, access, made, **details)
    site = Site(server, gallery, [])
    handler = _Kept(site.errors)
    logs = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    for log in logs:
        log.addHandler(handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for log in logs:
            log.removeHandler(handler)
