"""The file of a site, ``site.toml``: cameras, model, gallery, outputs and the server's page."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reid.errors import ConfigError, ReidError
from reid.files import is_regular

from ..cameras.masks import Polygon, crosses_itself
from .table import Table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LARGEST_FILE = 1 << 20
_MOST_CORNERS = 200


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera of a site. ``url`` may hold a password."""

    name: str
    url: str = field(repr=False)
    start_time: str
    mask: tuple[Polygon, ...]
    zones: Mapping[str, Polygon]


@dataclass(frozen=True, slots=True)
class Site:
    """A file of a site, as tables that were read; ``problems`` has a line for each fault."""

    path: Path
    top: Table
    cameras: tuple[Camera, ...]
    problems: list[str]

    def check(self) -> None:
        """Raises ConfigError with all problems, one a line."""
        if self.problems:
            count = len(self.problems)
            words = "; ".join(self.problems)
            raise SiteError(
                f"{self.path}: {count} problem{'s' * (count > 1)}: {words}", tuple(self.problems)
            )


class SiteError(ConfigError):
    """A file of a site that cannot be used; ``problems`` are those of its contents, one a line."""

    exit_code = 2

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


def open_site(path: Path, environment: Mapping[str, str] = os.environ) -> Site:
    """Read a file. Problems of its contents are collected; SiteError for one that is no TOML."""
    try:
        if not is_regular(path) or path.stat().st_size > _LARGEST_FILE:
            raise SiteError(f"{path}: expected a TOML file of at most {_LARGEST_FILE:,} bytes")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SiteError(f"{path} is not there; an example is deploy/examples/site.toml") from None
    except OSError as error:
        raise SiteError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SiteError(f"{path}: not valid UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SiteError(f"{path}: not valid TOML: {error}") from None
    problems: list[str] = []
    top = Table(values, "", problems, path.absolute().parent, environment)
    cameras = tuple(_camera(table) for table in top.tables("camera"))
    names = [camera.name for camera in cameras]
    for name in {name for name in names if names.count(name) > 1}:
        problems.append(f"camera: {names.count(name)} cameras have the name {name!r}")
    return Site(path, top, cameras, problems)


def _camera(table: Table) -> Camera:
    name = table.text("name")
    if not name or not all(one.isalnum() or one in "._-" for one in name):
        table.wrong("name", "expected letters, digits and ._- only")
    if not table.has("url"):
        table.wrong("url", "expected a video, a folder, /dev/videoN or a URL; found none")
    url = _url(table)
    mask = tuple(
        polygon
        for number, one in enumerate(_list(table, "mask"), 1)
        if (polygon := _polygon(table, f"mask[{number}]", one))
    )
    zones: dict[str, Polygon] = {}
    if (named := table.table("zones")) is not None:
        for zone, corners in named.rest().items():
            if polygon := _polygon(named, zone, corners):
                zones[zone] = polygon
    camera = Camera(name, url, table.time("start_time"), mask, zones)
    table.finish()
    return camera


def _url(table: Table) -> str:
    """A URL whose ``${NAME}`` stay for the camera's own rules, which escape a password."""
    value = table.raw("url")
    if isinstance(value, str):
        named = value.startswith(("rtsp", "http", "srt", "rtmp", "tcp", "udp", "rtp", "/dev/"))
        return value if named or value.isdecimal() else str(table.folder / value)
    inner = Table({"url": value}, table.place, table.problems, table.folder)
    return inner.secret("url") if value is not None else ""


def _list(table: Table, key: str) -> list[Any]:
    found = table.raw(key)
    if found is not None and not isinstance(found, list):
        table.wrong(key, "expected a list of polygons, [[[x, y], [x, y], [x, y]], ...]")
        return []
    return found or []


def _polygon(table: Table, key: str, corners: Any) -> Polygon | None:
    """Corners in shares of the picture, 0 to 1."""
    right = isinstance(corners, list) and all(
        isinstance(one, list) and len(one) == 2 and all(type(edge) in (int, float) for edge in one)
        for one in corners
    )
    if not right or not 3 <= len(corners) <= _MOST_CORNERS:
        table.wrong(key, "expected a polygon of 3 corners or more, [[x, y], [x, y], [x, y]]")
        return None
    outside = [one for one in corners if not all(0 <= edge <= 1 for edge in one)]
    if outside:
        table.wrong(
            key,
            f"expected shares of the picture's width and height, 0 to 1, found {outside[0]}; "
            "divide pixels by the width and the height",
        )
        return None
    polygon = tuple((float(x), float(y)) for x, y in corners)
    if crosses_itself(polygon):
        table.wrong(key, "its sides cross; expected the corners in the order of the edge")
        return None
    return polygon


def checked(problems: list[str], place: str, check: Any) -> Any:
    """What ``check()`` returns; its error is one more problem."""
    try:
        return check()
    except ReidError as error:
        problems.append(f"{place}: {error}")
        return None
