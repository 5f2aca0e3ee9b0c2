"""What a user names as a source: ``NAME=URL`` or ``URL``, and what of it may be shown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reid.errors import ConfigError

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtp", "srt", "http", "https", "tcp", "udp")
"""Schemes of network streams."""

_NAMED = re.compile(r"([\w.-]+)=(.+)", re.DOTALL)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]*)(:\d{1,5})?")
_DEVICE = re.compile(r"(?:/dev/video)?(\d{1,4})")
_SECRETIVE = re.compile(r"[@?]|:/|//")
"""What a mistyped address has, and hardly a file: it may hold a password."""
_NO_TEXT = re.compile(r"[\ud800-\udfff]")
"""What Python makes of a file name's bytes that are no UTF-8."""


@dataclass(frozen=True, slots=True)
class CameraSource:
    """One source. ``kind`` is ``video``, ``folder``, ``device`` or ``stream``.

    ``url`` is what the decoder opens and may hold a password: nothing prints it. ``shown`` is
    the part that messages may name. A ``live`` source gives its newest frame; one that is not
    gives every frame in its order.
    """

    name: str
    kind: str
    url: str = field(repr=False)
    shown: str
    live: bool


def is_text(name: str) -> bool:
    """Whether OpenCV may be given a name: one that is no UTF-8 ends the whole process there."""
    return not _NO_TEXT.search(name)


def parse_sources(words: Sequence[str], live: bool = False) -> tuple[CameraSource, ...]:
    """Sources from ``NAME=URL`` or ``URL``; ``live`` makes files play at their own speed.

    Without NAME a source is called after its file, folder, device or host. Raises ConfigError
    for two sources of one name or one that is no UTF-8, for a file that is not there, and for an
    address of an unknown kind; no message shows more of an address than its scheme, host and
    port.
    """
    if not words:
        raise ConfigError("there is no source; name one: a video, a folder, /dev/video0, rtsp://…")
    sources = tuple(_source(word, live) for word in words)
    for source in sources:
        if not is_text(source.name):
            raise ConfigError(f"{source.shown}: its name is no UTF-8; name it: --source NAME=URL")
    counts = Counter(source.name for source in sources)
    for name, count in counts.items():
        if count > 1:
            raise ConfigError(
                f"{count} sources have the name {name!r}; give each its own: --source NAME=URL"
            )
    return sources


def _source(word: str, live: bool) -> CameraSource:
    named = _NAMED.fullmatch(word)
    name, url = named.groups() if named else ("", word)
    scheme = _SCHEME.fullmatch(url)
    if scheme:
        return _stream(name, url, scheme[1].lower(), scheme[2])
    device = _DEVICE.fullmatch(url)
    if device:
        file = f"/dev/video{device[1]}"
        return CameraSource(name or f"video{device[1]}", "device", file, file, True)
    path = Path(url)
    if not path.exists():
        shown = "what looks like an address" if _SECRETIVE.search(url) else url
        raise ConfigError(
            f"{shown}: no such video or folder; expected [NAME=]URL, NAME of letters, digits and "
            "._- only, URL a file, a folder, /dev/videoN, or one of "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)}"
        )
    kind = "folder" if path.is_dir() else "video"
    return CameraSource(name or path.resolve().stem, kind, str(path.resolve()), str(path), live)


def _stream(name: str, url: str, scheme: str, rest: str) -> CameraSource:
    if scheme not in SCHEMES:
        raise ConfigError(
            f"sources of the scheme {scheme}:// are not known; one of {', '.join(SCHEMES)}"
        )
    host = _host(rest)
    if not (name or host):
        raise ConfigError(f"a {scheme}:// source without a clear host needs a name: NAME=URL")
    return CameraSource(name or host, "stream", url, f"{scheme}://{host or '...'}", True)


def _host(rest: str) -> str:
    """``host:port`` of what follows ``://``, or empty where a password may be mistaken for it.

    Passwords with ``/``, ``?`` or ``#`` in them end the address early for a parser; an ``@``
    behind the first of these shows that.
    """
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    if "@" in rest[len(authority) :] or not _HOST.fullmatch(host):
        return ""
    return host
