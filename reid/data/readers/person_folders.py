"""A user's own images in folders. The layout is recognised from what the folder contains.

Images are ``person/camera/image.jpg``, or ``person/image.jpg`` without cameras, or
``camera/person/image.jpg`` if the names are clear (``reid.data.readers.own_layouts``), or have
names like Market-1501's, ``0002_c1s1_000451_03.jpg``, or MARS's, in any folder. Above them there
may be ``train``, ``query`` and ``gallery``, or ``train`` and ``test``, or the names of Market-1501
or MARS for these, and the folder of an archive. Without them the images are split at random (see
``reid.data.readers.own_images``).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from reid.data.images import OTHER_IMAGE_SUFFIXES
from reid.data.readers.division import Choice
from reid.data.readers.folders import Contents, IdAndCamera, is_image, scan
from reid.data.readers.market_layout import FOLDERS, parse_name
from reid.data.readers.own_images import (
    SUBSETS,
    UNDIVIDED,
    LabelledImage,
    divide,
    name_key,
    number_images,
)
from reid.data.readers.own_layouts import (
    CAMERA,
    NEITHER,
    PERSON,
    Roles,
    roles_from_words,
    roles_of,
    words_of,
)
from reid.errors import DataError
from reid.types import DISTRACTOR_ID, JUNK_ID, Split

NO_IDENTITY = "no identity in the folder or file name"
TWO_IDENTITIES = "folder and file name give different identities"
NOT_READ = "an image format that is not read; convert it to JPEG or PNG"

MAX_DEPTH = 16
"""Levels of folders that are read; images are not sorted deeper."""

_SUBSET_OF_FOLDER = {
    **{subset: subset for subset in SUBSETS},
    **{folder: subset for subset, folder in FOLDERS.items()},
    "probe": "query",
    "bbox_train": "train",
    "bbox_test": "test",
}

_MARS = re.compile(r"(\d{4}|00-1)C(\d{1,2})T\d{1,6}F\d{1,6}\b", re.ASCII)
_UPPER_CASE = re.compile(r"(-?\d{1,9})_C(\d{1,4})_", re.ASCII)
"""``0001_C5_F0087_X23701.jpg``, of DukeMTMC-VideoReID."""


class Unplaced(NamedTuple):
    """An image whose person is not known, and why; ``name`` is its path below the subset."""

    path: Path
    name: str
    reason: str
    camera: int | str | None = None


@dataclass
class FolderImages:
    """The images of a folder with the user's labels, and everything else that was found there.

    ``unplaced`` and ``not_read`` (images in formats that are not read) are by subset;
    ``other_files`` counts other files by suffix. ``notes`` say how the folders were
    understood.
    """

    images: list[LabelledImage] = field(default_factory=list)
    unplaced: dict[str, list[Unplaced]] = field(default_factory=dict)
    not_read: dict[str, list[Unplaced]] = field(default_factory=dict)
    other_files: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def skipped(self) -> dict[str, tuple[str, ...]]:
        """Lines on the images that have no label or are not read, by subset."""
        return {
            subset: tuple(
                f"{one.name}: {one.reason}" for one in (*unplaced, *self.not_read.get(subset, ()))
            )
            for subset, unplaced in self.unplaced.items()
        }


class _Place(NamedTuple):
    """A folder with images: its names below the subset's folder, and theirs."""

    folder: Path
    parts: tuple[str, ...]
    images: list[str]
    parsed: list[IdAndCamera | None]


def list_person_folders(root: Path, choice: Choice) -> Contents:
    """The images in ``root``, and notes on how the folder was interpreted.

    Raises DataError if the folder is missing, if the meaning of its folders is not clear, or no
    image has an identity.
    """
    found = labelled_images(root, choice.own.layout)
    return number_images(found.images, found.skipped(), found.notes, root, choice)


def read_person_folders(root: Path, choice: Choice) -> Split:
    """The split given by the folders, or a random one. Raises DataError like ``divide``."""
    return divide("folder", list_person_folders(root, choice), choice, root)


def labelled_images(root: Path, layout: str = "", *, everything: bool = False) -> FolderImages:
    """All images below ``root`` with the user's labels.

    ``layout`` (``camera/person``) says what the folders mean; without it they are recognised.
    With ``everything`` also folders beside ``train`` and ``test`` are read. Raises DataError if
    the folder is missing, or if the meaning of its folders is not clear.
    """
    home = _home(root)
    folders, beside, notes = _subset_folders(home)
    found = FolderImages(notes=notes)
    places: dict[str, list[_Place]] = {}
    for subset, folder in folders.items():
        places[subset] = list(_places(folder, subset, found))
    if everything and UNDIVIDED not in folders:
        loose = [name for name in scan(home)[0] if is_image(name)]
        places[UNDIVIDED] = [_Place(home, (), loose, [_parse(name) for name in loose])]
        places[UNDIVIDED] += [
            place._replace(parts=(name, *place.parts))
            for name in beside
            for place in _places(home / name, UNDIVIDED, found)
        ]
    elif beside:
        found.notes.append(f"ignored: {', '.join(beside)}")
    together = [place for some in places.values() for place in some]
    by_name = _named_folders(together)
    unnamed = {one.parts for one in together if one.parts and one.folder not in by_name}
    is_whole = UNDIVIDED in folders and not any(not place.parts for place in together)
    roles = roles_from_words(layout) if layout else roles_of(unnamed, home, is_whole=is_whole)
    if unnamed and roles not in ((PERSON, CAMERA), (PERSON,)):
        found.notes.append(f"folders understood as {words_of(roles)}")
    for subset, some in places.items():
        found.unplaced.setdefault(subset, [])
        for place in some:
            meaning = () if place.folder in by_name and not layout else roles
            _label(place, subset, meaning, found, is_given=bool(layout))
    return found


def _home(root: Path) -> Path:
    """``root``, or the only folder in it if that has ``train`` and ``test`` in it: an archive."""
    home = root
    for _ in range(2):
        files, folders = scan(home)
        visible = [name for name in folders if not _hidden(name)]
        if len(visible) != 1 or any(map(is_image, files)):
            break
        home = home / visible[0]
        if home.name.lower() in _SUBSET_OF_FOLDER:
            break
        if any(name.lower() in _SUBSET_OF_FOLDER for name in scan(home)[1]):
            return home
    return root


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _subset_folders(home: Path) -> tuple[dict[str, Path], list[str], list[str]]:
    """Subset -> folder, the names of the folders beside them, and notes."""
    folders: dict[str, Path] = {}
    others = []
    files, names = scan(home)
    for name in names:
        subset = _SUBSET_OF_FOLDER.get(name.lower())
        if subset in folders:
            raise DataError(
                f"{home}: {folders[subset].name} and {name} are both {subset}; keep one"
            )
        if subset is not None:
            folders[subset] = home / name
        elif not _hidden(name):
            others.append(name)
    if not folders:
        return {UNDIVIDED: home}, [], ["no train, query, gallery or test folder: random split"]
    notes = [", ".join(f"{path.name} is {subset}" for subset, path in folders.items())]
    if loose := sum(map(is_image, files)):
        notes.append(f"ignored: {loose} images beside these folders")
    return folders, others, notes


def _places(folder: Path, subset: str, found: FolderImages) -> Iterator[_Place]:
    """Every folder with images, from the top; other files are counted in ``found``."""
    waiting: list[tuple[Path, tuple[str, ...], frozenset[tuple[int, int]]]]
    waiting = [(folder, (), frozenset())]
    while waiting:
        here, parts, above = waiting.pop()
        inside = above | {_identity(here)}
        if inside == above:  # a link that leads back
            continue
        if len(parts) > MAX_DEPTH:
            found.notes.append(f"not read: folders below {here}, over {MAX_DEPTH} levels deep")
            continue
        files, folders = scan(here)
        images = [name for name in files if is_image(name)]
        for name in files:
            _count_other(here / name, "/".join((*parts, name)), subset, found)
        if images:
            yield _Place(here, parts, images, [_parse(name) for name in images])
        visible = [name for name in reversed(folders) if not _hidden(name)]
        waiting.extend((here / name, (*parts, name), inside) for name in visible)


def _identity(folder: Path) -> tuple[int, int]:
    """What identifies a folder, by whatever name. Raises DataError if it is gone."""
    try:
        status = os.stat(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror or error}") from error
    return status.st_dev, status.st_ino


def _count_other(path: Path, name: str, subset: str, found: FolderImages) -> None:
    if path.name.startswith(".") or is_image(path.name):
        return
    suffix = path.suffix.lower()
    if suffix in OTHER_IMAGE_SUFFIXES:
        found.not_read.setdefault(subset, []).append(Unplaced(path, name, NOT_READ))
    else:
        found.other_files[suffix] += 1


def _parse(name: str) -> IdAndCamera | None:
    """Identity and camera in a name of Market-1501, MARS or DukeMTMC-VideoReID."""
    if (mars := _MARS.match(name)) is not None:
        return JUNK_ID if mars[1] == "00-1" else int(mars[1]), int(mars[2])
    if (upper := _UPPER_CASE.match(name)) is not None and int(upper[1]) >= JUNK_ID:
        return int(upper[1]), int(upper[2])
    return parse_name(name)


def _named_folders(places: Sequence[_Place]) -> set[Path]:
    """Folders that say nothing: several people are in one of them, by the file names."""
    named = [
        place
        for place in places
        if place.parts and all(place.parsed) and not any(map(str.isdecimal, place.parts))
    ]
    if not any(len(_people(place)) > 1 for place in named):
        return set()
    return {place.folder for place in named}


def _people(place: _Place) -> set[int]:
    ids = {parsed[0] for parsed in place.parsed if parsed is not None}
    return ids - {JUNK_ID, DISTRACTOR_ID}


def _label(
    place: _Place, subset: str, roles: Roles, found: FolderImages, *, is_given: bool
) -> None:
    """Give each image of a folder its person and camera, or a reason why not.

    A camera in the file name counts more than a folder's, unless the user gave the layout.
    """
    by_role = dict(zip(roles, place.parts, strict=False))
    by_role.pop(NEITHER, None)
    person, camera = by_role.get(PERSON), by_role.get(CAMERA)
    for name, parsed in zip(place.images, place.parsed, strict=True):
        path = place.folder / name
        named = None if parsed is None or (is_given and camera is not None) else parsed[1]
        seen_by = camera if named is None else named
        number = None if parsed is None else parsed[0]
        if _differ(person, number):
            reason = TWO_IDENTITIES
        elif number is not None and (number in (JUNK_ID, DISTRACTOR_ID) or person is None):
            found.images.append(LabelledImage(path, number, seen_by, subset))
            continue
        elif person is not None:
            found.images.append(LabelledImage(path, person, seen_by, subset))
            continue
        else:
            reason = NO_IDENTITY
        shown = "/".join((*place.parts, name))
        found.unplaced[subset].append(Unplaced(path, shown, reason, seen_by))


def _differ(person: str | None, number: int | None) -> bool:
    """Whether a folder called by a number and a file name name two people."""
    if person is None or number is None or not person.removeprefix("-").isdecimal():
        return False
    return name_key(person) != str(number)
