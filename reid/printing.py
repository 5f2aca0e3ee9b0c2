"""Printing text that holds names of files, people and cameras, which anybody may have chosen.

A terminal acts on control characters, and turns text round at bidirectional overrides: they are
shown as escapes such as ``\\x1b``. So are characters that the output's encoding does not have.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, TextIO

LINES = "\n\t"
"""What text of several lines keeps; a name keeps neither."""

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # order, line ends
    "\ud800-\udfff"  # bytes of file names that are not UTF-8
    "\U000e0000-\U000e007f]"  # invisible letters
)


def printable(text: object, keep: str = "") -> str:
    """The text, with escapes for what a terminal would act on, other than characters in ``keep``.

    >>> print(reid.printing.printable("door\\x1b[2J\\n"))
    door\\x1b[2J\\n
    """
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), str(text))


def show(text: str) -> None:
    """Print results for the user on stdout. Raises OSError where it cannot be written."""
    if sys.stdout is not None:
        write_to(sys.stdout, f"{text}\n")
        sys.stdout.flush()


def json_text(found: Any, indent: int | None = 2) -> str:
    """JSON in printable ASCII, which ``show`` prints as it is."""
    return json.dumps(found, indent=indent).replace("\x7f", "\\u007f")


def write_to(stream: TextIO, text: str, keep: str = LINES) -> None:
    """Write text to a terminal or log, in characters that its encoding has. Raises OSError."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(printable(text, keep).encode(encoding, "backslashreplace").decode(encoding))


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # as Python decodes a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:x}"
    return repr(character)[1:-1]
