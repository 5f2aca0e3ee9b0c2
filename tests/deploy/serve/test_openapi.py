"""The OpenAPI document: every route is in it, and every answer is as it says, errors too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from reid.deploy.gallery import GalleryStore
from reid.deploy.serve import gate
from reid.deploy.serve.access import Access
from reid.deploy.serve.media import Media
from reid.deploy.serve.service import GalleryService
from reid.deploy.serve.users import new_user
from reid.matching import VectorMatcher
from tests.deploy.serve.schema import faults
from tests.deploy.serve.site import TOKEN, Answer, Site, bearer, person, png, running
from tests.deploy.serve.test_queries import Detector

CONTRACT = {
    ("get", "/api/gallery"),
    ("post", "/api/search"),
    ("post", "/api/queries"),
    ("post", "/api/people"),
    ("get", "/api/picture/{id}"),
    ("get", "/api/frame/{id}"),
    ("post", "/api/video/{id}"),
    ("get", "/api/media/{ticket}"),
    ("post", "/api/confirm"),
    ("get", "/api/confirmed"),
    ("post", "/api/evidence"),
    ("get", "/api/openapi.json"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
}


@pytest.fixture
def document(site: Site) -> Any:
    status, headers, body = site.ask("GET", "/api/openapi.json")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    return json.loads(body)


def test_every_served_route_is_in_the_document(site: Site, document: Any) -> None:
    described = {
        (method, path) for path, methods in document["paths"].items() for method in methods
    }
    served = {
        (method.lower(), route.path)
        for route in site.server.app.routes
        if isinstance(route, APIRoute) and route.path.startswith(("/api", "/healthz", "/metrics"))
        for method in route.methods
    }
    assert described == CONTRACT
    assert served <= described


def test_what_is_served_beside_the_document_is_the_page_alone(site: Site, document: Any) -> None:
    outside = {
        route.path
        for route in site.server.app.routes
        if isinstance(route, APIRoute) and route.path not in document["paths"]
    }
    assert "/" in outside
    assert all(path == "/" or path.startswith("/page.") for path in outside)
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert site.ask("GET", path)[0] == 404


def test_every_reference_of_the_document_leads_somewhere(document: Any) -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [ref for one in value.values() for ref in references(one)]
        return [ref for one in value for ref in references(one)] if isinstance(value, list) else []

    found = references(document)
    assert len(found) > 20
    for reference in found:
        name = reference.removeprefix("#/components/schemas/")
        assert name in document["components"]["schemas"], reference
    assert "HTTPValidationError" not in json.dumps(document)


def test_a_request_s_types_are_in_the_document(document: Any) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["Verdict"]["required"]) == {"query", "id", "same"}
    assert schemas["Search"]["properties"]["k"]["maximum"] == 200
    bodies = document["paths"]["/api/search"]["post"]["requestBody"]["content"]
    assert {"application/json", "image/jpeg", "application/octet-stream"} <= set(bodies)
    names = {one["name"] for one in document["paths"]["/api/search"]["post"]["parameters"]}
    assert names == {"k", "box", "camera", "person", "since", "until"}


Ask = Callable[[Site, dict[str, str]], Answer]


def confirmed(site: Site, headers: dict[str, str], **changes: Any) -> Answer:
    found = site.search(png(person(2)), **headers)
    said = {"query": found["query"], "id": found["matches"][0]["id"], "same": True, **changes}
    return site.ask("POST", "/api/confirm", json.dumps(said).encode(), **headers)


def get(path: str, **more: str) -> Ask:
    return lambda site, headers: site.ask("GET", path, None, **{**headers, **more})


def post(path: str, body: bytes, **more: str) -> Ask:
    return lambda site, headers: site.ask("POST", path, body, **{**headers, **more})


def post_json(path: str, body: Any) -> Ask:
    return post(path, json.dumps(body).encode(), Content_Type="application/json")


IMAGE = png(person(3))
ANSWERS: list[tuple[str, str, int, Ask]] = [
    ("get", "/api/gallery", 200, get("/api/gallery")),
    ("get", "/api/gallery", 401, get("/api/gallery", Authorization="")),
    ("get", "/api/gallery", 403, get("/api/gallery", Origin="http://evil.example")),
    ("post", "/api/search", 200, post("/api/search?k=14", IMAGE)),
    ("post", "/api/search", 200, post_json("/api/search", {"ids": ["1", 2]})),
    ("post", "/api/search", 400, post("/api/search", b"no image")),
    ("post", "/api/search", 400, post("/api/search?k=0", IMAGE)),
    ("post", "/api/search", 400, post("/api/search?since=x", IMAGE)),
    ("post", "/api/search", 400, post_json("/api/search", {"k": "many"})),
    ("post", "/api/search", 404, post_json("/api/search", {"ids": ["99"]})),
    ("post", "/api/search", 410, post_json("/api/search", {"queries": ["0" * 32]})),
    ("post", "/api/search", 413, post("/api/search", bytes(gate.MAX_BODY_BYTES + 1))),
    ("post", "/api/search", 401, post("/api/search", IMAGE, Authorization="Bearer x")),
    ("post", "/api/queries", 200, post("/api/queries", IMAGE)),
    ("post", "/api/queries", 400, post("/api/queries?box=1,2,3", IMAGE)),
    ("post", "/api/people", 200, post("/api/people", IMAGE)),
    ("get", "/api/picture/{id}", 200, get("/api/picture/1")),
    ("get", "/api/picture/{id}", 400, get("/api/picture/one")),
    ("get", "/api/picture/{id}", 404, get("/api/picture/99")),
    ("get", "/api/frame/{id}", 404, get("/api/frame/1")),
    ("post", "/api/video/{id}", 200, post("/api/video/1", b"")),
    ("post", "/api/video/{id}", 404, post("/api/video/99", b"")),
    ("get", "/api/media/{ticket}", 404, get("/api/media/x")),
    ("post", "/api/confirm", 200, confirmed),
    ("post", "/api/confirm", 200, lambda site, headers: confirmed(site, headers, same=None)),
    ("post", "/api/confirm", 400, lambda site, headers: confirmed(site, headers, same="yes")),
    ("post", "/api/confirm", 404, lambda site, headers: confirmed(site, headers, id=99)),
    ("post", "/api/confirm", 413, post("/api/confirm", b" " * 5000)),
    ("get", "/api/confirmed", 200, get("/api/confirmed")),
    ("get", "/api/confirmed", 200, get("/api/confirmed?format=csv")),
    ("get", "/api/confirmed", 400, get("/api/confirmed?format=xml")),
    ("post", "/api/evidence", 200, post_json("/api/evidence", {"ids": ["1"], "note": "x"})),
    ("post", "/api/evidence", 400, post_json("/api/evidence", {"ids": []})),
    ("post", "/api/evidence", 404, post_json("/api/evidence", {"ids": ["99"]})),
    ("get", "/healthz", 200, get("/healthz", Authorization="")),
    ("get", "/readyz", 200, get("/readyz", Authorization="")),
    ("get", "/metrics", 200, get("/metrics")),
    ("get", "/metrics", 401, get("/metrics", Authorization="")),
    ("get", "/api/openapi.json", 200, get("/api/openapi.json")),
]


@pytest.fixture(scope="module")
def equipped(
    filled: GalleryStore, matcher: VectorMatcher, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A server with a detector and a recording, and its token."""
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "a.webm").write_bytes(b"a video")

    def find(folder: Path, camera: str, time_s: float) -> tuple[Path, float]:
        return folder / "a.webm", 1.5

    media = Media(recordings=folder, find=find)
    service = GalleryService(filled, matcher, detector=Detector(), media=media)
    with running(filled, matcher, Access("127.0.0.1", TOKEN), service=service) as site:
        yield site
        assert site.errors == []


@pytest.mark.parametrize(
    ("method", "path", "status", "ask"),
    ANSWERS,
    ids=[f"{method} {path} {status} {n}" for n, (method, path, status, _) in enumerate(ANSWERS)],
)
def test_an_answer_is_as_the_document_says(
    equipped: Site, document: Any, method: str, path: str, status: int, ask: Ask
) -> None:
    found, headers, body = ask(equipped, bearer(TOKEN))
    assert found == status, body[:300]
    operation = document["paths"][path][method]
    contents = operation["responses"][str(status)]["content"]
    kind = headers["Content-Type"].partition(";")[0]
    assert kind in contents
    if kind == "application/json":
        assert faults(json.loads(body), contents[kind]["schema"], document) == []
    if status >= 400:
        problem = json.loads(body)
        assert "\n" not in problem["error"]
        assert "/" not in problem["error"].replace("reid serve", "")


def test_every_operation_and_most_of_its_errors_are_asked_for() -> None:
    assert {(method, path) for method, path, _, _ in ANSWERS} == CONTRACT


def test_a_fault_of_an_answer_is_seen(document: Any) -> None:
    schema = {"$ref": "#/components/schemas/Kept"}
    assert faults({"confirmed": True}, schema, document) == []
    assert faults({"confirmed": "yes"}, schema, document)
    assert faults({"confirmed": None, "more": 1}, schema, document)
    assert faults({}, schema, document)


def test_the_gallery_s_server_that_does_not_answer_is_503(
    equipped: Site, document: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reid.errors import UnavailableError

    def unavailable(*details: Any) -> None:
        raise UnavailableError("milvus://host does not answer")

    for name in ("search_image", "ready"):
        monkeypatch.setattr(equipped.server.service, name, unavailable)
    for asked in (post("/api/search", IMAGE), get("/readyz")):
        status, headers, body = asked(equipped, bearer(TOKEN))
        assert status == 503
        assert int(headers["Retry-After"]) > 0
        assert b"milvus" not in body
    assert "503" in document["paths"]["/api/search"]["post"]["responses"]


def test_the_tokens_of_users_are_in_no_answer(equipped: Site) -> None:
    token, _ = new_user("anna")
    _, _, body = equipped.ask("GET", "/api/gallery", None, **bearer(token))
    assert token not in body.decode()
