"""Market-1501's layout, in which other datasets come too: three folders, names that tell all.

A name is ``0002_c1s1_000451_03.jpg``: identity, camera and sequence, frame, box.
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
    """``0002_c1s1_000451_03.jpg`` -> (2, 1); None for another kind of name, or for two people's."""
    found = _WHO_AND_WHERE.findall(name)
    if len(found) != 1 or not _WHO_AND_WHERE.match(name) or int(found[0][0]) < JUNK_ID:
        return None
    return int(found[0][0]), int(found[0][1])


def list_layout(home: Path) -> Contents:
    """The three folders of ``home``, by subset.

    Raises DataError where one of them is missing or holds no image of the layout.
    """
    return Contents(
        {subset: list_folder(home / folder, parse_name) for subset, folder in FOLDERS.items()}
    )


def read_layout(dataset: str, home: Path, note: str = "the split of the folders") -> Split:
    """The split as it lies in the folders, for the ``market`` protocol.

    The gallery keeps junk (``person_id`` -1) and distractors (0); training images and
    queries show somebody. Raises DataError as ``list_layout`` does, and for fewer than two
    training identities or no query.
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
    """The images of somebody: neither junk nor distractors."""
    return tuple(record for record in listing.records if record.person_id > DISTRACTOR_ID)
