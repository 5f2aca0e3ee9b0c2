"""Market-1501, and every dataset laid out as it is.

Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.
https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html

Published: bounding_box_train 12,936 images of 751 identities; query 3,368 images of 750
identities; bounding_box_test 19,732 images of the same 750, of which 2,798 are
distractors (``0000``) and 3,819 junk (``-1``). Six cameras, 64x128 JPEG.

A name is ``0002_c1s1_000451_03.jpg``: identity, camera and sequence, frame, box.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from reid.data.folders import IdAndCamera, Listing, list_folder, require_two_identities
from reid.errors import DataError
from reid.types import DISTRACTOR_ID, ImageRecord, Protocol, Split

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
"""Subset -> its folder."""

PUBLISHED = {"train": (12_936, 751), "query": (3_368, 750), "gallery": (19_732, 750)}
"""Subset -> (images, identities) as published; junk and distractors are images only."""

_SUBFOLDERS = ("", "Market-1501-v15.09.15", "market1501", "Market-1501")
_NAME = re.compile(r"(-?\d+)_c(\d+)")


def parse_name(name: str) -> IdAndCamera | None:
    """``0002_c1s1_000451_03.jpg`` -> (2, 1); None for another kind of name."""
    match = _NAME.match(name)
    return (int(match[1]), int(match[2])) if match else None


def list_market1501(root: Path) -> Mapping[str, Listing]:
    """The three folders under ``root`` or its dataset subfolder, by subset.

    Raises DataError where one of them is missing or holds no image of the layout.
    """
    home = _home(root)
    return {subset: list_folder(home / folder, parse_name) for subset, folder in FOLDERS.items()}


def read_market1501(root: Path, dataset: str = "market1501") -> Split:
    """The split as it lies in the folders, for the ``market`` protocol.

    The gallery keeps junk (``person_id`` -1) and distractors (0); training images and
    queries show somebody. Raises DataError as ``list_market1501`` does, and for fewer
    than two training identities or no query.
    """
    listings = list_market1501(root)
    train = _people(listings["train"])
    query = _people(listings["query"])
    require_two_identities(dataset, _home(root) / FOLDERS["train"], train)
    if not query:
        raise DataError(
            f"{dataset}: expected at least one query of an identity in "
            f"{_home(root) / FOLDERS['query']}, found only junk and distractors"
        )
    return Split(
        dataset=dataset,
        train=train,
        query=query,
        gallery=listings["gallery"].records,
        protocol=Protocol("market"),
        note="the split of the folders",
    )


def _home(root: Path) -> Path:
    for subfolder in _SUBFOLDERS:
        if (root / subfolder / FOLDERS["train"]).is_dir():
            return root / subfolder
    problem = "no such folder" if not root.is_dir() else f"no folder {FOLDERS['train']} in it"
    raise DataError(
        f"{root}: {problem}; expected the Market-1501 layout "
        f"({', '.join(FOLDERS.values())}) there or in {_SUBFOLDERS[1]}"
    )


def _people(listing: Listing) -> tuple[ImageRecord, ...]:
    return tuple(record for record in listing.records if record.person_id > DISTRACTOR_ID)
