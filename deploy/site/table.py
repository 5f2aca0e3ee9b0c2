"""Reading a table of TOML: each value with its type and range, each problem with its place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from reid.errors import nearest
from reid.files import is_regular

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LARGEST_SECRET = 1 << 16


class Table:
    """One table of a file. Reading takes a key away; ``finish`` reports the keys that are left.

    ``place`` is where it stands, as ``camera[2].``; ``problems`` gets a line for each fault, and
    no line has a secret. Paths are relative to ``folder``.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        place: str,
        problems: list[str],
        folder: Path,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.place, self.problems, self.folder = place, problems, folder
        self._values, self._environment = dict(values), environment
        self._known: list[str] = []

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._values

    def wrong(self, key: str, words: str) -> None:
        """Report a problem of a key."""
        self.problems.append(f"{self.place}{key}: {words}")

    def text(self, key: str, default: str = "", choices: Sequence[str] = ()) -> str:
        """A text, perhaps one of a few."""
        value = self._take(key, default, lambda one: isinstance(one, str), "a text")
        if choices and value not in choices:
            self.wrong(
                key,
                f"expected one of {', '.join(choices)}, found {value!r}{nearest(value, choices)}",
            )
            return default
        return str(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """true or false."""
        return bool(self._take(key, default, lambda one: isinstance(one, bool), "true or false"))

    def whole(self, key: str, default: Any = None, least: int = 0, most: int = 1 << 31) -> Any:
        """A whole number, or the default."""
        found = self._take(key, default, lambda one: type(one) is int, "a whole number")
        return self._within(key, found, default, least, most)

    def number(self, key: str, default: Any = None, least: float = 0, most: float = 1e9) -> Any:
        """A number, or the default."""
        found = self._take(key, default, lambda one: type(one) in (int, float), "a number")
        return self._within(key, found, default, least, most)

    def time(self, key: str) -> str:
        """A date and time, of TOML or as a text; empty without one."""
        right = "a date and time, as 2026-05-01T12:30:00Z"
        found = self._take(key, "", lambda one: isinstance(one, (str, datetime)), right)
        return found.isoformat() if isinstance(found, datetime) else str(found)

    def path(self, key: str, *, exists: bool = False) -> Path | None:
        """A path, made absolute by the file's folder; None without one."""
        text = self.text(key)
        if not text:
            return None
        path = self.folder / text
        if exists and not path.exists():
            self.wrong(key, f"{path} is not there")
        return path

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""

        def right(one: Any) -> bool:
            return isinstance(one, list) and all(isinstance(text, str) for text in one)

        return tuple(self._take(key, [], right, "a list of texts"))

    def secret(self, key: str) -> str:
        """A text in which ``${NAME}`` is of the environment, or a file: ``{file = "..."}``."""

        def right(one: Any) -> bool:
            named = isinstance(one, dict) and [*one] == ["file"] and isinstance(one["file"], str)
            return isinstance(one, str) or named

        words = 'a text, "${NAME}" for one of the environment, or {file = "..."}'
        found = self._take(key, "", right, words, shown=False)
        if isinstance(found, dict):
            return self._from_file(key, self.folder / found["file"])
        return self._expanded(key, found)

    def table(self, key: str) -> Table | None:
        """A table inside this one; None without it."""
        found = self._take(key, None, lambda one: isinstance(one, dict), f"a table, [{key}]")
        return None if found is None else self._inner(found, f"{self.place}{key}.")

    def tables(self, key: str) -> list[Table]:
        """A list of tables."""

        def right(one: Any) -> bool:
            return isinstance(one, list) and all(isinstance(item, dict) for item in one)

        found = self._take(key, [], right, f"tables, each with [[{key}]]")
        return [
            self._inner(one, f"{self.place}{key}[{number}].") for number, one in enumerate(found, 1)
        ]

    def raw(self, key: str) -> Any:
        """The value as it is; None without one."""
        return self._take(key, None, lambda one: True, "")

    def rest(self) -> dict[str, Any]:
        """All keys that were not read, for a table whose keys are names."""
        found, self._values = self._values, {}
        return found

    def finish(self) -> None:
        """Report what was not read."""
        for key in self._values:
            self.problems.append(f"{self.place}{key}: unknown key{nearest(key, self._known)}")

    def _inner(self, values: Mapping[str, Any], place: str) -> Table:
        return Table(values, place, self.problems, self.folder, self._environment)

    def _take(
        self, key: str, default: Any, right: Callable[[Any], bool], words: str, shown: bool = True
    ) -> Any:
        self._known.append(key)
        if key not in self._values:
            return default
        value = self._values.pop(key)
        if right(value):
            return value
        self.wrong(key, f"expected {words}, found {_kind(value)}")
        return default

    def _within(self, key: str, found: Any, default: Any, least: float, most: float) -> Any:
        if found is None or found is default or least <= found <= most:
            return found
        self.wrong(key, f"expected a number from {least:g} to {most:g}, found {found}")
        return default

    def _expanded(self, key: str, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            found = self._environment.get(match[1], "").strip()
            if not found:
                self.wrong(key, f"{match[0]} is not set in the environment, or empty")
            return found

        return _VARIABLE.sub(value, text)

    def _from_file(self, key: str, path: Path) -> str:
        try:
            if not is_regular(path) or path.stat().st_size > _LARGEST_SECRET:
                self.wrong(key, f"{path} is not a file with a secret")
                return ""
            found = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            self.wrong(key, f"{path}: {getattr(error, 'strerror', None) or 'not valid UTF-8'}")
            return ""
        if not found or "\n" in found:
            self.wrong(key, f"{path}: expected one line with the secret")
        return found


def _kind(value: Any) -> str:
    """A value's type: its text may be a secret."""
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    names |= {list: "a list", dict: "a table", datetime: "a time"}
    return names.get(type(value), type(value).__name__)
