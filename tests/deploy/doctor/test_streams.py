"""What doctor says of cameras, from the libraries that OpenCV brings."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import cv2

from reid.deploy.doctor.streams import Streams, find_streams


def test_the_libraries_inside_opencv_are_asked() -> None:
    found = find_streams()
    has_ffmpeg = bool(re.search(r"FFMPEG: +YES", cv2.getBuildInformation()))
    assert has_ffmpeg or not found.protocols
    if found.protocols:  # not where the libraries of a process cannot be listed
        assert {"tcp", "http"} <= found.protocols
        assert found.ffmpeg[0].isalnum()


def test_the_line_names_what_opens_what_does_not_and_who_checks_certificates() -> None:
    words = Streams("8.1", "OpenSSL 1.1.1k", frozenset({"tcp", "tls", "http", "https"})).words()
    assert words.startswith("OpenCV's FFmpeg 8.1 opens rtsp, rtsps, http, https, tcp; not rtmp, ")
    assert "encrypted by OpenSSL 1.1.1k" in words
    assert f"checked with {ssl.OPENSSL_VERSION}" in words
    plain = Streams("8.1", "", frozenset({"tcp", "http"})).words()
    assert "not rtsps" in plain
    assert "checked" not in plain


def test_without_these_libraries_doctor_goes_on(tmp_path: Path) -> None:
    for text in (None, "", "7f00 r-xp 0 0 0  /nowhere/libavformat-1.so.1\n"):
        if text is not None:
            (tmp_path / "maps").write_text(text)
        assert "no FFmpeg" in find_streams(tmp_path / "maps").words()
