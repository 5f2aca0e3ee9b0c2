"""What the folders of a user's images mean: person, camera, or nothing.

Folders such as ``person/camera`` and ``camera/person`` look alike. Clear names decide
(``cam1``, ``person007``, ``0007``); otherwise there should be fewer cameras than people. Where
that is not so either, the user is asked: a camera that is taken for a person spoils everything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from reid.errors import DataError, nearest

PERSON, CAMERA, NEITHER = "person", "camera", "*"

Roles = tuple[str, ...]
"""The meaning of each level of folders; deeper levels (tracklets) have none."""

_EXAMPLES = ("person", "person/camera", "camera/person", "*/person", "*/person/camera")

_PLACES = (
    *("front", "back", "rear", "left", "right", "north", "south", "east", "west", "main", "side"),
    *("gate", "door", "entrance", "entry", "exit", "hall", "hallway", "corridor", "lobby", "foyer"),
    *("yard", "garden", "garage", "parking", "street", "road", "shop", "store", "room", "office"),
    *("kitchen", "stair", "stairs", "elevator", "lift", "roof", "floor", "level", "indoor"),
    *("outdoor", "inside", "outside", "checkout", "till", "reception", "platform", "station"),
)
"""What cameras are called after."""

_CAMERA = re.compile(
    r"(cam|camera|kamera|camara|caméra|view|cctv|channel|ch|stream|c)[ _.-]*(\d{1,4}|[a-h])"
    rf"|({'|'.join(_PLACES)})([ _.-]*(\d{{1,4}}|[a-h]))?"
    r"|.+[ _.-](cam|camera)|(cam|camera)[ _.-].+",
    re.I,
)
_PERSON = re.compile(
    r"(person|people|pedestrian|ped|pid|id|identity|subject|human|guest)[ _.-]*\d{1,9}", re.I
)
_IDENTITY = re.compile(r"\d{3,9}", re.ASCII)
_SHORT = re.compile(r"\d{1,2}", re.ASCII)
_GENERIC = re.compile(
    r"data|dataset|image|img|picture|photo|crop|frame|people|persons|pedestrian|galler|archive"
    r"|export|unpacked|unzip|download|folder|market|duke|msmt|cuhk|reid|re-id|\d{4}-\d\d",
    re.I,
)
"""In the name of a folder that is not called after a person."""

_SHOWN = 3


def roles_from_words(layout: str) -> Roles:
    """``camera/person`` as roles. Raises DataError for other words."""
    roles = tuple(word.strip().lower() for word in layout.strip("/").split("/"))
    known = (PERSON, CAMERA, NEITHER)
    for word in roles:
        if word not in known:
            raise DataError(
                f"a layout is a path of person, camera and *, such as {', '.join(_EXAMPLES)}; "
                f"found {word!r}{nearest(word, known)}"
            )
    if roles.count(PERSON) > 1 or roles.count(CAMERA) > 1:
        raise DataError(f"a layout names person and camera once; found {layout!r}")
    return roles


def roles_of(places: Collection[tuple[str, ...]], root: Path, *, is_whole: bool) -> Roles:
    """The meaning of the folders in ``root`` that hold images, given as paths of names.

    ``is_whole``: nothing above them says what they are (no ``train``, no ``test``), so that a
    single folder may be an archive's. Raises DataError, with the option to give, if the names
    are not clear.
    """
    if not places:
        return (PERSON, CAMERA)
    if is_whole and len({place[0] for place in places}) == 1:
        return _roles_in_one(places, root)
    return _roles_in_several(places, root)


def _roles_in_one(places: Collection[tuple[str, ...]], root: Path) -> Roles:
    """The roles where everything is in a single folder: a person's, or an archive's."""
    (name,) = {place[0] for place in places}
    inside = [place[1:] for place in places if len(place) > 1]
    generic = bool(_GENERIC.search(name)) and not _PERSON.fullmatch(name)
    if len(inside) < len(places):  # it holds images itself
        return (NEITHER,) if generic and not inside else _roles_in_several(places, root)
    below = {place[0] for place in inside}
    deep = any(len(place) > 1 for place in inside)
    if all(map(_CAMERA.fullmatch, below)) and not _CAMERA.fullmatch(name) and not generic:
        return (PERSON, CAMERA)
    if generic or (deep and _names_tell(inside)):
        return (NEITHER, *roles_of(inside, root / name, is_whole=True))
    if _PERSON.fullmatch(name) or _IDENTITY.fullmatch(name) or all(map(_SHORT.fullmatch, below)):
        return (PERSON, CAMERA)
    if _CAMERA.fullmatch(name):
        return (CAMERA, PERSON)
    if all(_PERSON.fullmatch(one) or _IDENTITY.fullmatch(one) for one in below):
        return (NEITHER, PERSON)
    if len(below) == 1 and not deep:
        return (PERSON, CAMERA)
    raise _question(root, [name], below)


def _names_tell(places: Collection[tuple[str, ...]]) -> bool:
    """Whether the names in one of the upper levels are those of cameras or numbered people."""
    levels = [{place[level] for place in places if len(place) > level} for level in range(3)]
    return any(
        all(map(_CAMERA.fullmatch, names))
        or all(_PERSON.fullmatch(one) or _IDENTITY.fullmatch(one) for one in names)
        for names in levels
        if names
    )


def _roles_in_several(places: Collection[tuple[str, ...]], root: Path) -> Roles:
    tops = {place[0] for place in places}
    deep = [place for place in places if len(place) > 1]
    if not deep:
        return (CAMERA,) if all(map(_CAMERA.fullmatch, tops)) else (PERSON,)
    tops, seconds = {place[0] for place in deep}, {place[1] for place in deep}
    thirds = {place[2] for place in deep if len(place) > 2}
    has_thirds = all(len(place) > 2 for place in deep)
    cameras = [all(map(_CAMERA.fullmatch, names)) for names in (tops, seconds, thirds)]
    if has_thirds and cameras[1] and all(map(_PERSON.fullmatch, thirds)):
        return (NEITHER, CAMERA, PERSON)
    if has_thirds and cameras[2] and not cameras[1]:
        return (CAMERA, PERSON) if cameras[0] else (NEITHER, PERSON, CAMERA)
    if cameras[0] != cameras[1]:
        return (CAMERA, PERSON) if cameras[0] else (PERSON, CAMERA)
    if not cameras[0]:
        if all(_PERSON.fullmatch(one) or _IDENTITY.fullmatch(one) for one in tops):
            return (PERSON, CAMERA)
        named = any(_PERSON.fullmatch(one) or _IDENTITY.fullmatch(one) for one in seconds)
        if len(seconds) <= len(tops) and not (named and len(seconds) > 1):
            return (PERSON, CAMERA)
    raise _question(root, tops, seconds)


def _question(root: Path, upper: Iterable[str], lower: Iterable[str]) -> DataError:
    return DataError(
        f"{root}: the folders {_some(upper)} with {_some(lower)} in them may be people or cameras; "
        "say which: --layout person/camera, --layout camera/person, or --layout '*/person' if the "
        "upper ones are neither"
    )


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more


def words_of(roles: Sequence[str]) -> str:
    """``person/camera``, as ``--layout`` takes it."""
    return "/".join(roles)
