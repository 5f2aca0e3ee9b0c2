"""Whole frames that are kept with the people of a gallery, as files that expire.

    FOLDER/CAMERA/2026-05-01/123005.250Z-f000123.jpg        the frame
    FOLDER/CAMERA/2026-05-01/123005.250Z-f000123-t5.jpg     the person of track 5 in it

Times are UTC. A file's name says when it was filmed, so that what is too old can be erased even if
no gallery knows of it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from reid.errors import output_errors
from reid.files import atomic_path, make_private_folder

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_FILE = re.compile(r"(\d{6}\.\d{3})Z-f\d+(-t\d+)?\.jpg")


class FrameFolder:
    """The frames of all cameras. Raises OutputError if the folder cannot be made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with output_errors(folder):
            make_private_folder(folder)

    def name_of(self, camera: str, unix_s: float, frame: int) -> str:
        """A frame's path below the folder."""
        when = datetime.fromtimestamp(round(unix_s, 3), timezone.utc)
        time = f"{when:%H%M%S}.{when.microsecond // 1000:03d}Z"
        return f"{folder_name(camera)}/{when:%Y-%m-%d}/{time}-f{frame:06d}.jpg"

    def write(self, name: str, content: bytes) -> None:
        """Write a frame, unless it is there. Raises OutputError."""
        path = self.folder / name
        if path.exists():
            return
        with output_errors(path):
            make_private_folder(path.parent.parent)
            make_private_folder(path.parent)
        with atomic_path(path, private=True) as temporary:
            temporary.write_bytes(content)

    def erase_before(self, unix_s: float) -> int:
        """Erase what was filmed before ``unix_s``; returns how many files. Raises OutputError."""
        count = 0
        with output_errors(self.folder):
            for day in self.folder.glob("*/*"):
                if not (_DAY.fullmatch(day.name) and day.is_dir()) or _is_elsewhere(day):
                    continue
                for name in os.listdir(day):
                    if _is_before(day.name, name, unix_s):
                        (day / name).unlink(missing_ok=True)
                        count += 1
                with suppress(OSError):  # it is not empty
                    day.rmdir()
        return count


def folder_name(camera: str) -> str:
    """A camera's name as that of a folder, which is always inside its parent."""
    safe = quote(camera.encode("utf-8", "surrogateescape"), safe=" ")
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe or "%"


def _is_elsewhere(day: Path) -> bool:
    return day.is_symlink() or day.parent.is_symlink()


def _is_before(day: str, name: str, unix_s: float) -> bool:
    found = _FILE.fullmatch(name)
    if found is None:
        return False
    try:
        when = datetime.strptime(f"{day} {found[1]}", "%Y-%m-%d %H%M%S.%f")
    except ValueError:
        return False
    return when.replace(tzinfo=timezone.utc).timestamp() < unix_s
