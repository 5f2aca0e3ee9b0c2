"""The page's server: what it answers, and what it refuses."""

from __future__ import annotations

import json
import random
import shutil
import socket
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from reid.deploy.gallery import GalleryStore
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.serve import connections, gate
from reid.deploy.serve import server as server_module
from reid.deploy.serve.access import Access
from reid.deploy.serve.server import GalleryServer
from reid.deploy.serve.service import Asked, GalleryService
from reid.deploy.serve.users import ANYONE
from reid.errors import ConfigError
from reid.matching import VectorMatcher
from reid.types import Image
from tests.deploy.serve.site import TOKEN, Site, person, png, running


def test_the_page_and_its_files_are_there_and_closed_to_foreign_scripts(site: Site) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/page.css", "text/css"),
    ):
        status, headers, body = site.ask("GET", path)
        assert status == 200
        assert headers["Content-Type"].startswith(kind)
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert len(body) > 500


def test_the_summary_tells_what_to_filter_by(site: Site) -> None:
    body = json.loads(site.ask("GET", "/api/gallery")[2])
    assert body["images"] == 14
    assert body["cameras"] == ["c0", "c1"]
    assert body["last"] == "1970-01-01T00:11:00Z"


def test_a_damaged_gallery_is_searched_without_the_damaged_images_and_the_page_says_so(
    filled: GalleryStore, matcher: VectorMatcher, tmp_path: Path
) -> None:
    folder = tmp_path / "gallery"
    shutil.copytree(filled.name, folder)
    file = max(folder.glob("segment-*"), key=lambda path: path.stat().st_size)
    vector = load_file(file)["described.vector"][0]
    file.write_bytes(file.read_bytes().replace(vector.tobytes(), (-vector).tobytes()))
    partial = open_gallery(str(folder), matcher, partial=True)
    with running(partial, matcher, Access("127.0.0.1")) as site:
        found = site.search(png(person(4)))
        assert len(found["matches"]) == 13
        assert "1 images are left out" in found["left_out"]
        body = json.loads(site.ask("GET", "/api/gallery")[2])
        assert (body["images"], body["left_out"]) == (13, found["left_out"])


def test_a_search_ranks_and_filters(site: Site) -> None:
    found = site.search(png(person(4)))["matches"]
    assert (found[0]["person"], found[0]["distance"]) == ("p4", pytest.approx(0, abs=1e-3))
    assert [m["distance"] for m in found] == sorted(m["distance"] for m in found)
    some = site.search(png(person(4)), "camera=c1&k=3&since=1970-01-01T00:03:00Z")["matches"]
    assert len(some) == 3
    assert all(int(m["person"][1:]) % 2 and int(m["person"][1:]) >= 3 for m in some)


def test_a_search_says_which_matches_are_within_the_limit(site: Site) -> None:
    found = site.search(png(person(3)), "k=14")
    assert found["limit"]["distance"] == 0.65
    assert not found["limit"]["measured"]
    assert "reid threshold" in found["limit"]["words"]
    for match in found["matches"]:
        assert match["within"] == (match["distance"] <= 0.65)
    assert {match["within"] for match in found["matches"]} == {True, False}


def test_a_box_on_a_frame_is_the_person_in_it(site: Site) -> None:
    frame = np.full((90, 80, 3), 128, np.uint8)
    frame[20:52, 30:46] = person(7)
    assert site.search(png(frame), "box=30,20,16,32")["matches"][0]["person"] == "p7"
    assert site.search(png(frame))["matches"][0]["distance"] > 0.01


def test_pictures_come_from_files_or_from_the_gallery_itself(site: Site) -> None:
    for query in (3, 50):
        number = site.search(png(person(query)))["matches"][0]["id"]
        status, headers, body = site.ask("GET", f"/api/picture/{number}")
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(image.astype(int) - person(query)).mean() < 8


def test_a_file_that_is_no_image_is_not_shown_even_if_the_gallery_names_it(site: Site) -> None:
    number = site.search(png(person(60)))["matches"][0]["id"]
    status, _, body = site.ask("GET", f"/api/picture/{number}")
    assert status == 404
    assert json.loads(body) == {"error": "this image has no picture, or its file is gone"}


@pytest.mark.parametrize(
    "path",
    [
        "/api/picture/../../etc/passwd",
        "/api/picture/%2e%2e%2fetc%2fpasswd",
        "/api/picture//etc/passwd",
        "/api/picture/999",
        "/api/picture/-1",
        "/api/picture/99999999999999999999",
        "/../../../../etc/passwd",
        "//etc/passwd",
        "/server.py",
        "/gallery.json",
        "/page.js/../server.py",
    ],
)
def test_no_path_leads_to_a_file(site: Site, path: str) -> None:
    status, headers, body = site.ask("GET", path)
    assert status in (400, 404)
    assert headers["Content-Type"] == "application/json"
    assert b"root:" not in body


def test_a_confirmed_match_is_kept_and_shown_again(site: Site) -> None:
    first = site.search(png(person(2)))
    said = {"query": first["query"], "id": first["matches"][0]["id"], "same": True}
    assert site.ask("POST", "/api/confirm", json.dumps(said).encode())[0] == 200
    again = site.search(png(person(2)))["matches"]
    assert [match["confirmed"] for match in again[:2]] == [True, None]
    table = json.loads(site.ask("GET", "/api/confirmed")[2])
    assert {k: table[-1][k] for k in ("query", "id", "same")} == said
    assert site.gallery.confirmed()[-1].id == int(said["id"])


def test_an_id_may_come_as_a_number_and_leaves_as_a_string(site: Site) -> None:
    first = site.search(png(person(2)))
    number = int(first["matches"][0]["id"])
    said = {"query": first["query"], "id": number, "same": False}
    assert site.ask_json("/api/confirm", said) == (200, {"confirmed": False})
    assert json.loads(site.ask("GET", "/api/confirmed")[2])[-1]["id"] == str(number)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 3000,
        b'{"query": "x", "id": 1, "same": true}',
        b'{"query": "%s", "id": 99, "same": true}' % (b"a" * 32),
        b'{"query": "%s", "id": 1, "same": "yes"}' % (b"a" * 32),
        b'{"query": "%s", "id": 1e999, "same": true}' % (b"a" * 32),
    ],
)
def test_a_confirmation_of_nothing_is_refused(site: Site, said: bytes) -> None:
    before = site.gallery.confirmed()
    assert site.ask("POST", "/api/confirm", said)[0] in (400, 404)
    assert site.gallery.confirmed() == before


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is enormous."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = zlib.compress(bytes(1 << 20))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    for width, height in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (0, 5), (40_000_001, 1)):
        status, _, body = site.ask("POST", "/api/search", bomb(width, height))
        assert status == 400
        assert f"{width:,} x {height:,} pixels" in json.loads(body)["error"]


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a\x01\x00", b"<svg/>", b"II*\x00", b"\xff\xd8\xff"]
)
def test_what_is_no_image_is_one_line(site: Site, content: bytes) -> None:
    status, _, body = site.ask("POST", "/api/search", content)
    assert status == 400
    assert set(json.loads(body)) == {"error"}


def test_a_body_too_large_or_of_no_length_is_refused(site: Site) -> None:
    assert site.ask("POST", "/api/search", b"x", Content_Length=str(1 << 38))[0] == 413
    assert site.ask("POST", "/api/confirm", b" " * 5000)[0] == 413
    host, port = site.server.server_address[:2]
    with socket.create_connection(site.server.server_address[:2]) as raw:
        raw.sendall(f"POST /api/search HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert b" 411 " in raw.recv(100)


def test_a_request_that_trickles_in_is_given_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADER_S", 0.2)
    monkeypatch.setattr(gate, "QUIET_S", 0.2)
    for start in (
        b"GET / HT",
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx",
    ):
        with socket.create_connection(site.server.server_address) as raw:
            raw.settimeout(10)
            raw.sendall(start)
            assert b" 408 " in raw.recv(1000)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8080"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "localhost@evil.example"}, 421),
        ({"Host": "[::1"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "localhost", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost", "Origin": "null"}, 403),
        ({"Host": "localhost", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "localhost", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "localhost:99", "Origin": "http://localhost:99"}, 200),
        ({"Host": "[::1]:80", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_another_site_s_page_cannot_ask_through_a_browser(
    site: Site, headers: dict[str, str], status: int
) -> None:
    assert site.ask("GET", "/api/gallery", None, **headers)[0] == status
    assert site.ask("POST", "/api/search", png(person(1)), **headers)[0] == status


def test_with_a_token_nothing_but_the_empty_page_is_shown_without_it(
    filled: GalleryStore, matcher: VectorMatcher
) -> None:
    right = {"Authorization": f"Bearer {TOKEN}"}
    with running(filled, matcher, Access("0.0.0.0", TOKEN)) as site:
        assert site.ask("GET", "/api/gallery", None, **right)[0] == 200
        for said in ("", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \xff"):
            for method, path in (
                ("GET", "/api/gallery"),
                ("GET", "/api/picture/0"),
                ("GET", "/api/none"),
                ("POST", "/api/search"),
                ("POST", "/api/confirm"),
            ):
                assert site.ask(method, path, None, Authorization=said)[0] == 401
        assert site.ask("GET", "/")[0] == 200
        assert site.ask("GET", "/api/picture/0", None, **right)[0] == 200
        assert site.search(png(person(1)), **right)["matches"][0]["person"] == "p1"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "nvr.example"])
def test_an_address_beyond_this_machine_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="can be reached from other machines, so a token"):
        Access(host)
    with pytest.raises(ConfigError, match="a token has at least 16 characters"):
        Access(host, "short")
    assert Access(host, TOKEN).token == TOKEN


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_this_machine_s_own_addresses_need_none(host: str) -> None:
    assert Access(host).token == ""


def test_a_port_in_use_is_one_line(site: Site) -> None:
    port = site.server.server_address[1]
    with pytest.raises(
        ConfigError, match=rf"cannot serve on port {port} of 127.0.0.1: it is in use"
    ):
        GalleryServer("127.0.0.1", port, Access("127.0.0.1"), site.server.service)


def mutated(request: bytes, rng: random.Random) -> bytes:
    """A good request with bytes changed, cut, doubled or put in."""
    changed = bytearray(request)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at, kind = rng.randrange(len(changed) + 1), rng.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif kind == 1:
            del changed[at : at + rng.randrange(1, 30)]
        elif kind == 2:
            changed[at:at] = changed[at : at + rng.randrange(1, 60)]
        elif kind == 3:
            changed[at:at] = rng.choice(
                (
                    b"\0",
                    b"\r\n",
                    b"\xff\xfe",
                    b"%00",
                    b"../",
                    b"9" * 30,
                    b"-1",
                    b": ",
                    b"{",
                    b"\r\n\r\n",
                )
            )
        else:
            changed = changed[: rng.randrange(1, len(changed) + 1)] or changed
        if not changed:
            return b"\n"
    return bytes(changed)


def test_a_thousand_mutated_requests_leave_a_server_that_answers(site: Site) -> None:
    rng = random.Random(0)
    address = site.server.server_address[:2]
    host = f"Host: 127.0.0.1:{address[1]}\r\n"
    image = png(person(5))
    jpeg = cv2.imencode(".jpg", person(6))[1].tobytes()
    said = json.dumps({"query": "a" * 32, "id": 3, "same": True}).encode()
    requests = [
        f"GET {p} HTTP/1.1\r\n{host}\r\n".encode() for p in ("/", "/api/gallery", "/api/picture/3")
    ]
    for path, body in (
        ("/api/search?k=5&camera=c1&since=2020-01-01&box=1,2,10,20", image),
        ("/api/search", jpeg),
        ("/api/confirm", said),
    ):
        head = f"POST {path} HTTP/1.1\r\n{host}Content-Length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)
    answered = 0
    for _ in range(1000):
        with socket.create_connection(address) as raw:
            raw.settimeout(20)
            try:
                raw.sendall(mutated(rng.choice(requests), rng))
                raw.shutdown(socket.SHUT_WR)
                answered += raw.recv(12).startswith(b"HTTP/")
            except (ConnectionError, BrokenPipeError):
                continue
    assert answered > 500
    assert site.search(image)["matches"][0]["person"] == "p5"
    assert site.errors == []


def test_the_command_says_where_the_page_is_and_ends_with_ctrl_c(
    filled: GalleryStore, matcher: VectorMatcher, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from reid.cli import main

    def interrupted(server: GalleryServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reid.matching.open_matcher", lambda *_: matcher)
    monkeypatch.setattr(GalleryServer, "serve_forever", interrupted)
    assert main(["serve", "m.onnx", "--gallery", filled.name, "--port", "0"]) == 0
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")
    assert main(["serve", "m.onnx", "--gallery", filled.name, "--host", "0.0.0.0"]) == 1
    assert "a token is needed" in capsys.readouterr().err


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    behind = b"\xff\xda" * 1000  # as a video behind a photo may hold
    assert site.search(jpeg + behind)["matches"]
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    for content in (
        jpeg[:-2] + scan * 100 + jpeg[-2:],
        jpeg[:2] + b"\xff\xe0\x00\x02" * 10_001 + jpeg[2:],
    ):
        status, _, body = site.ask("POST", "/api/search", content)
        assert status == 400
        assert "100 scans or 10,000 segments" in json.loads(body)["error"]


def test_few_images_are_decoded_at_once(
    filled: GalleryStore, matcher: VectorMatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, most = [], []
    waiting = threading.Event()

    def slowly(*details: Any) -> Image:
        inside.append(1)
        most.append(len(inside))
        waiting.wait(0.05)
        inside.pop()
        return person(1)

    monkeypatch.setattr("reid.deploy.serve.service.decode_image", slowly)
    service = GalleryService(filled, matcher)
    threads = [
        threading.Thread(target=service.search_image, args=(b"", None, Asked(), ANYONE))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 6
    assert max(most) <= 2


@pytest.mark.parametrize("token", [f"{TOKEN}\n", "a token of many words", "t\u00f6ken" * 9])
def test_a_token_that_no_browser_could_send_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="ASCII letters"):
        Access("0.0.0.0", token)


def test_the_page_knows_how_much_the_server_takes() -> None:
    script = Path(server_module.__file__).with_name("page.api.js").read_text()
    assert "MAX_BYTES = 32 * 1024 * 1024;" in script
    assert server_module.MAX_BODY_BYTES == 32 * 1024 * 1024
