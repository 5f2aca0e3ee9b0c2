"""Read a text file of labels from an outside source."""

from __future__ import annotations

from pathlib import Path

from reid.errors import DataError

MAX_BYTES = 1 << 28
"""About three million lines; a longer file is not a list of labels."""


def read_text_file(path: Path) -> str:
    """Read UTF-8 text, with or without a byte-order mark; line ends are kept.

    Raises DataError if the file is missing, too long, or not text.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected the dataset's list of images") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path}: over {MAX_BYTES >> 20} MB; expected a list of images")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8 text; save the list as UTF-8"
        ) from error
    before, nul, _ = text.partition("\0")
    if nul:
        line = before.count("\n") + 1
        raise DataError(f"{path}, line {line}: found a NUL character; expected a text file")
    return text
