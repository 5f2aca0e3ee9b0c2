"""The webhook against a real HTTP server on loopback that fails at first."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reid.deploy.cameras.camera import News
from reid.deploy.watch import webhook
from reid.deploy.watch.webhook import WebhookSettings, WebhookSink
from reid.errors import ConfigError

CERTIFICATES = Path(__file__).parents[1] / "cameras" / "certificates"


class Receiver(ThreadingHTTPServer):
    """Answers with the ``answers`` in turn, then 204; keeps what it took."""

    daemon_threads = True

    def __init__(self, tls: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.taken: list[dict[str, Any]] = []
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATES / "camera.pem", CERTIFICATES / "camera.key")
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not like the certificate."""

    def until(self, count: int) -> list[dict[str, Any]]:
        """What was taken, once it is so many."""
        wait_for(lambda: len(self.taken) >= count)
        return self.taken

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((dict(self.headers), body))
        status, headers = self.server.answers.pop(0) if self.server.answers else (204, {})
        if status < 300:
            self.server.taken.append(json.loads(body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(webhook, "FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(webhook, "LONGEST_DELAY_S", 0.1)
    server = Receiver()
    yield server
    server.stop()


def sink_for(receiver: Receiver, said: list[str], **others: Any) -> WebhookSink:
    url = f"http://127.0.0.1:{receiver.port}/hook?token=s3cret"
    return WebhookSink(WebhookSettings(url, **others), said.append)


def test_events_arrive_in_order_over_failures_each_once(receiver: Receiver) -> None:
    said: list[str] = []
    receiver.answers += [(503, {}), (500, {}), (429, {"Retry-After": "0"})]
    with sink_for(receiver, said) as sink:
        sink.tracks([{"state": "entered", "track": 1}, {"state": "left", "track": 1}])
        sink.news(News("door", "lost", "no more frames"))
        found = receiver.until(3)
    assert [one.get("state") for one in found] == ["entered", "left", "lost"]
    assert found[2]["event"] == "source"
    keys = [headers["X-Reid-Delivery"] for headers, _ in receiver.requests]
    assert len(set(keys)) == 3
    assert keys[:4] == [keys[0]] * 4  # the same event again
    assert (sink.lost, sink.waiting) == (0, 0)
    assert "taken again" in said[-1]
    assert "s3cret" not in "".join(said)


def test_an_event_that_the_server_refuses_is_lost_and_the_next_one_goes_on(
    receiver: Receiver,
) -> None:
    said: list[str] = []
    receiver.answers += [(400, {}), (302, {"Location": "/elsewhere"})]
    with sink_for(receiver, said) as sink:
        sink.tracks([{"n": 1}, {"n": 2}, {"n": 3}])
        assert receiver.until(1) == [{"n": 3}]
    assert sink.lost == 2
    assert len(receiver.requests) == 3
    assert "400" in "".join(said)
    assert "302" in "".join(said)


def test_a_request_is_signed_with_the_secret(receiver: Receiver) -> None:
    with sink_for(receiver, [], secret="key") as sink:
        sink.tracks([{"n": 1}])
        receiver.until(1)
    ((headers, body),) = receiver.requests
    code = hmac.new(b"key", body, hashlib.sha256).hexdigest()
    assert headers["X-Reid-Signature-256"] == f"sha256={code}"


def test_a_server_that_comes_late_gets_all_that_waited(receiver: Receiver) -> None:
    port = receiver.port
    receiver.stop()
    said: list[str] = []
    sink = WebhookSink(WebhookSettings(f"http://127.0.0.1:{port}/"), said.append)
    with sink:
        sink.tracks([{"n": number} for number in range(50)])
        wait_for(lambda: bool(said))
        late = Receiver.__new__(Receiver)
        ThreadingHTTPServer.allow_reuse_address = True
        ThreadingHTTPServer.__init__(late, ("127.0.0.1", port), _Handler)
        late.answers, late.requests, late.taken = [], [], []
        late._thread = threading.Thread(target=late.serve_forever, daemon=True)
        late._thread.start()
        assert [one["n"] for one in late.until(50)] == list(range(50))
        late.stop()
    assert sink.lost == 0


def test_a_full_queue_loses_the_oldest_and_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "CLOSING_S", 0.1)
    said: list[str] = []
    with WebhookSink(WebhookSettings("http://127.0.0.1:1/", queue=10), said.append) as sink:
        sink.tracks([{"n": number} for number in range(15)])
        assert (sink.waiting, sink.lost) == (10, 5)
    assert sink.lost == 15
    assert "10 events were not delivered" in said[-1]


def test_an_event_does_not_wait_for_ever(receiver: Receiver) -> None:
    said: list[str] = []
    receiver.answers += [(503, {})] * 1000
    with sink_for(receiver, said, keep_s=0.2) as sink:
        sink.tracks([{"n": 1}])
        wait_for(lambda: sink.lost == 1)
        receiver.answers.clear()
        sink.tracks([{"n": 2}])
        assert receiver.until(1) == [{"n": 2}]
    assert "0.2 s" in "".join(said)


def test_the_certificate_of_an_https_server_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "CLOSING_S", 0.1)
    monkeypatch.setattr(webhook, "FIRST_DELAY_S", 0.02)
    server = Receiver(tls=True)
    url = f"https://127.0.0.1:{server.port}/"
    said: list[str] = []
    with WebhookSink(WebhookSettings(url, ca=CERTIFICATES / "authority.pem"), said.append) as sink:
        sink.tracks([{"n": 1}])
        server.until(1)
    with WebhookSink(WebhookSettings(url), said.append) as stranger:
        stranger.tracks([{"n": 2}])
        wait_for(lambda: bool(said))
    server.stop()
    assert server.taken == [{"n": 1}]
    assert "certificate" in said[0]
    assert stranger.lost == 1


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"url": "ftp://host/"}, "https://"),
        ({"url": "https:///path"}, "https://"),
        ({"url": "https://host:99999/"}, "https://"),
        ({"url": "https://anna:s3cret@host/"}, "user"),
        ({"url": "https://host/", "ca": Path("ca.pem")}, "ca.pem"),
    ],
)
def test_settings_that_cannot_be_used_are_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        WebhookSink(WebhookSettings(**wrong), print)
    assert "s3cret" not in str(caught.value)
