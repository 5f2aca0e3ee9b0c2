"""The webhook: every event once a real server takes it, in order, and never in a camera's way."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from pathlib import Path
from typing import Any

import pytest

from reid.deploy.cameras.camera import News
from reid.deploy.watch import webhook
from reid.deploy.watch.webhook import WebhookSettings, WebhookSink
from reid.errors import ConfigError
from tests.deploy.watch.web_server import web_server

CERTIFICATES = Path(__file__).parents[1] / "cameras" / "certificates"


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(webhook, "LONGEST_DELAY_S", 0.02)


def ignore(line: str) -> None:
    """Say nothing."""


def event(frame: int) -> dict[str, Any]:
    return {"event": "track", "state": "seen", "camera": "door", "frame": frame}


def test_each_event_is_a_request_in_order() -> None:
    with web_server() as server, WebhookSink(WebhookSettings(server.url), ignore) as sink:
        sink.tracks([event(1), event(2)])
        sink.news(News("door", "lost", "no more frames"))
        found = server.until(3)
    assert found[:2] == [event(1), event(2)]
    assert (found[2]["event"], found[2]["state"]) == ("source", "lost")
    headers = server.taken[0][0]
    assert headers["Content-Type"] == "application/json"
    assert "X-Reid-Signature-256" not in headers
    assert len({one[0]["X-Reid-Delivery"] for one in server.taken}) == 3


def test_a_server_that_fails_at_first_gets_all_and_it_is_said_once() -> None:
    said: list[str] = []
    with (
        web_server([503, 500, 429, 408]) as server,
        WebhookSink(WebhookSettings(server.url), said.append) as sink,
    ):
        sink.tracks([event(number) for number in range(20)])
        assert [one["frame"] for one in server.until(20)] == list(range(20))
    assert sink.lost == sink.waiting == 0
    assert server.asked == 24
    assert len([line for line in said if "503" in line]) == 1
    assert "again" in said[-1]
    assert "s3cret" not in "".join(said)


def test_a_server_that_starts_later_gets_what_waited() -> None:
    with web_server() as first:
        url, port = first.url, first.server_address[1]
    with WebhookSink(WebhookSettings(url), ignore) as sink:
        sink.tracks([event(1)])
        with web_server(port=port) as server:
            assert server.until(1) == [event(1)]
    assert sink.lost == 0


def test_a_refused_event_is_lost_counted_and_the_next_goes_on() -> None:
    said: list[str] = []
    with (
        web_server([400, 200]) as server,
        WebhookSink(WebhookSettings(server.url), said.append) as sink,
    ):
        sink.tracks([event(1), event(2)])
        assert server.until(1) == [event(2)]
    assert sink.lost == 1
    assert "400" in said[0]


def test_a_redirect_is_not_followed_with_half_a_request() -> None:
    with (
        web_server([302], Location="http://127.0.0.1:1/other") as server,
        WebhookSink(WebhookSettings(server.url), ignore) as sink,
    ):
        sink.tracks([event(1), event(2)])
        server.until(1)
    assert server.asked == 2
    assert sink.lost == 1


def test_a_full_queue_loses_the_oldest_and_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "CLOSING_S", 0.05)
    said: list[str] = []
    settings = WebhookSettings("http://127.0.0.1:1/", queue=10)  # where nothing listens
    with WebhookSink(settings, said.append) as sink:
        for number in range(15):
            sink.tracks([event(number)])  # returns at once
        assert sink.waiting == 10
        assert sink.lost == 5
    assert sink.lost == 15
    assert "10 events were not delivered" in said[-1]


def test_an_event_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "CLOSING_S", 0.05)
    said: list[str] = []
    clock = iter(range(0, 1_000_000, 100))
    settings = WebhookSettings("http://127.0.0.1:1/", keep_s=250)
    with WebhookSink(settings, said.append, lambda: float(next(clock))) as sink:
        sink.tracks([event(1)])
        while sink.waiting:
            pass
    assert sink.lost == 1
    assert any("250 s" in line for line in said)


def test_a_secret_signs_the_body() -> None:
    with (
        web_server() as server,
        WebhookSink(WebhookSettings(server.url, secret="open sesame"), ignore) as sink,
    ):
        sink.tracks([event(1)])
        server.until(1)
    headers, _, body = server.taken[0]
    expected = hmac.new(b"open sesame", body, hashlib.sha256).hexdigest()
    assert headers["X-Reid-Signature-256"] == f"sha256={expected}"
    assert "sesame" not in repr(WebhookSettings("https://x", secret="open sesame"))


def test_an_encrypted_server_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "CLOSING_S", 0.2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "camera.pem", CERTIFICATES / "camera.key")
    said: list[str] = []
    with web_server() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        trusted = WebhookSettings(url, ca=CERTIFICATES / "authority.pem")
        with WebhookSink(trusted, ignore) as sink:
            sink.tracks([event(1)])
            assert server.until(1) == [event(1)]
        with WebhookSink(WebhookSettings(url), said.append) as stranger:
            stranger.tracks([event(2)])
    assert stranger.lost == 1
    assert "certificate" in said[0]
    assert len(server.taken) == 1


@pytest.mark.parametrize(
    "url",
    ["", "ftp://x/", "https://", "https://x:port/", "https://a b/", "https://me:pw@x/", "x.org"],
)
def test_a_url_that_cannot_be_used_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="webhook") as caught:
        WebhookSink(WebhookSettings(url), ignore)
    assert "pw" not in str(caught.value)


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        WebhookSink(WebhookSettings("https://x/", ca=tmp_path / "missing.pem"), ignore)
