"""Read a text file of labels from an outside source."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from reid.data.file_bytes import read_file
from reid.errors import DataError, nearest

MAX_BYTES = 1 << 28
"""About three million lines; a longer file is not a list of labels."""

ROWS_AT_ONCE = 20_000
"""Rows between two calls of ``progress``."""

Progress = Callable[[int, int], object]
"""Called with (lines read, lines in all)."""

_NAMES_KEPT = 1 << 16
"""Names whose spelling is remembered: each comes with many images."""

_WHOLE_NUMBER = re.compile(r"(\d{1,18})\.0", re.ASCII)


def read_text_file(path: Path) -> str:
    """Read UTF-8 text, with or without a byte-order mark; line ends are kept.

    Raises DataError if the file is missing, a pipe or device, too long, or not text.
    """
    data = read_file(path, MAX_BYTES, "file")
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


def read_table(
    source: Path,
    columns: Sequence[str],
    needed: Sequence[str],
    progress: Progress | None = None,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers of a CSV file, and the values of the known ``columns``, stripped.

    The first line names the columns, in any order; other columns are ignored, and so are rows
    without a value, which spreadsheets leave at the end. Separated by commas or semicolons.
    Raises DataError where a ``needed`` column is missing, for an unclosed quote, and for a row
    that is longer than the first line.
    """
    text = read_text_file(source)
    header, total = text.partition("\n")[0], text.count("\n") + 1
    delimiter = ";" if header.count(";") > header.count(",") else ","
    # Strict: otherwise an unclosed quote would swallow the following lines.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        _require_columns(source, names, columns, needed)
        places = {name: names.index(name) for name in columns if name in names}
        for number, row in enumerate(reader, start=1):
            if progress is not None and number % ROWS_AT_ONCE == 0:
                progress(reader.line_num, total)
            values = [cell.strip() for cell in row]
            if any(values[len(names) :]):
                raise DataError(
                    f"{source}, line {reader.line_num}: expected {len(names)} values as in the "
                    f"first line, found {len(values)}; quote a value that contains {delimiter!r}"
                )
            if any(values):
                yield reader.line_num, _known(values, places, columns)
    except csv.Error as error:
        raise DataError(f"{source}, line {reader.line_num}: not CSV ({error})") from error


def _require_columns(
    source: Path, names: Sequence[str], columns: Sequence[str], needed: Sequence[str]
) -> None:
    for name in needed:
        if name not in names:
            others = ", ".join(one for one in columns if one not in needed)
            raise DataError(
                f"{source}: no column {name}{nearest(name, names)}; expected a first line with "
                f"{', '.join(needed)}, and any of {others}"
            )


def _known(
    values: Sequence[str], places: Mapping[str, int], columns: Sequence[str]
) -> dict[str, str]:
    known = dict.fromkeys(columns, "")
    known.update((name, values[place]) for name, place in places.items() if place < len(values))
    return known


@lru_cache(_NAMES_KEPT)
def name_from_cell(text: str) -> str:
    """A name in one spelling: composed letters (NFC), and 7 for 7.0, as pandas writes numbers in
    a column with a gap."""
    whole = _WHOLE_NUMBER.fullmatch(text)
    return whole[1] if whole else unicodedata.normalize("NFC", text)
