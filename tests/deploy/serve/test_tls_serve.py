"""TLS at our own server, and public URLs as a proxy would use them."""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path

import pytest

from reid.deploy.gallery import GalleryStore
from reid.deploy.serve import server as server_module
from reid.deploy.serve.access import Access
from reid.deploy.serve.server import Tls
from reid.errors import ConfigError
from reid.matching import VectorMatcher
from tests.deploy.serve.certificate import self_signed, trusting
from tests.deploy.serve.site import TOKEN, ask, bearer, person, png, running


def test_a_search_over_tls(filled: GalleryStore, matcher: VectorMatcher, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with running(filled, matcher, Access("127.0.0.1", TOKEN), certificate=certificate) as site:
        assert site.server.url.startswith("https://127.0.0.1:")
        address, tls = site.server.server_address, trusting(certificate[0])
        own = {**bearer(TOKEN), "Origin": site.server.url.rstrip("/")}
        status, _, body = ask(address, "POST", "/api/search", png(person(5)), tls, **own)
        assert status == 200
        assert json.loads(body)["matches"][0]["person"] == "p5"
        # Plain HTTP is not answered on this port.
        with pytest.raises((ConnectionError, OSError)):
            ask(address, "GET", "/")
        assert ask(address, "GET", "/healthz", None, tls)[0] == 200


def test_a_slow_handshake_is_given_up(
    filled: GalleryStore,
    matcher: VectorMatcher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "HEADER_S", 0.2)
    certificate = self_signed(tmp_path)
    with (
        running(filled, matcher, Access("127.0.0.1"), certificate=certificate) as site,
        socket.create_connection(site.server.server_address) as raw,
    ):
        raw.settimeout(20)
        assert raw.recv(10) == b""


def test_old_versions_of_tls_are_refused(
    filled: GalleryStore, matcher: VectorMatcher, tmp_path: Path
) -> None:
    context = Tls(*self_signed(tmp_path)).context
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_renewed_certificate_is_used_and_a_broken_one_is_not(
    filled: GalleryStore, matcher: VectorMatcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = self_signed(tmp_path)
    former = trusting(certificate[0])
    with running(filled, matcher, Access("127.0.0.1"), certificate=certificate) as site:
        address, tls = site.server.server_address, site.server._tls
        assert tls is not None
        assert ask(address, "GET", "/healthz", None, former)[0] == 200
        certificate[0].write_text("")
        tls.renew()
        assert str(certificate[0]) in capsys.readouterr().err
        assert ask(address, "GET", "/healthz", None, former)[0] == 200
        self_signed(tmp_path)
        tls.renew()
        assert ask(address, "GET", "/healthz", None, trusting(certificate[0]))[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(address, "GET", "/healthz", None, former)


def test_a_certificate_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    (tmp_path / "other").mkdir()
    _, other = self_signed(tmp_path / "other")
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for one, its_key in ((certificate, other), (empty, key), (tmp_path / "missing.pem", key)):
        with pytest.raises(ConfigError) as caught:
            Tls(one, its_key)
        assert str(one) in str(caught.value)
        assert "\n" not in str(caught.value)


PUBLIC = "https://nvr.example/reid/"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:80", "Origin": "https://nvr.example"}, 200),  # default proxy_pass
        ({"Host": "nvr.example", "Origin": "https://nvr.example"}, 200),  # Host passed on
        ({"Host": "nvr.example:443", "Origin": "https://nvr.example:443"}, 200),
        ({"Host": "nvr.example", "Origin": "http://evil.example"}, 403),
        ({"Host": "nvr.example", "Origin": "https://nvr.example:8443"}, 403),
        ({"Host": "127.0.0.1:80", "Origin": "http://nvr.example"}, 403),
        ({"Host": "nvr.example.evil.example", "Origin": "https://nvr.example"}, 421),
        ({"Host": "evil.example"}, 421),
    ],
)
def test_the_public_url_is_the_page_s_own(
    filled: GalleryStore, matcher: VectorMatcher, headers: dict[str, str], status: int
) -> None:
    with running(filled, matcher, Access("127.0.0.1", public_url=PUBLIC)) as site:
        assert site.server.url == PUBLIC
        for path in ("/api/gallery", "/reid/api/gallery"):  # the proxy strips the path, or not
            assert site.ask("GET", path, None, **headers)[0] == status


def test_the_page_s_path_without_its_slash_leads_to_the_page(
    filled: GalleryStore, matcher: VectorMatcher
) -> None:
    with running(filled, matcher, Access("127.0.0.1", public_url=PUBLIC)) as site:
        status, headers, _ = site.ask("GET", "/reid")
        assert (status, headers["Location"]) == (308, "/reid/")
        assert b"<!doctype html>" in site.ask("GET", "/reid/")[2]


@pytest.mark.parametrize(
    "url", ["nvr.example", "ftp://nvr.example/", "https://", "https://a@b/", "https://[::1", "x://"]
)
def test_a_malformed_public_url_is_one_line(url: str) -> None:
    with pytest.raises(ConfigError, match="--public-url"):
        Access("127.0.0.1", public_url=url)


def test_a_malformed_proxy_is_one_line() -> None:
    with pytest.raises(ConfigError, match="--trusted-proxy"):
        Access("127.0.0.1", trusted_proxies=("nvr.example",))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.2", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.2", "1.1.1.1, 203.0.113.7, 10.0.0.3", "203.0.113.7"),  # its own proxies alone
        ("10.0.0.2", "", "10.0.0.2"),
        ("10.0.0.2", "evil", "10.0.0.2"),
        ("203.0.113.9", "127.0.0.1", "203.0.113.9"),  # no trusted proxy
    ],
)
def test_only_a_trusted_proxy_says_who_the_client_is(
    peer: str, forwarded: str, client: str
) -> None:
    access = Access("127.0.0.1", trusted_proxies=("10.0.0.0/8",))
    assert access.client_of(peer, {"x-forwarded-for": forwarded}) == client


def test_only_a_trusted_proxy_says_what_host_was_asked_for(
    filled: GalleryStore, matcher: VectorMatcher
) -> None:
    asked = {"X_Forwarded_Host": "localhost:8443", "Origin": "https://localhost:8443"}
    for proxies, status in (((), 403), (("127.0.0.0/8",), 200)):
        access = Access("127.0.0.1", trusted_proxies=proxies)
        with running(filled, matcher, access) as site:
            assert site.ask("GET", "/api/gallery", None, **asked)[0] == status
