"""A user's own images in folders. The layout is recognised from what the folder contains.

Images are ``person/camera/image.jpg``, or ``person/image.jpg`` without cameras, or have names
like Market-1501's, ``0002_c1s1_000451_03.jpg``, in one folder or in the person's folder. Above
them there may be ``train``, ``query`` and ``gallery``, or ``train`` and ``test``, or
Market-1501's names for these. Without them the images are split at random (see
``reid.data.readers.own_images``).
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
    """The images in ``root``, and notes on how the folder was interpreted.

    Raises DataError if the folder is missing, or no image has an identity.
    """
    return number_images(*labelled_images(root), root)


def labelled_images(root: Path) -> tuple[list[Labelled], dict[str, tuple[str, ...]], list[str]]:
    """The images with the user's labels, the skipped files by subset, and notes.

    Raises DataError if the folder is missing.
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
    """The split given by the folders, or a random one. Raises DataError like ``divide``."""
    return divide("folder", list_person_folders(root), choice, root)


def _home(root: Path) -> Path:
    """``root``, or the only folder in it if an archive was unpacked there."""
    for _ in range(2):
        files, folders = scan(root)
        visible = [name for name in folders if not _hidden(name)]
        if len(visible) != 1 or any(map(is_image, files)) or not _wraps(root / visible[0]):
            break
        root = root / visible[0]
    return root


def _wraps(folder: Path) -> bool:
    """Whether this only folder contains a dataset, rather than being a person or a subset."""
    files, folders = scan(folder)
    if folder.name.lower() in _SUBSET_OF_FOLDER:
        return False
    named = any(map(parse_name, files))
    parts = any(name.lower() in _SUBSET_OF_FOLDER for name in folders)
    return named or parts or any(scan(folder / name)[1] for name in folders)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _subset_folders(home: Path) -> tuple[dict[str, Path], list[str]]:
    """Subset -> folder, and notes."""
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
        return {UNDIVIDED: home}, ["no train, query, gallery or test folder: random split"]
    found = ", ".join(f"{path.name} is {subset}" for subset, path in folders.items())
    return folders, [found, *([f"ignored: {', '.join(others)}"] if others else [])]


def _images(folder: Path, subset: str, unplaced: list[str]) -> Iterator[Labelled]:
    files, people = scan(folder)
    for name in filter(is_image, files):
        parsed = parse_name(name)
        if parsed is None:
            unplaced.append(f"{name}: no identity in the folder or file name")
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
            unplaced.append(f"{person}/{name}: folder and file name give different identities")
        else:
            yield Labelled(folder / person / name, person, parsed[1] if parsed else None, subset)
    for camera in cameras:
        if _hidden(camera):
            continue
        files, deeper = scan(folder / person / camera)
        for name in filter(is_image, files):
            yield Labelled(folder / person / camera / name, person, camera, subset)
        unplaced += [f"{person}/{camera}/{name}: folder below person/camera" for name in deeper]
