"""Passwords of cameras that stand neither in the command line nor in a message.

A command line can be read by every user of the machine (``ps``). ``${NAME}`` in a source is taken
from the environment, and ``@FILE`` stands for the sources in a file, one a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from reid.errors import ConfigError
from reid.files import is_regular

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ESCAPED = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNRESERVED = "-._~!$&'()*+,;=%"
_LARGEST_FILE = 1 << 20
REMEDY = "in a user or password write # as %23, / as %2F, ? as %3F, @ as %40, : as %3A"


def from_files(words: Sequence[str]) -> list[tuple[str, bool]]:
    """The sources, with the lines of a file in place of ``@FILE``, and whether each is from a file.

    Empty lines and lines that begin with # are left out. Raises ConfigError, which shows no line.
    """
    found: list[tuple[str, bool]] = []
    for word in words:
        if word.startswith("@") and not Path(word).exists():
            found += [(line, True) for line in _lines(Path(word[1:]))]
        else:
            found.append((word, False))
    return found


def _lines(path: Path) -> list[str]:
    try:
        if not is_regular(path):
            raise ConfigError(f"@FILE names a file of sources; {path} is not a regular file")
        if path.stat().st_size > _LARGEST_FILE:
            raise ConfigError(f"{path}: {path.stat().st_size:,} bytes are no list of sources")
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:  # its name may be a part of an address: it is not shown
        raise ConfigError("@FILE names a file with one [NAME=]URL a line: no such file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not valid UTF-8; expected one [NAME=]URL a line") from None
    except OSError as error:
        raise ConfigError(f"@FILE names a file of sources: {error.strerror}") from None
    return [line for line in lines if line and not line.startswith("#")]


def expanded(url: str, environment: Mapping[str, str]) -> str:
    """``url`` with the values of its ``${NAME}``.

    Between ``://`` and ``@`` a value may be a password, or user:password: what would end it there
    is escaped. Raises ConfigError for a variable that is not set; values are never shown.
    """

    def value(match: re.Match[str]) -> str:
        text = environment.get(match[1], "").strip()
        if not text:
            shown = match[0] if match[1].isupper() else "a variable"
            raise ConfigError(f"{shown} of --source is not set in the environment, or empty")
        before, behind = url[: match.start()], url[match.end() :]
        login = (
            "://" in before and "@" in behind and not re.search(r"[/?#@]", before.split("://")[1])
        )
        return escaped(text, keep_colon=before.endswith("://")) if login else text

    return _VARIABLE.sub(value, url)


def has_variable(url: str) -> bool:
    """Whether there is a ``${NAME}`` to be replaced."""
    return bool(_VARIABLE.search(url))


def escaped(text: str, keep_colon: bool = False) -> str:
    """A user, a password or ``user:password`` as an address has it; its own %23 and so on stay."""
    first, colon, rest = text.partition(":") if keep_colon else (text, "", "")
    parts = (quote(_ESCAPED.sub("%25", part), safe=_UNRESERVED) for part in (first, rest))
    return colon.join(parts) if colon else next(parts)


def mended(scheme: str, rest: str) -> str:
    """An address whose password has a ``/``, ``?`` or ``#``, so that a decoder can part it.

    Only where it cannot mean anything else: what stands before the first of these is not
    a ``host:port``, and an ``@`` follows. Any other address is returned unchanged.
    """
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host, colon, port = authority.partition(":")
    parts = host and colon and not host.startswith("[") and not port.isdecimal()  # no host:port
    if "@" in authority or "@" not in rest or not parts:
        return f"{scheme}://{rest}"
    login, _, behind = rest.rpartition("@")
    return f"{scheme}://{escaped(login, keep_colon=True)}@{behind}"
