"""Slow, idle and too many clients: those who ask properly are answered all the same."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from reid.deploy.gallery import Confirmation, GalleryStore
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.gallery.store import LOCK_NAME
from reid.deploy.serve import connections, gate, work
from reid.deploy.serve.access import Access
from reid.deploy.serve.service import GalleryService
from reid.errors import DataError, ModelFileError, OutputError
from reid.locks import locked
from reid.matching import VectorMatcher
from tests.deploy.serve.site import TOKEN, Site, bearer, person, png, running

START = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\n"
SLOW = {
    "nothing at all": b"",
    "half a header": START,
    "half a body": START + b"Content-Length: 100000\r\n\r\nx",
    "half a body with a wrong token": START
    + b"Authorization: Bearer wrong\r\nContent-Length: 100000\r\n\r\nx",
}


@contextmanager
def slow_sockets(site: Site, count: int, start: bytes) -> Iterator[list[socket.socket]]:
    """Clients that begin a request and send no more."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(site.server.server_address))
            one.settimeout(20)
            if start:
                one.sendall(start)
            found.append(one)
        yield found


@pytest.mark.parametrize("places", [512, 40])
@pytest.mark.parametrize("start", SLOW.values(), ids=SLOW)
def test_two_hundred_slow_sockets_stop_no_search(
    filled: GalleryStore,
    matcher: VectorMatcher,
    start: bytes,
    places: int,
) -> None:
    with running(filled, matcher, Access("127.0.0.1", TOKEN)) as site:
        site.server.places.most = places
        # Known here before the wrong tokens come.
        site.search(png(person(0)), **bearer(TOKEN))
        with slow_sockets(site, 200, start):
            for number in range(30):
                found = site.search(png(person(number % 12)), **bearer(TOKEN))
                assert found["matches"][0]["person"] == f"p{number % 12}"
        assert site.errors == []


def test_without_tokens_too_slow_sockets_stop_no_search(site: Site) -> None:
    site.server.places.most = 40
    with slow_sockets(site, 200, SLOW["half a body"]):
        for number in range(12):
            assert site.search(png(person(number)))["matches"][0]["person"] == f"p{number}"


def test_a_connection_without_a_free_place_is_answered_503_and_not_reset(
    filled: GalleryStore, matcher: VectorMatcher
) -> None:
    with running(filled, matcher, Access("127.0.0.1")) as site, blocked(site) as go_on:
        site.server.places.most = 2
        askers = [threading.Thread(target=site.ask, args=("GET", "/api/gallery")) for _ in range(2)]
        for one in askers:
            one.start()
        while len(site.server.places.open) < 2 or not all(
            one.is_busy for one in list(site.server.places.open)
        ):
            pass
        status, headers, body = site.ask("POST", "/api/search", bytes(1 << 20))
        assert status == 503
        assert int(headers["Retry-After"]) >= 1
        assert b"too many connections" in body
        go_on.set()
        for one in askers:
            one.join()
        assert site.ask("GET", "/api/gallery")[0] == 200


@contextmanager
def blocked(site: Site) -> Iterator[threading.Event]:
    """The gallery's summary waits until the event is set."""
    go_on, summary = threading.Event(), site.server.service.summary

    def slowly(*details: Any) -> Any:
        go_on.wait(30)
        return summary(*details)

    site.server.service.summary = slowly  # type: ignore[method-assign]
    try:
        yield go_on
    finally:
        go_on.set()


def test_a_full_queue_is_answered_503(filled: GalleryStore, matcher: VectorMatcher) -> None:
    with running(filled, matcher, Access("127.0.0.1")) as site, blocked(site) as go_on:
        site.server.work.look = work.Pool("small", 1, waiting=0)
        app_pool = site.server.work.look
        asker = threading.Thread(target=site.ask, args=("GET", "/api/gallery"))
        asker.start()
        while not app_pool._busy:
            pass
        status, headers, _ = site.ask("GET", "/api/gallery")
        assert (status, headers["Retry-After"]) == (503, "1")
        assert site.search(png(person(1)))["matches"]  # has threads of its own
        go_on.set()
        asker.join()


def test_a_search_never_waits_for_a_writer(filled: GalleryStore, matcher: VectorMatcher) -> None:
    """A verdict that waits for the disk or another writer holds nothing that a search needs."""
    writing = open_gallery(filled.name, matcher)
    looking = open_gallery(filled.name, matcher)
    inside, go_on = threading.Event(), threading.Event()

    def slowly(one: Confirmation) -> None:
        inside.set()
        go_on.wait(30)

    writing.confirm = slowly  # type: ignore[method-assign]
    service = GalleryService(filled, matcher, looking=looking, writing=writing)
    with running(filled, matcher, Access("127.0.0.1"), service=service) as site:
        first = site.search(png(person(2)))
        said = {"query": first["query"], "id": first["matches"][0]["id"], "same": True}
        writer = threading.Thread(target=site.ask_json, args=("/api/confirm", said))
        writer.start()
        assert inside.wait(30)
        assert site.search(png(person(3)))["matches"][0]["person"] == "p3"
        assert site.ask("GET", f"/api/picture/{said['id']}")[0] == 200
        assert not go_on.is_set()
        go_on.set()
        writer.join()


def test_neither_a_search_nor_a_verdict_waits_for_who_adds_images(
    filled: GalleryStore, matcher: VectorMatcher
) -> None:
    looking, writing = (open_gallery(filled.name, matcher) for _ in range(2))
    service = GalleryService(filled, matcher, looking=looking, writing=writing)
    with (
        running(filled, matcher, Access("127.0.0.1"), service=service) as site,
        locked(Path(filled.name) / LOCK_NAME),
    ):
        found = site.search(png(person(2)))
        said = {"query": found["query"], "id": found["matches"][0]["id"], "same": True}
        assert site.ask_json("/api/confirm", said)[0] == 200
        assert site.search(png(person(2)))["matches"][0]["confirmed"] is True


def test_a_header_that_is_too_large_is_answered_431(site: Site) -> None:
    with socket.create_connection(site.server.server_address) as raw:
        raw.settimeout(20)
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        raw.sendall(b"x" * (connections.MAX_HEADER_BYTES + 100))
        answer = raw.recv(2000)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b'"error"' in answer


def test_a_body_that_is_too_large_is_answered_before_the_socket_is_closed(site: Site) -> None:
    body = bytes(gate.MAX_BODY_BYTES + 1)
    status, _, answer = site.ask("POST", "/api/search", body)
    assert status == 413
    assert f"{gate.MAX_BODY_BYTES:,} bytes" in answer.decode()


def test_all_bodies_together_have_a_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MAX_BODIES_BYTES", 100_000)
    assert site.ask("POST", "/api/search", bytes(200_000))[0] == 503
    assert site.search(png(person(1)))["matches"]


def test_an_idle_connection_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_S", 0.1)
    with socket.create_connection(site.server.server_address) as raw:
        raw.settimeout(20)
        assert raw.recv(10) == b""


def test_an_answer_that_is_not_read_is_given_up(
    filled: GalleryStore, matcher: VectorMatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNREAD_S", 0.1)
    with running(filled, matcher, Access("127.0.0.1")) as site:
        monkeypatch.setattr(site.server.service, "picture", lambda number: bytes(64 << 20))
        with socket.create_connection(site.server.server_address) as raw:
            raw.sendall(b"GET /api/picture/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while not site.server.places.open:
                pass
            while site.server.places.open:
                pass
            raw.settimeout(20)
            count = 0
            try:
                while part := raw.recv(1 << 20):
                    count += len(part)
            except ConnectionError:
                pass
            assert count < 64 << 20


def test_a_client_that_closes_its_side_gets_its_answer(site: Site) -> None:
    with socket.create_connection(site.server.server_address) as raw:
        raw.settimeout(20)
        raw.sendall(b"GET /api/gallery HTTP/1.1\r\nHost: localhost\r\n\r\n")
        raw.shutdown(socket.SHUT_WR)
        answer = b""
        while part := raw.recv(4096):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"}")


@pytest.mark.parametrize("path", ["/", "/page.js", "/api/gallery", "/api/picture/1", "/healthz"])
def test_head_is_answered_as_get_without_the_body(site: Site, path: str) -> None:
    status, headers, body = site.ask("HEAD", path)
    whole = site.ask("GET", path)
    assert (status, body) == (200, b"")
    assert headers["Content-Length"] == str(len(whole[2]))
    assert headers["Content-Type"] == whole[1]["Content-Type"]


def test_other_methods_are_refused(site: Site) -> None:
    for method, path in (
        ("PUT", "/api/gallery"),
        ("DELETE", "/api/picture/1"),
        ("GET", "/api/search"),
    ):
        status, _, body = site.ask(method, path)
        assert status == 405
        assert b'"error"' in body


def test_a_mistake_of_our_own_is_one_line_without_paths_and_the_server_goes_on(
    filled: GalleryStore, matcher: VectorMatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*details: Any) -> None:
        raise ValueError("/home/operator/secret")

    with running(filled, matcher, Access("127.0.0.1")) as site:
        with monkeypatch.context() as patched:
            patched.setattr(site.server.service, "picture", mistaken)
            status, headers, body = site.ask("GET", "/api/picture/1")
        assert (status, headers["Content-Type"]) == (500, "application/json")
        assert b"secret" not in body
        assert "script-src" in headers["Content-Security-Policy"]
        assert site.ask("GET", "/api/picture/1")[0] == 200
        assert ["secret" in line for line in site.errors] == [True]


@pytest.mark.parametrize(
    "error",
    [
        OutputError("cannot write {}/verdicts.jsonl: the disk is full"),
        ModelFileError("{}/segment-1 is damaged"),
        DataError("{}: the gallery is gone"),
    ],
)
def test_a_fault_of_the_gallery_is_said_on_stderr_and_not_to_the_client(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Any
) -> None:
    said = str(error).format(site.gallery.name)

    def fails(*details: Any) -> None:
        raise type(error)(said)

    monkeypatch.setattr(site.server.service, "picture", fails)
    status, headers, body = site.ask("GET", "/api/picture/1")
    assert (status, "Retry-After" in headers) == (503, True)
    assert site.gallery.name not in body.decode()
    assert said in capsys.readouterr().err
