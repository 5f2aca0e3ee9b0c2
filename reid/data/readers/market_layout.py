"""Market-1501's layout, shared by other datasets: three folders, labels in the file names.

A name such as ``0002_c1s1_000451_03.jpg`` has identity, camera and sequence, frame, and box.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from reid.data.readers.folders import (
    Contents,
    IdAndCamera,
    Listing,
    find_home,
    list_folder,
    require_two_identities,
    search_home,
)
from reid.errors import DataError
from reid.types import DISTRACTOR_ID, JUNK_ID, ImageRecord, Protocol, Split

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
"""Subset -> its folder."""

FOR_EVALUATION = "for evaluation only"
"""What a dataset without training images is good for."""

_WHO_AND_WHERE = re.compile(r"(-?\d{1,9})_c(\d{1,4})", re.ASCII)


def parse_name(name: str) -> IdAndCamera | None:
    """``0002_c1s1_000451_03.jpg`` -> (2, 1); None for another form, or with two identities."""
    found = _WHO_AND_WHERE.findall(name)
    if len(found) != 1 or not _WHO_AND_WHERE.match(name) or int(found[0][0]) < JUNK_ID:
        return None
    return int(found[0][0]), int(found[0][1])


def layout_home(root: Path, names: Sequence[str], expected: str) -> Path:
    """The folder with the gallery, or, to name what is missing, with the training images.

    It is searched for as in ``find_home``, and raises like that.
    """
    home = search_home(root, names, FOLDERS["gallery"]) if root.is_dir() else None
    return home or find_home(root, names, FOLDERS["train"], expected)


def list_layout(home: Path) -> Contents:
    """The three folders of ``home``, by subset; that of training may be missing.

    Raises DataError if another one is missing or one has no image with such a name.
    """
    present = {
        subset: folder
        for subset, folder in FOLDERS.items()
        if subset != "train" or (home / folder).exists()
    }
    return Contents(
        {subset: list_folder(home / folder, parse_name) for subset, folder in present.items()},
        () if "train" in present else (f"no {FOLDERS['train']}: {FOR_EVALUATION}",),
    )


def read_layout(dataset: str, home: Path, note: str = "split given by the folders") -> Split:
    """The split given by the folders, for the ``market`` protocol.

    The gallery keeps junk (``person_id`` -1) and distractors (0); training and query do not.
    Without the training folder ``train`` is empty. Raises DataError like ``list_layout``, and
    for fewer than two training identities or no query.
    """
    contents = list_layout(home)
    listings = contents.subsets
    train, query = people(listings.get("train", Listing(()))), people(listings["query"])
    if "train" in listings:
        require_two_identities(dataset, home / FOLDERS["train"], train)
    if not query:
        raise DataError(
            f"{dataset}: expected at least one query of an identity in "
            f"{home / FOLDERS['query']}, found only junk and distractors"
        )
    gallery = listings["gallery"].records
    note = "; ".join((note, *contents.notes))
    return Split(dataset, train, query, gallery, Protocol("market"), note)


def people(listing: Listing) -> tuple[ImageRecord, ...]:
    """The images with an identity: neither junk nor distractors."""
    return tuple(record for record in listing.records if record.person_id > DISTRACTOR_ID)
