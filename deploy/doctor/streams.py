"""What the FFmpeg inside OpenCV can open, and which TLS library it brings."""

from __future__ import annotations

import ctypes
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

import cv2

from ..cameras.sources import SCHEMES
from ..cameras.tls import PORTS

MAPS = Path("/proc/self/maps")
"""The libraries of this process."""

_LIBRARY = re.compile(r"\s(/\S*/lib(avformat|avutil|crypto)[-.][^/\s]*)$", re.MULTILINE)
_PROTOCOL = {"rtsp": "tcp", "rtsps": "tls", "rtp": "rtp"}
"""Schemes that are a demuxer over this protocol."""


@dataclass(frozen=True, slots=True)
class Streams:
    """FFmpeg's and OpenSSL's versions, empty where unknown, and FFmpeg's input protocols."""

    ffmpeg: str = ""
    openssl: str = ""
    protocols: frozenset[str] = frozenset()

    def words(self) -> str:
        """One line for the user."""
        if not self.protocols:
            return "this OpenCV has no FFmpeg whose abilities could be asked for"
        can = [one for one in SCHEMES if _PROTOCOL.get(one, one) in self.protocols]
        cannot = [one for one in SCHEMES if one not in can]
        words = f"OpenCV's FFmpeg {self.ffmpeg} opens {', '.join(can)}"
        words += f"; not {', '.join(cannot)}" if cannot else ""
        if any(one in can for one in PORTS):
            words += (
                f"; encrypted by {self.openssl or 'an unknown TLS library'}; certificates are "
                f"checked with {ssl.OPENSSL_VERSION} before a stream is opened"
            )
        return words


def find_streams(maps: Path = MAPS) -> Streams:
    """Ask the libraries that OpenCV has loaded into this process."""
    cv2.videoio_registry.getStreamBackends()
    try:
        text = maps.read_text(encoding="utf-8", errors="replace")
        found: dict[str, list[str]] = {}
        for path, name in _LIBRARY.findall(text):
            found.setdefault(name, []).append(path)
        if "avformat" not in found:
            return Streams()
        format_ = found["avformat"][0]
        folder = str(Path(format_).parent)
        crypto = [path for path in found.get("crypto", []) if path.startswith(folder + "/")]
        return Streams(
            _text(found.get("avutil", [format_])[0], "av_version_info"),
            _text(crypto[0], "OpenSSL_version", 0) if crypto else "",
            frozenset(_protocols(format_)),
        )
    except (OSError, AttributeError):  # another system, or a library without these functions
        return Streams()


def _text(library: str, function: str, *arguments: int) -> str:
    call = getattr(ctypes.CDLL(library), function)
    call.restype = ctypes.c_char_p
    return (call(*arguments) or b"").decode("ascii", "replace")


def _protocols(library: str) -> list[str]:
    call = ctypes.CDLL(library).avio_enum_protocols
    call.argtypes, call.restype = (ctypes.POINTER(ctypes.c_void_p), ctypes.c_int), ctypes.c_char_p
    state, found = ctypes.c_void_p(), []
    while name := call(ctypes.byref(state), 0):
        found.append(name.decode("ascii", "replace"))
    return found
