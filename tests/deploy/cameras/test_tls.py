"""Encrypted cameras: trusted by their authority or their own certificate, or refused.

``certificates`` holds an authority, a camera on this machine with its certificate, and a stranger
who signed its own for another name; all for a hundred years and for these tests alone.
"""

from __future__ import annotations

import functools
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.deploy.cameras.readers import Decoded, read_source
from reid.deploy.cameras.sources import parse_sources
from reid.deploy.cameras.tls import TlsTrust, verified_options
from reid.errors import ConfigError, DataError

CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY, STRANGER = CERTIFICATES / "authority.pem", CERTIFICATES / "stranger.pem"
SYSTEM = TlsTrust()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        """Nothing is printed."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, address: object) -> None:
        """A handshake that the other side refused is what these tests are about."""


@contextmanager
def served(folder: Path, who: str, address: str = "127.0.0.1") -> Iterator[int]:
    """Files of ``folder`` over https by ``who``; the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / f"{who}.pem", CERTIFICATES / f"{who}.key")
    server = _Server((address, 0), functools.partial(_Quiet, directory=str(folder)))
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer = cv2.VideoWriter(str(tmp_path / "a.mkv"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(5):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    return tmp_path


def first(url: str, trust: TlsTrust) -> object:
    (source,) = parse_sources([f"door={url}"], tls=trust)
    frames = read_source(source)
    try:
        return next(frames)
    finally:
        frames.close()


@pytest.mark.parametrize(
    ("who", "host", "trust"),
    [
        ("camera", "localhost", TlsTrust(AUTHORITY)),
        ("camera", "127.0.0.1", TlsTrust(AUTHORITY)),
        ("stranger", "localhost", TlsTrust(STRANGER)),
        ("stranger", "127.0.0.1", TlsTrust(insecure=True)),
    ],
)
def test_a_trusted_camera_is_opened(folder: Path, who: str, host: str, trust: TlsTrust) -> None:
    with served(folder, who) as port:
        frame = first(f"https://u:hunter2@{host}:{port}/a.mkv", trust)
    assert isinstance(frame, Decoded)
    assert frame.image.shape == (48, 64, 3)


@pytest.mark.parametrize("scheme", ["https", "rtsps"])
@pytest.mark.parametrize(
    ("who", "trust", "reason"),
    [
        ("camera", SYSTEM, "unable to get local issuer certificate"),
        ("stranger", SYSTEM, "self-signed certificate|self signed certificate"),
        ("stranger", TlsTrust(AUTHORITY), "self-signed certificate|self signed certificate"),
        ("camera", TlsTrust(STRANGER), "unable to get local issuer certificate"),
    ],
)
def test_a_camera_that_is_not_trusted_is_refused_with_the_way_to_trust_it(
    folder: Path, scheme: str, who: str, trust: TlsTrust, reason: str
) -> None:
    with served(folder, who) as port, pytest.raises(DataError, match=reason) as error:
        first(f"{scheme}://u:hunter2@127.0.0.1:{port}/a.mkv", trust)
    said = str(error.value)
    assert f"door ({scheme}://127.0.0.1:{port}) is not trusted" in said
    assert "--tls-ca" in said
    assert "hunter2" not in said
    assert "\n" not in said


def test_a_certificate_of_another_name_is_refused(folder: Path) -> None:
    with (
        served(folder, "camera", "127.0.0.2") as port,
        pytest.raises(DataError, match=r"is not trusted: IP address mismatch"),
    ):
        # 127.0.0.2 is this machine too, and not in the certificate.
        verified_options(f"rtsps://127.0.0.2:{port}", "x", TlsTrust(AUTHORITY), 5)


def test_https_is_verified_by_ffmpeg_too_and_rtsps_once_trusted_opens_as_it_is(
    folder: Path,
) -> None:
    with served(folder, "camera") as port:
        trust = TlsTrust(AUTHORITY)
        options = verified_options(f"https://localhost:{port}/x", "x", trust, 5)
        assert options == f"|tls_verify;1|ca_file;{AUTHORITY}"
        assert verified_options(f"rtsps://localhost:{port}/x", "x", trust, 5) == ""
    assert verified_options("rtsp://localhost:1/x", "x", SYSTEM, 5) == ""


@pytest.mark.parametrize("url", ["https://127.0.0.1:{}/x", "rtsps://127.0.0.1:{}/x"])
def test_a_camera_without_tls_is_one_line_in_bounded_time(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(DataError, match="no TLS handshake") as error:
            verified_options(url.format(port), "x", SYSTEM, 0.1)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="no TLS handshake"):
        verified_options(url.format(port), "x", SYSTEM, 5)


def test_a_file_without_a_certificate_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    for content in ("", "text", f"{begin}\nAAAA\n{end}"):
        (tmp_path / "a.pem").write_text(content)
        with pytest.raises(ConfigError, match=r"--tls-ca .*a\.pem: expected certificates"):
            parse_sources(["rtsps://cam/x"], tls=TlsTrust(tmp_path / "a.pem"))
    with pytest.raises(ConfigError, match="No such file"):
        parse_sources(["rtsps://cam/x"], tls=TlsTrust(tmp_path / "absent.pem"))
    (tmp_path / "a;b.pem").write_text(AUTHORITY.read_text())
    with pytest.raises(ConfigError, match="must not have ;"):
        parse_sources(["rtsps://cam/x"], tls=TlsTrust(tmp_path / "a;b.pem"))
