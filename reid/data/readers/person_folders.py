"""A user's own images in folders, with whatever of the following is there.

``person/camera/image.jpg``; ``person/image.jpg`` without cameras; names as Market-1501's,
``0002_c1s1_000451_03.jpg``, in a folder of their own or in the person's. Above them may stand
``train``, ``query`` and ``gallery``, or ``train`` and ``test``, or Market-1501's names for these;
without them the images are divided by rule (see ``reid.data.readers.own_images``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reid.data.readers.division import Choice
from reid.data.readers.folders import Contents, is_image, scan
from reid.data.readers.market_layout import FOLDERS, parse_name
from reid.data.readers.own_images import SUBSETS, UNDIVIDED, Labelled, divide, number_images
from reid.errors import DataError
from reid.types import Split

_SUBSET_OF_FOLDER = {
    **{subset: subset for subset in SUBSETS},
    **{folder: subset for subset, folder in FOLDERS.items()},
    "probe": "query",
}


def list_person_folders(root: Path) -> Contents:
    """What ``root`` holds and how it was understood.

    Raises DataError where there is no such folder, or no image that shows somebody.
    """
    return number_images(*labelled_images(root), root)


def labelled_images(root: Path) -> tuple[list[Labelled], dict[str, tuple[str, ...]], list[str]]:
    """The images with their owners' own names, those not placed by subset, and notes.

    Raises DataError where there is no such folder.
    """
    home = _home(root)
    folders, notes = _subset_folders(home)
    images: list[Labelled] = []
    skipped = {}
    for subset, folder in folders.items():
        unplaced: list[str] = []
        images += _images(folder, subset, unplaced)
        skipped[subset] = tuple(unplaced)
    return images, skipped, notes


def read_person_folders(root: Path, choice: Choice) -> Split:
    """The split of the folders, or the rule's. Raises DataError."""
    return divide("folder", list_person_folders(root), choice, root)


def _home(root: Path) -> Path:
    """``root``, or the one folder that an archive was unpacked into."""
    for _ in range(2):
        files, folders = scan(root)
        visible = [name for name in folders if not _hidden(name)]
        if len(visible) != 1 or any(map(is_image, files)) or not _wraps(root / visible[0]):
            break
        root = root / visible[0]
    return root


def _wraps(folder: Path) -> bool:
    """Whether the only folder there is holds a dataset, and is not its only person or part."""
    files, folders = scan(folder)
    if folder.name.lower() in _SUBSET_OF_FOLDER:
        return False
    named = any(map(parse_name, files))
    parts = any(name.lower() in _SUBSET_OF_FOLDER for name in folders)
    return named or parts or any(scan(folder / name)[1] for name in folders)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _subset_folders(home: Path) -> tuple[dict[str, Path], list[str]]:
    """Subset -> folder, and what is to be said of it."""
    folders: dict[str, Path] = {}
    others = []
    for name in scan(home)[1]:
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
        return {UNDIVIDED: home}, ["no train, query, gallery or test folder: divided by rule"]
    found = ", ".join(f"{path.name} is {subset}" for subset, path in folders.items())
    return folders, [found, *([f"not read: {', '.join(others)}"] if others else [])]


def _images(folder: Path, subset: str, unplaced: list[str]) -> Iterator[Labelled]:
    files, people = scan(folder)
    for name in filter(is_image, files):
        parsed = parse_name(name)
        if parsed is None:
            unplaced.append(f"{name}: whom it shows is told by neither folder nor name")
        else:
            yield Labelled(folder / name, *parsed, subset)
    for person in people:
        if not _hidden(person):
            yield from _images_of(folder, person, subset, unplaced)


def _images_of(folder: Path, person: str, subset: str, unplaced: list[str]) -> Iterator[Labelled]:
    files, cameras = scan(folder / person)
    for name in filter(is_image, files):
        parsed = parse_name(name)
        if parsed and person.isdecimal() and int(person) != parsed[0]:
            unplaced.append(f"{person}/{name}: folder and name tell two people")
        else:
            yield Labelled(folder / person / name, person, parsed[1] if parsed else None, subset)
    for camera in cameras:
        if _hidden(camera):
            continue
        files, deeper = scan(folder / person / camera)
        for name in filter(is_image, files):
            yield Labelled(folder / person / camera / name, person, camera, subset)
        unplaced += [f"{person}/{camera}/{name}: deeper than person/camera" for name in deeper]
