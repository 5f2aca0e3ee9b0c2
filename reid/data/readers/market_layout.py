"""Market-1501's layout, shared by other datasets: three folders, labels in the file names.

A name such as ``0002_c1s1_000451_03.jpg`` has identity, camera and sequence, frame, and box.
"""

from __future__ import annotations

import re
from pathlib import Path

from reid.data.readers.folders import (
    Contents,
    IdAndCamera,
    Listing,
    list_folder,
    require_two_identities,
)
from reid.errors import DataError
from reid.types import DISTRACTOR_ID, JUNK_ID, ImageRecord, Protocol, Split

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
"""Subset -> its folder."""

_WHO_AND_WHERE = re.compile(r"(-?\d{1,9})_c(\d{1,4})", re.ASCII)


def parse_name(name: str) -> IdAndCamera | None:
    """``0002_c1s1_000451_03.jpg`` -> (2, 1); None for another form, or with two identities."""
    found = _WHO_AND_WHERE.findall(name)
    if len(found) != 1 or not _WHO_AND_WHERE.match(name) or int(found[0][0]) < JUNK_ID:
        return None
    return int(found[0][0]), int(found[0][1])


def list_layout(home: Path) -> Contents:
    """The three folders of ``home``, by subset.

    Raises DataError if one of them is missing or has no image with such a name.
    """
    return Contents(
        {subset: list_folder(home / folder, parse_name) for subset, folder in FOLDERS.items()}
    )


def read_layout(dataset: str, home: Path, note: str = "split given by the folders") -> Split:
    """The split given by the folders, for the ``market`` protocol.

    The gallery keeps junk (``person_id`` -1) and distractors (0); training and query do not.
    Raises DataError like ``list_layout``, and for fewer than two training identities or no
    query.
    """
    listings = list_layout(home).subsets
    train, query = people(listings["train"]), people(listings["query"])
    require_two_identities(dataset, home / FOLDERS["train"], train)
    if not query:
        raise DataError(
            f"{dataset}: expected at least one query of an identity in "
            f"{home / FOLDERS['query']}, found only junk and distractors"
        )
    gallery = listings["gallery"].records
    return Split(dataset, train, query, gallery, Protocol("market"), note)


def people(listing: Listing) -> tuple[ImageRecord, ...]:
    """The images with an identity: neither junk nor distractors."""
    return tuple(record for record in listing.records if record.person_id > DISTRACTOR_ID)
