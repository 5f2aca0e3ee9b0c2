"""The names of Milvus galleries: ``milvus://[user:password@]host:port/collection[?options]``.

The options, joined by ``&``: ``tls``, and ``search_s=5``, the seconds that a search may take.
Without a host the collection is in a file of Milvus Lite: ``milvus:FOLDER/file.db/collection``.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from reid.errors import ConfigError

from .milvus_connection import SEARCH_S

DEFAULT_PORT = 19530

_COLLECTION = re.compile(r"[A-Za-z_]\w{0,200}", re.ASCII)


class Address(NamedTuple):
    """Where a gallery is; ``name`` is for messages, without credentials."""

    name: str
    uri: str
    token: str
    collection: str
    search_s: float


def address_from(name: str) -> Address:
    """The parts of a gallery's name. Raises ConfigError for a malformed one."""
    try:
        parts = urlsplit(name)
        host, port = parts.hostname, parts.port
        place, _, collection = parts.path.rpartition("/")
        if not _COLLECTION.fullmatch(collection) or not (host or place):
            raise ValueError("no collection")
        options = _options(parts.query)
        if parts.fragment:
            raise ValueError("unknown option")
    except ValueError:
        raise ConfigError(
            "a Milvus gallery is named milvus://host:port/collection, with ?tls at the end for an "
            "encrypted connection and &search_s=5 for 5 s per search, or milvus:FILE.db/collection "
            f"for Milvus Lite; found {without_secrets(name)}"
        ) from None
    user, password = (unquote(word or "") for word in (parts.username, parts.password))
    token = f"{user}:{password}" if user or password else ""
    scheme = "https" if "tls" in options else "http"
    uri = f"{scheme}://{host}:{port or DEFAULT_PORT}" if host else place
    limit_s = float(options.get("search_s", SEARCH_S))
    return Address(without_secrets(name), uri, token, collection, limit_s)


def without_secrets(name: str) -> str:
    """The name without a user and a password."""
    return re.sub(r"//.*@", "//", name)


def _options(query: str) -> dict[str, str]:
    """Raises ValueError; a misspelt tls would send the password unencrypted."""
    options = dict(parse_qsl(query, keep_blank_values=True))
    if options.get("tls") or not options.keys() <= {"tls", "search_s"}:
        raise ValueError("unknown option")
    if "search_s" in options and not 0 < float(options["search_s"]) < math.inf:
        raise ValueError("impossible time")
    return options
