"""MSMT17 in its two versions: the original (V1), and with masked faces (V2).

Wei et al., "Person Transfer GAN to Bridge Domain Gap for Person Re-Identification",
CVPR 2018. https://www.pkuvmc.com/dataset.html

Published: 4,101 identities and 126,441 images of 15 cameras: 32,621 training images of 1,041
identities, 11,659 queries and 82,161 gallery images of 3,060 others. Four list files have lines
such as ``0000/0000_000_01_0303morning_0008_0.jpg 0``: a path, whose third part between
underscores is the camera, and an identity. Identities start at 0 in both training and testing,
so here training identities start at 1 and test identities at 10,001.

``list_val.txt`` lists a part of the training images. Most code leaves it out of training, some
code trains on it too; the setting ``validation`` decides.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import NamedTuple

from reid.data.readers.division import Choice
from reid.data.readers.folders import (
    Contents,
    Listing,
    find_home,
    require_files,
    require_two_identities,
    search_home,
)
from reid.data.readers.label_files import read_text_file
from reid.data.readers.market_layout import FOR_EVALUATION
from reid.errors import DataError
from reid.types import ImageRecord, Protocol, Split

PUBLISHED = {"train": (32_621, 1_041), "query": (11_659, 3_060), "gallery": (82_161, 3_060)}
"""Subset -> (images, identities) as published; ``train`` is both lists, train and val."""

FIRST_TEST_ID = 10_001


class Version(NamedTuple):
    """A version: its dataset name, its image folders, and the names of its top folder."""

    dataset: str
    train: str
    test: str
    names: tuple[str, ...]


V1 = Version("msmt17", "train", "test", ("MSMT17_V1", "MSMT17"))
V2 = Version("msmt17_v2", "mask_train_v2", "mask_test_v2", ("MSMT17_V2", "MSMT17"))


def list_msmt17(version: Version, root: Path) -> Contents:
    """The images named by the four lists, whether or not they exist.

    Raises DataError if a list is missing or has an invalid line.
    """
    home = _home(version, root)
    train, validation = _training(version, home)
    if not train:
        return Contents(_testing(version, home), (f"no {version.train}: {FOR_EVALUATION}",))
    subsets = {"train": Listing(train + validation), **_testing(version, home)}
    note = f"train: {len(train):,} from list_train.txt and {len(validation):,} from list_val.txt"
    return Contents(subsets, (note,))


def read_msmt17(version: Version, root: Path, choice: Choice) -> Split:
    """The published split, for the ``market`` protocol.

    ``list_val.txt`` is used for training if ``choice.validation`` is ``"train"``. Without the
    folder of training images ``train`` is empty. Raises DataError like
    ``list_msmt17``, and if an image is missing.
    """
    home = _home(version, root)
    train, validation = _training(version, home)
    if choice.validation == "train":
        train += validation
    if train:
        require_two_identities(version.dataset, home / "list_train.txt", train)
        require_files(train, home / "list_train.txt")
    testing = _testing(version, home)
    for subset, listing in testing.items():
        require_files(listing.records, home / f"list_{subset}.txt")
    with_or_without = "with" if choice.validation == "train" else "without"
    training = f"training {with_or_without} list_val.txt" if train else FOR_EVALUATION
    return Split(
        dataset=version.dataset,
        train=train,
        query=testing["query"].records,
        gallery=testing["gallery"].records,
        protocol=Protocol("market"),
        note=f"split given by the lists, {training}",
    )


def _training(
    version: Version, home: Path
) -> tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...]]:
    """Those of ``list_train.txt`` and of ``list_val.txt``; none without the folder of images."""
    folder = home / version.train
    if not folder.exists():
        return (), ()
    return _read_list(home, folder, "train", 1), _read_list(home, folder, "val", 1)


def _testing(version: Version, home: Path) -> dict[str, Listing]:
    folder = home / version.test
    return {
        subset: Listing(_read_list(home, folder, subset, FIRST_TEST_ID))
        for subset in ("query", "gallery")
    }


def _read_list(home: Path, folder: Path, name: str, first_id: int) -> tuple[ImageRecord, ...]:
    source = home / f"list_{name}.txt"
    owners: dict[Path, int] = {}
    records = []
    for number, line in enumerate(read_text_file(source).splitlines(), start=1):
        if not line.strip():
            continue
        record = _parse_line(line, folder, first_id)
        if record is None:
            raise DataError(
                f"{source}, line {number}: expected 'folder/0000_000_01_..._0.jpg identity', "
                f"found {line[:80]!r}"
            )
        if owners.setdefault(record.path, record.person_id) != record.person_id:
            raise DataError(
                f"{source}, line {number}: {record.path.name} has two identities; correct the list"
            )
        records.append(record)
    if not records:
        raise DataError(f"{source}: expected one line per image, found no lines")
    return tuple(records)


def _parse_line(line: str, folder: Path, first_id: int) -> ImageRecord | None:
    text, _, identity = line.strip().rpartition(" ")
    path = PurePosixPath(text.strip())
    parts = path.name.split("_")
    numbers = (identity, parts[2] if len(parts) > 2 else "")
    if path.is_absolute() or ".." in path.parts or "\0" in text:
        return None
    if not all(number.isascii() and number.isdecimal() for number in numbers):
        return None
    if len(identity) > 6 or len(parts[2]) > 6:
        return None
    return ImageRecord(folder / path, first_id + int(identity), int(parts[2]))


def _home(version: Version, root: Path) -> Path:
    expected = f"{version.train}, {version.test} and list_train.txt to list_gallery.txt"
    home = search_home(root, version.names, version.test) if root.is_dir() else None
    if home is None:
        home = find_home(root, version.names, version.train, f"{version.dataset}: {expected}")
    if not (home / "list_query.txt").is_file():
        raise DataError(f"{home}: list_query.txt not found; expected {expected}")
    return home
