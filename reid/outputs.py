"""Outputs that would replace what the same command reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from reid.errors import OutputError


def refuse_inputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path | None]) -> None:
    """Raise OutputError if an output is an input, under whatever name, or two outputs are one.

    ``outputs`` maps an option to its file. Files are compared by device and inode, so that links
    are found too; of an input folder all files count, and of an input file the manifest beside it.
    An output that does not exist yet replaces nothing.
    """
    named: dict[str, str] = {}
    waiting: dict[tuple[int, int], str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        place = os.path.realpath(path)
        if place in named:
            raise OutputError(f"{named[place]} and {option} name one file, {path}; use two")
        named[place] = option
        if path.is_file() and (key := _key(path)):
            waiting[key] = f"{option} {path}"
    if not waiting:
        return
    for given in inputs:
        for path in _files(given):
            key = _key(path)
            if key in waiting:
                raise OutputError(
                    f"{waiting[key]} is an input of this command ({path}) and would be "
                    "overwritten; name another file"
                )


def _files(given: Path | None) -> Iterator[Path]:
    """A file and the manifest beside it, or all files of a folder."""
    if given is None:
        return
    if given.is_dir():
        for folder, _, names in os.walk(given):
            yield from (Path(folder, name) for name in names)
    else:
        yield given
        yield given.with_name(f"{given.name}.json")


def _key(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
