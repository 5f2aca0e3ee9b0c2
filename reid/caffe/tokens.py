"""Tokens of protobuf's text format, each with its line and column."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from reid.errors import CaffeError

NAME, NUMBER, STRING, SIGN, END = "name", "number", "string", "sign", "end"

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f\v]+|\#[^\n]*)
      |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<number>-?[ \t]*(?:\.?[0-9](?:[eE][+-]|[0-9A-Za-z_.])*)|-[ \t]*[A-Za-z]+)
      |(?P<string>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')
      |(?P<sign>[{}<>\[\]:;,])""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """One token; ``start`` and ``end`` are positions in the text."""

    kind: str
    text: str
    start: int
    end: int


class Tokens:
    """The tokens of a text, with one token of lookahead. ``where`` names the text in errors."""

    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self.where = where
        self.end = 0  # end of the last token taken
        self._rest = self._tokens()
        self.next = next(self._rest)

    def take(self) -> Token:
        """Return the next token and advance. Raises CaffeError at the end of the text."""
        token = self.next
        if token.kind == END:
            raise self.error("more text", token)
        self.end = token.end
        self.next = next(self._rest)
        return token

    def take_sign(self, signs: str) -> str:
        """If the next token is one of ``signs``, return it and advance; else return ``""``."""
        if self.next.kind == SIGN and self.next.text in signs:
            return self.take().text
        return ""

    def error(self, expected: str, found: Token | None = None) -> CaffeError:
        """An error: ``expected`` against the token ``found`` (by default the next one)."""
        token = self.next if found is None else found
        shown = "the end of the file" if token.kind == END else repr(token.text[:40])
        return self.error_at(token.start, f"expected {expected}, found {shown}")

    def error_at(self, position: int, message: str) -> CaffeError:
        """An error with ``message`` and the line and column of a position."""
        line = self.text.count("\n", 0, position) + 1
        return CaffeError(f"{self.where}:{line}:{self.column(position)}: {message}")

    def column(self, position: int) -> int:
        """Column of a position, from 1."""
        return position - (self.text.rfind("\n", 0, position) + 1) + 1

    def _tokens(self) -> Iterator[Token]:
        position = 0
        while position < len(self.text):
            matched = _TOKEN.match(self.text, position)
            if matched is None:
                raise self.error_at(position, self._no_token(position))
            if matched.lastgroup != "space":
                yield Token(str(matched.lastgroup), matched[0], position, matched.end())
            position = matched.end()
        while True:
            yield Token(END, "", position, position)

    def _no_token(self, position: int) -> str:
        if self.text[position] in "\"'":
            return "expected a string that ends on the same line; close its quotes"
        return f"unexpected character {self.text[position]!r}; remove it"
