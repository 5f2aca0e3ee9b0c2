"""A real nginx in front: as it comes, with the Host passed on, under a sub-path, with TLS."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reid.deploy.gallery import GalleryStore
from reid.deploy.serve.access import Access
from reid.matching import VectorMatcher
from tests.deploy.serve.browser import Page
from tests.deploy.serve.certificate import self_signed, trusting
from tests.deploy.serve.pages import Filled, cards, click, go, search_for, served
from tests.deploy.serve.site import TOKEN, ask, bearer, person, png, running

pytestmark = pytest.mark.services

CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_max_body_size 32m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} {tls};
    {certificate}
    location {place} {{ proxy_pass {behind}; {more} }}
  }}
}}
"""

NAME = "nvr.test"
"""What the browser calls the server; nothing resolves it here."""

WAYS = {
    "as it comes": ("/", "{url}", "", False),
    "the Host passed on": ("/", "{url}", "proxy_set_header Host $host:$server_port;", False),
    "a sub-path": ("/reid/", "{url}/", "", False),
    "a sub-path that is passed on": ("/reid/", "{url}", "proxy_set_header Host $http_host;", False),
    "TLS": ("/", "{url}", "", True),
    "TLS under a sub-path": ("/a/b/", "{url}/", "proxy_set_header Host $http_host;", True),
}


@pytest.fixture
def nginx() -> str:
    """The program; the test is skipped where it is missing."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not found:
        pytest.skip("needs nginx: apt-get install nginx-light")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@contextmanager
def proxied(program: str, config: Path, port: int) -> Iterator[None]:
    """nginx runs, and listens."""
    started = subprocess.Popen(
        [program, "-c", str(config), "-e", str(config.with_name("error.log"))],
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionError:
                log = config.with_name("error.log")
                assert started.poll() is None, log.read_text() if log.exists() else ""
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield
    finally:
        started.terminate()
        started.communicate()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_search_through_nginx(
    filled: GalleryStore,
    matcher: VectorMatcher,
    nginx: str,
    tmp_path: Path,
    way: tuple[str, str, str, bool],
) -> None:
    place, behind, more, with_tls = way
    port, scheme = free_port(), "https" if with_tls else "http"
    origin = f"{scheme}://{NAME}:{port}"
    access = Access("127.0.0.1", TOKEN, public_url=origin + place, trusted_proxies=("127.0.0.1",))
    with running(filled, matcher, access) as site:
        url = "http://{}:{}".format(*site.server.server_address)
        certificate, key = self_signed(tmp_path)
        config = tmp_path / "nginx.conf"
        config.write_text(
            CONFIG.format(
                folder=tmp_path,
                port=port,
                tls="ssl" if with_tls else "",
                certificate=f"ssl_certificate {certificate}; ssl_certificate_key {key};"
                if with_tls
                else "",
                place=place,
                behind=behind.format(url=url),
                more=more,
            )
        )
        tls = trusting(certificate) if with_tls else None
        with proxied(nginx, config, port):
            check_site(("127.0.0.1", port), place, origin, tls)
        assert site.errors == []


def check_site(
    address: tuple[str, int], place: str, origin: str, tls: ssl.SSLContext | None
) -> None:
    """The page, its files, a search and a verdict, as a browser asks for them."""
    host = {"Host": origin.partition("//")[2]}
    own = {**host, "Origin": origin, "Sec_Fetch_Site": "same-origin", **bearer(TOKEN)}
    status, _, body = ask(address, "GET", place, None, tls, **host)
    assert status == 200
    page = body.decode()
    assert 'href="/' not in page
    assert 'src="/' not in page
    assert ask(address, "GET", f"{place}page.js", None, tls, **host)[0] == 200
    status, _, body = ask(address, "POST", f"{place}api/search?k=3", png(person(5)), tls, **own)
    assert status == 200, body
    found = json.loads(body)
    assert found["matches"][0]["person"] == "p5"
    number = found["matches"][0]["id"]
    assert ask(address, "GET", f"{place}api/picture/{number}", None, tls, **own)[0] == 200
    said = {"query": found["query"], "id": number, "same": True}
    content = json.dumps(said).encode()
    assert ask(address, "POST", f"{place}api/confirm", content, tls, **own)[0] == 200
    foreign = {**own, "Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"}
    assert ask(address, "POST", f"{place}api/confirm", content, tls, **foreign)[0] == 403
    assert ask(address, "GET", f"{place}healthz", None, tls, **host)[0] == 200


def test_the_page_in_a_browser_through_nginx_with_tls_under_a_path(
    nginx: str, seen: Filled, page: Page, tmp_path: Path
) -> None:
    port, place = free_port(), "/a/b/"
    root = f"https://127.0.0.1:{port}{place}"
    access = Access("127.0.0.1", TOKEN, public_url=root, trusted_proxies=("127.0.0.1",))
    page.do("Security.setIgnoreCertificateErrors", ignore=True)
    with served(seen, access) as site:
        certificate, key = self_signed(tmp_path)
        config = tmp_path / "nginx.conf"
        config.write_text(
            CONFIG.format(
                folder=tmp_path,
                port=port,
                tls="ssl",
                certificate=f"ssl_certificate {certificate}; ssl_certificate_key {key};",
                place=place,
                behind="http://{}:{}/".format(*site.server.server_address),
                more="",
            )
        )
        with proxied(nginx, config, port):
            go(page, f"{root}#token={TOKEN}")
            search_for(page, seen.image(4))
            assert "person 4" in cards(page)[0]
            click(page, ".card .yes")
            page.until("document.querySelector('.card').dataset.said == 'same'")
            click(page, ".card .picture")
            click(page, "[data-kind=video]")
            page.until("document.querySelector('video')?.readyState > 0")
    assert page.complaints == []
