"""Access control: other machines need a token; requests from other sites' pages are refused."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from reid.errors import ConfigError

from .failures import Failures
from .refusals import Refusal
from .users import ANYONE, User, Users

Headers = Mapping[str, str]
"""A request's headers, by their names in lower case."""

_OWN_SITE = ("same-origin", "none")
_PORTS = {"http": 80, "https": 443}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class PublicUrl(NamedTuple):
    """Where users reach the page: ``https://nvr.example/reid/``; empty parts if not known."""

    origin: str = ""
    host: str = ""
    path: str = ""
    """Without a slash at the end; empty at the root."""


@dataclass(frozen=True)
class Access:
    """The checks of a request to the address ``host``.

    Without a ``token`` or a file of ``users`` none is asked for. ``public_url`` is the page's URL
    behind a reverse proxy; ``trusted_proxies`` are the addresses or networks whose
    X-Forwarded-For, -Host and -Proto are believed.

    Raises ConfigError for an address that other machines can reach without a token, for a token
    that is too short or does not fit into a header, and for a malformed URL, network or file of
    users.
    """

    host: str
    token: str = field(default="", repr=False)
    users: Path | None = None
    public_url: str = ""
    trusted_proxies: tuple[str, ...] = ()
    known: Users = field(init=False, repr=False)
    public: PublicUrl = field(init=False, repr=False)
    failures: Failures = field(init=False, repr=False)
    _proxies: tuple[Network, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", Users(self.token, self.users))
        object.__setattr__(self, "public", public_url_from(self.public_url))
        object.__setattr__(self, "failures", Failures())
        object.__setattr__(self, "_proxies", tuple(map(_network, self.trusted_proxies)))
        if not self.known and not is_loopback(self.host):
            raise ConfigError(
                f"{self.host} can be reached from other machines, so a token is needed: set "
                "REID_TOKEN or --token, or --users; or serve on 127.0.0.1"
            )

    def client_of(self, peer: str, headers: Headers) -> str:
        """The client's address: the peer's, or the one that a trusted proxy names."""
        address = peer
        for named in reversed(headers.get("x-forwarded-for", "").split(",")):
            if not self._is_trusted(address):
                break
            if not _is_address(named.strip()):
                break
            address = named.strip()
        return address

    def require_own_page(self, headers: Headers, peer: str) -> None:
        """Refuse requests that another site's page sends through a browser on this machine.

        The Host must be an IP address, localhost, the name that is served on, or the public URL's,
        which a name that an attacker points here (DNS rebinding) is not. The page that the browser
        names (Origin, Sec-Fetch-Site) must be this one: the public URL's, or the Host's. Raises
        Refusal.
        """
        host = headers.get("host", "")
        if self._is_trusted(peer):
            host = headers.get("x-forwarded-host", host).rpartition(",")[2].strip()
        name = _host_name(host)
        own_names = ("localhost", self.host.lower(), self.public.host)
        if name is None or not (name in own_names or _is_address(name)):
            raise Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                "unknown host name; use the address that `reid serve` printed, or start it with "
                "--public-url",
            )
        origin = headers.get("origin")
        own = origin is None or _same_origin(origin, host) or self._is_public(origin)
        if not own or headers.get("sec-fetch-site", "none") not in _OWN_SITE:
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "requests from another site's page are refused; behind a proxy start `reid serve` "
                "with --public-url",
            )

    def user_of(self, headers: Headers, client: str) -> User:
        """The user of ``Authorization: Bearer TOKEN``; raises Refusal without a valid one.

        After many wrong tokens the client's address has to wait, unless its token has been
        accepted from there before.
        """
        if not self.known:
            return ANYONE
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "a token is needed")
        user = self.known.user_of(token)
        wait_s = self.failures.wait_s(client, token)
        if wait_s:
            raise Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"too many wrong tokens from this address; wait {wait_s} s",
                retry_after_s=wait_s,
            )
        if user is None:
            self.failures.add(client)
            raise Refusal(HTTPStatus.UNAUTHORIZED, "the token is wrong")
        self.failures.accepted(client, token)
        return user

    def _is_public(self, origin: str) -> bool:
        return bool(self.public.origin) and _origin(origin) == _origin(self.public.origin)

    def _is_trusted(self, address: str) -> bool:
        if not self._proxies or not _is_address(address):
            return False
        one = ipaddress.ip_address(address)
        return any(one in network for network in self._proxies)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def public_url_from(text: str) -> PublicUrl:
    """The parts of ``--public-url``. Raises ConfigError for a malformed one."""
    if not text:
        return PublicUrl()
    try:
        parts = urlsplit(text)
        port, name = parts.port, parts.hostname
    except ValueError:
        port, name = None, None
    if not name or parts.scheme not in _PORTS or "@" in parts.netloc or parts.query:
        raise ConfigError(
            f"--public-url is the page's address, as https://nvr.example/reid/; found {text!r}"
        )
    shown = f"[{name}]" if ":" in name else name
    origin = f"{parts.scheme}://{shown}" + (f":{port}" if port is not None else "")
    return PublicUrl(origin, name, parts.path.rstrip("/"))


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(
            f"--trusted-proxy is an address or a network, as 10.0.0.0/8; found {text!r}"
        ) from None


def _same_origin(origin: str, host: str) -> bool:
    """Whether a page of this origin came from this Host, encrypted or not."""
    return origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())


def _origin(text: str) -> tuple[str, str | None, int | None] | None:
    """Scheme, host and port; None if it is malformed."""
    try:
        parts = urlsplit(text)
        return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None


def _host_name(host: str) -> str | None:
    """The name in a Host header, without the port; None if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018  (raises for a malformed port)
    except ValueError:
        return None
    return parts.hostname if parts.netloc == host and "@" not in host else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
