"""The words of protobuf's text format, each with its line and column."""

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
    """One word; ``start`` and ``end`` are positions in the text."""

    kind: str
    text: str
    start: int
    end: int


class Tokens:
    """The words of one text, one looked at ahead. ``where`` is what errors call the text."""

    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self.where = where
        self.end = 0  # where the last word that was taken ends
        self._rest = self._words()
        self.next = next(self._rest)

    def take(self) -> Token:
        """The next word, which is passed by. Raises CaffeError at the text's end."""
        token = self.next
        if token.kind == END:
            raise self.error("more text", token)
        self.end = token.end
        self.next = next(self._rest)
        return token

    def take_sign(self, signs: str) -> str:
        """The next word if it is one of ``signs``, passed by; else an empty string."""
        if self.next.kind == SIGN and self.next.text in signs:
            return self.take().text
        return ""

    def error(self, expected: str, found: Token | None = None) -> CaffeError:
        """What stands at ``found`` (by default the next word) instead of ``expected``."""
        token = self.next if found is None else found
        shown = "the end of the file" if token.kind == END else repr(token.text[:40])
        return self.error_at(token.start, f"expected {expected}, found {shown}")

    def error_at(self, position: int, message: str) -> CaffeError:
        """``message`` with the line and column of a position."""
        line = self.text.count("\n", 0, position) + 1
        return CaffeError(f"{self.where}:{line}:{self.column(position)}: {message}")

    def column(self, position: int) -> int:
        """Column of a position, from 1."""
        return position - (self.text.rfind("\n", 0, position) + 1) + 1

    def _words(self) -> Iterator[Token]:
        position = 0
        while position < len(self.text):
            matched = _TOKEN.match(self.text, position)
            if matched is None:
                raise self.error_at(position, self._no_word(position))
            if matched.lastgroup != "space":
                yield Token(str(matched.lastgroup), matched[0], position, matched.end())
            position = matched.end()
        while True:
            yield Token(END, "", position, position)

    def _no_word(self, position: int) -> str:
        if self.text[position] in "\"'":
            return "a string that does not end on its line; close its quotes"
        return f"{self.text[position]!r} does not belong into a prototxt"
