"""The same server over a gallery in Milvus: searches, pictures, verdicts, an outage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reid.deploy.gallery import GalleryStore
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.serve.access import Access
from reid.deploy.serve.service import GalleryService
from reid.errors import UnavailableError
from reid.matching import VectorMatcher
from tests.deploy.serve.site import fill, person, png, running


def test_a_gallery_in_milvus_is_served_with_pictures_and_verdicts(
    milvus_name: str, matcher: VectorMatcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = open_gallery(milvus_name, matcher, create=True)
    fill(gallery, tmp_path, matcher)
    looking, writing = (open_gallery(milvus_name, matcher) for _ in range(2))
    service = GalleryService(gallery, matcher, looking=looking, writing=writing)
    with running(gallery, matcher, Access("127.0.0.1"), service=service) as site:
        assert site.ask("GET", "/readyz")[0] == 200
        for number in (3, 50):
            first = site.search(png(person(number)))["matches"][0]
            status, headers, _ = site.ask("GET", f"/api/picture/{first['id']}")
            assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        found = site.search(png(person(3)))
        number = found["matches"][0]["id"]
        assert found["matches"][0]["person"] == "p3"
        said = {"query": found["query"], "id": number, "same": True}
        assert site.ask_json("/api/confirm", said) == (200, {"confirmed": True})
        assert site.search(png(person(3)))["matches"][0]["confirmed"] is True
        status, body = site.ask_json("/api/search", {"ids": [number], "k": 1})
        assert (status, body["matches"][0]["person"]) == (200, "p3")
        asked = json.dumps({"queries": [found["query"]], "ids": [number]}).encode()
        assert site.ask("POST", "/api/evidence", asked)[0] == 200
        assert json.loads(site.ask("GET", "/api/gallery")[2])["images"] == 14

        def silent(store: GalleryStore) -> None:
            raise UnavailableError("milvus does not answer")

        monkeypatch.setattr(type(gallery), "search", lambda *details: silent(gallery))
        status, headers, _ = site.ask("POST", "/api/search", png(person(3)))
        assert (status, "Retry-After" in headers) == (503, True)
        assert site.errors == []
