"""Sources as a user writes them, ``NAME=URL`` or ``URL``, and the part that may be shown."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reid.errors import ConfigError

from .masks import Polygon
from .secrets import REMEDY, expanded, from_files, has_variable, mended
from .tls import SYSTEMS_OWN, TlsTrust

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtp", "srt", "http", "https", "tcp", "udp")
"""Schemes of network streams."""

_NAMED = re.compile(r"([\w.-]+)=(.+)", re.DOTALL)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]*)(:\d{1,5})?")
_DEVICE = re.compile(r"(?:/dev/video)?(\d{1,4})")
_LOGIN = re.compile(r"://[^/?#@]*:[^@]+@|[?&](?:p|pw|pwd|pass|password|token|key)=", re.IGNORECASE)
_SECRETIVE = re.compile(r"[@?#:=&$;|\\]|//")
"""Signs of a mistyped URL, rare in file names: it may hold a password."""
_NO_TEXT = re.compile(r"[\ud800-\udfff]")
"""How Python decodes bytes of a file name that are not valid UTF-8."""


@dataclass(frozen=True, slots=True)
class CameraSource:
    """One source. ``kind`` is ``video``, ``folder``, ``device`` or ``stream``.

    ``url`` is for the decoder and may hold a password: nothing prints it. ``shown`` is the part
    for messages. A ``live`` source gives its newest frame, any other every frame in order.
    """

    name: str
    kind: str
    url: str = field(repr=False)
    shown: str
    live: bool
    tls: TlsTrust = SYSTEMS_OWN
    """For an encrypted stream: the certificates to trust."""
    mask: tuple[Polygon, ...] = ()
    """What is blackened in every frame."""


def is_text(name: str) -> bool:
    """Whether a name is valid UTF-8: OpenCV ends the whole process for any other."""
    return not _NO_TEXT.search(name)


def parse_sources(
    words: Sequence[str],
    live: bool = False,
    environment: Mapping[str, str] = os.environ,
    tls: TlsTrust = SYSTEMS_OWN,
) -> tuple[CameraSource, ...]:
    """Sources from ``NAME=URL``, ``URL`` or ``@FILE``; ``live`` plays files at their own speed.

    ``${NAME}`` in a URL is taken from ``environment``. What exists as a file or folder is that,
    whatever else its name could mean. Without NAME a source is named after its file, folder,
    device or host. Raises ConfigError for two sources with one name, a name that is not valid
    UTF-8, a missing file, a pipe, and a URL with an unknown scheme; messages show no more of a URL
    than its scheme, host and port.
    """
    written = [word for word, _ in from_files(words)]
    if not written:
        raise ConfigError("no source given; name one: a video, a folder, /dev/video0, rtsp://…")
    tls.check()
    sources = tuple(
        dataclasses.replace(_source(word, live, environment), tls=tls) for word in written
    )
    for source in sources:
        if not is_text(source.name):
            raise ConfigError(
                f"{source.shown}: its name is not valid UTF-8; give it one: --source NAME=URL"
            )
    counts = Counter(source.name for source in sources)
    for name, count in counts.items():
        if count > 1:
            raise ConfigError(
                f"{count} sources have the name {name!r}; give each its own: --source NAME=URL"
            )
    return sources


def shows_password(words: Sequence[str]) -> bool:
    """Whether a password stands in the command line itself, where ``ps`` shows it."""
    return any(
        _LOGIN.search(word) is not None
        for word, from_file in from_files(words)
        if not from_file and not has_variable(word)
    )


def _source(word: str, live: bool, environment: Mapping[str, str]) -> CameraSource:
    named = None if _exists(word) else _NAMED.fullmatch(word)
    name, url = named.groups() if named else ("", word)
    if not _exists(url):
        url = expanded(url, environment)
        scheme = _SCHEME.fullmatch(url)
        if scheme:
            return _stream(name, scheme[1].lower(), scheme[2])
    device = _DEVICE.fullmatch(os.path.realpath(url) if _exists(url) else url)
    if device and not (_exists(url) and url.isdecimal()):
        file = f"/dev/video{device[1]}"
        return CameraSource(name or f"video{device[1]}", "device", file, file, True)
    return _file(name, url, live)


def _file(name: str, url: str, live: bool) -> CameraSource:
    path = Path(url)
    if not _exists(url):
        shown = "this URL" if _SECRETIVE.search(url) else url
        raise ConfigError(
            f"{shown}: no such video or folder; expected [NAME=]URL: NAME of letters, digits and "
            "._- only, URL a file, a folder, /dev/videoN, or one of "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)}"
        )
    if not (path.is_dir() or path.is_file()):
        raise ConfigError(
            f"{path} is a pipe, socket or device; expected a video file, a folder, /dev/videoN or "
            "a URL"
        )
    kind = "folder" if path.is_dir() else "video"
    return CameraSource(name or path.resolve().stem, kind, str(path.resolve()), str(path), live)


def _exists(word: str) -> bool:
    if not word:
        raise ConfigError("a source is empty; is a variable of the shell not set?")
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return False


def _stream(name: str, scheme: str, rest: str) -> CameraSource:
    if scheme not in SCHEMES:
        raise ConfigError(f"unknown scheme {scheme}://; expected one of {', '.join(SCHEMES)}")
    host = _host(rest)
    if not (name or host):
        raise ConfigError(
            f"this {scheme}:// URL has no clear host, so it needs a name: NAME=URL; {REMEDY}"
        )
    url = mended(scheme, rest)
    return CameraSource(name or host, "stream", url, f"{scheme}://{host or '...'}", True)


def _host(rest: str) -> str:
    """``host:port`` of the text after ``://``; empty if it may be part of a password.

    A password with ``/``, ``?`` or ``#`` ends the host too early for a parser; an ``@`` after the
    first of these shows that.
    """
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    if "@" in rest[len(authority) :] or not _HOST.fullmatch(host):
        return ""
    return host
