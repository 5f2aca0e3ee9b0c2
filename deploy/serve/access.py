"""Access control: other machines need a token; requests from other sites' pages are refused."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from urllib.parse import urlsplit

from reid.errors import ConfigError

MIN_TOKEN_CHARACTERS = 16

_OWN_SITE = ("same-origin", "none")


class Refusal(Exception):
    """A request is refused with this status and one line."""

    def __init__(self, status: HTTPStatus, line: str) -> None:
        super().__init__(line)
        self.status = status


@dataclass(frozen=True, slots=True)
class Access:
    """The checks of a request to the address ``host``; an empty ``token`` asks for none.

    Raises ConfigError for an address that other machines can reach without a token, for a token
    that is too short, and for one that does not fit into a header.
    """

    host: str
    token: str = ""

    def __post_init__(self) -> None:
        if self.token and len(self.token) < MIN_TOKEN_CHARACTERS:
            raise ConfigError(
                f"a token has at least {MIN_TOKEN_CHARACTERS} characters; make one: "
                'python -c "import secrets; print(secrets.token_urlsafe())"'
            )
        if not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise ConfigError("a token consists of ASCII letters, digits and signs, without spaces")
        if not self.token and not is_loopback(self.host):
            raise ConfigError(
                f"{self.host} can be reached from other machines, so a token is needed: set "
                "REID_TOKEN or --token; or serve on 127.0.0.1"
            )

    def require_own_page(self, headers: Message[str, str]) -> None:
        """Refuse requests that another site's page sends through a browser on this machine.

        The Host must be an IP address, localhost or the name that is served on, which a name
        that an attacker points here (DNS rebinding) is not. The page that the browser names
        (Origin, Sec-Fetch-Site) must be this one. Raises Refusal.
        """
        host = headers.get("Host", "")
        name = _host_name(host)
        if name is None or not (name in ("localhost", self.host.lower()) or _is_address(name)):
            raise Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                "unknown host name; use the address that `reid serve` printed",
            )
        origin = headers.get("Origin")
        own = origin is None or origin.lower() in (
            f"http://{host}".lower(),
            f"https://{host}".lower(),
        )
        if not own or headers.get("Sec-Fetch-Site", "none") not in _OWN_SITE:
            raise Refusal(HTTPStatus.FORBIDDEN, "requests from another site's page are refused")

    def require_token(self, headers: Message[str, str]) -> None:
        """Raises Refusal without ``Authorization: Bearer TOKEN``, if a token is needed."""
        if not self.token:
            return
        said = headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(said, f"Bearer {self.token}".encode()):
            raise Refusal(HTTPStatus.UNAUTHORIZED, "a token is needed")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
