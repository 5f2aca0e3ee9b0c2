"""A camera on this machine: RTSP with RTP over TCP, JPEG pictures (RFC 2326, 3550, 2435).

Debian has no RTSP server that a test could start and kill; this one is enough for FFmpeg, and
asks for a password as cameras do.
"""

from __future__ import annotations

import base64
import itertools
import socket
import socketserver
import struct
import threading
from types import TracebackType

import cv2
import numpy as np

WIDTH, HEIGHT = 64, 48
FRAME_S = 0.02
_PIECE = 1000
_JPEG, _TYPE_420, _TABLES_INSIDE = 26, 1, 255

_ANSWERS = {
    "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
    "SETUP": "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n",
    "PLAY": "Session: 1\r\n",
}
_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\n"
    f"m=video 0 RTP/AVP {_JPEG}\r\nc=IN IP4 0.0.0.0\r\n"
)


class RtspCamera:
    """A camera that can be plugged in, pulled out, and plugged in again at the same address."""

    def __init__(self, user: str = "", password: str = "") -> None:
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._login = f"Authorization: Basic {login}" if password else ""
        self._server: _Server | None = None
        self.port = 0

    @property
    def plugged(self) -> bool:
        return self._server is not None

    def plug_in(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), self._login)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def pull_out(self) -> None:
        """As a cable is pulled: connections end in the middle of a frame."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> RtspCamera:
        self.plug_in()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.pull_out()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], login: str) -> None:
        super().__init__(address, _Connection)
        self.login = login
        self.stopped = threading.Event()
        self.connections: list[socket.socket] = []

    def stop(self) -> None:
        self.stopped.set()
        self.shutdown()
        for connection in self.connections:
            connection.close()
        self.server_close()


class _Connection(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.connections.append(self.connection)
        try:
            while request := self._request():
                method, number = request[0].split()[0], self._number(request)
                if self.server.login and self.server.login not in request:
                    self._answer(
                        "401 Unauthorized", number, 'WWW-Authenticate: Basic realm="x"\r\n'
                    )
                elif method == "DESCRIBE":
                    head = f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n"
                    self._answer("200 OK", number, head, _SDP)
                else:
                    self._answer("200 OK", number, _ANSWERS.get(method, ""))
                if method == "PLAY":
                    self._play()
                    return
        except (OSError, ValueError):
            return  # the other side has gone, or this one was pulled out

    def _request(self) -> list[str]:
        lines: list[str] = []
        while line := self.rfile.readline().decode().rstrip("\r\n"):
            lines.append(line)
        return lines

    @staticmethod
    def _number(request: list[str]) -> str:
        return next(line for line in request if line.lower().startswith("cseq"))

    def _answer(self, status: str, number: str, head: str = "", body: str = "") -> None:
        self.wfile.write(f"RTSP/1.0 {status}\r\n{number}\r\n{head}\r\n{body}".encode())

    def _play(self) -> None:
        packet = itertools.count()
        for frame in itertools.count():
            picture = np.full((HEIGHT, WIDTH, 3), frame % 200 + 20, np.uint8)
            for payload, last in _payloads(cv2.imencode(".jpg", picture)[1].tobytes()):
                marked = _JPEG | (0x80 if last else 0)
                time = int(frame * FRAME_S * 90_000) & 0xFFFFFFFF
                rtp = struct.pack(">BBHII", 0x80, marked, next(packet) & 0xFFFF, time, 1) + payload
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)
            if self.server.stopped.wait(FRAME_S):
                return


def _payloads(jpeg: bytes) -> list[tuple[bytes, bool]]:
    """A JPEG file's scan in pieces, each behind its RFC 2435 header; the first has the tables."""
    tables, position = b"", 2
    while True:
        marker, length = struct.unpack_from(">HH", jpeg, position)
        segment = jpeg[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == 0xFFDB:
            tables += b"".join(segment[at + 1 : at + 65] for at in range(0, len(segment), 65))
        if marker == 0xFFDA:
            break
    scan = jpeg[position : jpeg.rindex(b"\xff\xd9")]
    pieces = []
    for offset in range(0, len(scan), _PIECE):
        head = struct.pack(">I", offset) + bytes(
            (_TYPE_420, _TABLES_INSIDE, WIDTH // 8, HEIGHT // 8)
        )
        if not offset:
            head += struct.pack(">BBH", 0, 0, len(tables)) + tables
        pieces.append((head + scan[offset : offset + _PIECE], offset + _PIECE >= len(scan)))
    return pieces
