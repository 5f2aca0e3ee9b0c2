"""Users: named tokens, kept as SHA-256 in a TOML file that is read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.errors import ConfigError, few_of, nearest
from reid.progress import Say, say

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SEARCH, CONFIRM, EXPORT = "search", "confirm", "export"
RIGHTS = (SEARCH, CONFIRM, EXPORT)
"""What a user may do: look and search, keep verdicts, take evidence away, erase."""

MIN_TOKEN_CHARACTERS = 16
TOKEN_USER = "token"
"""The user of REID_TOKEN, which names no person."""

_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")
_MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class User:
    """A user and what he or she may do; the name is empty where no token is needed."""

    name: str
    may: tuple[str, ...] = RIGHTS


ANYONE = User("")
"""The user of an address that only this machine reaches, where no token is needed."""


def token_hash(token: str) -> str:
    """How a token is kept: hexadecimal SHA-256."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def new_user(name: str, may: Sequence[str] = RIGHTS) -> tuple[str, str]:
    """A new token, and the lines for the file of users. Raises ConfigError for a malformed name."""
    _require_name(name, "the name")
    _rights(list(may), name, "the command")
    token = secrets.token_urlsafe()
    lines = [f'[users."{name}"]', f'token_sha256 = "{token_hash(token)}"']
    if tuple(may) != RIGHTS:
        lines.append(f"may = [{', '.join(f'{one!r}' for one in may)}]".replace("'", '"'))
    return token, "\n".join(lines)


def require_token(token: str) -> None:
    """Raise ConfigError for a token that is too short or does not fit into a header."""
    if token and len(token) < MIN_TOKEN_CHARACTERS:
        raise ConfigError(
            f"a token has at least {MIN_TOKEN_CHARACTERS} characters; make one: "
            'python -c "import secrets; print(secrets.token_urlsafe())"'
        )
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError("a token consists of ASCII letters, digits and signs, without spaces")


class Users:
    """The users of a server: those of ``file``, and one of ``token``; safe in all threads.

    The file is read again when it changed. If it then cannot be read, the users stay as they
    were, and ``say`` gets a line. Raises ConfigError for a malformed file or token.
    """

    def __init__(self, token: str = "", file: Path | None = None, say: Say = say) -> None:
        require_token(token)
        self._token = {token_hash(token): User(TOKEN_USER)} if token else {}
        self._file, self._say = file, say
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] = _stamp(file) if file else ()
        self._users = users_from_file(file) if file else {}

    def __bool__(self) -> bool:
        """Whether a token is needed."""
        return bool(self._token) or self._file is not None

    def user_of(self, token: str) -> User | None:
        """The user of a token, compared with all of them in constant time; None for no user's."""
        self._refresh()
        given, found = token_hash(token), None
        for known, user in (*self._token.items(), *self._users.items()):
            if hmac.compare_digest(known, given):
                found = user
        return found

    def _refresh(self) -> None:
        if self._file is None:
            return
        with self._lock:
            stamp = _stamp(self._file)
            if stamp == self._seen:
                return
            self._seen = stamp
            try:
                self._users = users_from_file(self._file)
            except ConfigError as error:
                self._say(f"reid: {error}; the users stay as they were")


def users_from_file(file: Path) -> dict[str, User]:
    """Hash of a token -> its user. Raises ConfigError for a file that is malformed."""
    try:
        with open(file, "rb") as opened:
            content = opened.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror or error}") from None
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(f"{file} has more than {_MAX_FILE_BYTES:,} bytes")
    try:
        body = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not a TOML file ({error})") from None
    table = body.get("users")
    if set(body) != {"users"} or not isinstance(table, dict) or not table:
        raise ConfigError(f'{file} needs tables [users."NAME"], and nothing else')
    found: dict[str, User] = {}
    for name, row in table.items():
        _require_name(name, str(file))
        digest, user = _user(name, row, file)
        if digest in found:
            raise ConfigError(f"{file}: {name} and {found[digest].name} have the same token")
        found[digest] = user
    return found


def _user(name: str, row: Any, file: Path) -> tuple[str, User]:
    keys = ("token_sha256", "may")
    if not isinstance(row, dict) or "token_sha256" not in row or not set(row) <= set(keys):
        raise ConfigError(f'{file}: [users."{name}"] has token_sha256, and may have "may"')
    digest = row["token_sha256"]
    if not isinstance(digest, str) or not _HASH.fullmatch(digest.lower()):
        raise ConfigError(
            f"{file}: token_sha256 of {name} is a SHA-256 of 64 hexadecimal digits; make one with "
            f"reid serve-token {name}"
        )
    return digest.lower(), User(name, _rights(row.get("may", list(RIGHTS)), name, str(file)))


def _rights(may: Any, name: str, place: str) -> tuple[str, ...]:
    if not isinstance(may, list) or not all(isinstance(one, str) for one in may):
        raise ConfigError(f"{place}: may of {name} is a list of {few_of(RIGHTS, len(RIGHTS))}")
    for one in may:
        if one not in RIGHTS:
            raise ConfigError(
                f"{place}: {name} may have {few_of(RIGHTS, len(RIGHTS))}; found "
                f"{one!r}{nearest(one, RIGHTS)}"
            )
    return tuple(one for one in RIGHTS if one in may)


def _require_name(name: str, place: str) -> None:
    if not _NAME.fullmatch(name) or name == TOKEN_USER:
        raise ConfigError(
            f"{place}: a user's name has 1 to 64 letters, digits and . _ @ -, and is not "
            f"{TOKEN_USER!r}; found {name[:80]!r}"
        )


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        status = os.stat(file)
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns
