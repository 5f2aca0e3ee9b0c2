"""Market-1501: standard, with multiple queries, or with its 500,000 distractors.

Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.
https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html

Published: bounding_box_train 12,936 images of 751 identities; query 3,368 images of 750
identities; bounding_box_test 19,732 images of the same 750, of which 2,798 are
distractors (``0000``) and 3,819 junk (``-1``). Six cameras, 64x128 JPEG.

``gt_bbox`` has every box drawn by hand. Those with a query's identity and camera are its
multiple queries. ``distractors_500k.zip`` unpacks into ``images``; no query has a match there.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from reid.data.readers.folders import Contents, IdAndCamera, Listing, list_folder
from reid.data.readers.market_layout import (
    FOLDERS,
    layout_home,
    list_layout,
    parse_name,
    people,
    read_layout,
)
from reid.errors import DataError
from reid.types import DISTRACTOR_ID, Protocol, Split

PUBLISHED = {"train": (12_936, 751), "query": (3_368, 750), "gallery": (19_732, 750)}
"""Subset -> (images, identities) as published; junk and distractors are images only."""

MULTI_QUERY_FOLDER = "gt_bbox"
DISTRACTOR_FOLDERS = ("distractors_500k", "images")

_NAMES = ("Market-1501-v15.09.15", "market1501", "Market-1501")


def list_market1501(root: Path) -> Contents:
    """The three folders under ``root``, and notes on the optional ones.

    Raises DataError if one of the three, but for training's, is missing or has no image with
    such a name.
    """
    home = market_home(root)
    contents = list_layout(home)
    notes = [*contents.notes]
    if (home / MULTI_QUERY_FOLDER).is_dir():
        notes.append(f"{MULTI_QUERY_FOLDER} found: market1501_multi_query is available")
    if _distractor_folder(root) is not None:
        notes.append("500k distractors found: market1501_500k is available")
    return dataclasses.replace(contents, notes=tuple(notes))


def read_market1501(root: Path, dataset: str = "market1501") -> Split:
    """The published split. Raises DataError like ``read_layout``."""
    return read_layout(dataset, market_home(root))


def list_multi_query(root: Path) -> Contents:
    """Market-1501 with the multiple queries as its queries."""
    home = market_home(root)
    subsets = list_layout(home).subsets
    boxes = list_folder(home / MULTI_QUERY_FOLDER, parse_name)
    queried = {(record.person_id, record.camera_id) for record in people(subsets["query"])}
    query = tuple(box for box in boxes.records if (box.person_id, box.camera_id) in queried)
    return Contents({**subsets, "query": Listing(query, boxes.skipped)})


def read_multi_query(root: Path) -> Split:
    """Market-1501 for ``multi_query``. Raises DataError, also if ``gt_bbox`` is missing."""
    split = read_market1501(root, "market1501_multi_query")
    query = list_multi_query(root).subsets["query"].records
    if not query:
        raise DataError(
            f"{market_home(root) / MULTI_QUERY_FOLDER}: expected boxes with the identities and "
            "cameras in query, found none"
        )
    note = f"{split.note}, all boxes of a query's identity and camera as one query"
    return dataclasses.replace(split, query=query, protocol=Protocol("multi_query"), note=note)


def list_500k(root: Path) -> Contents:
    """Market-1501 and the distractors. Raises DataError if they are missing."""
    folder = _distractor_folder(root)
    if folder is None:
        raise DataError(
            f"{root}: distractors not found; expected distractors_500k.zip unpacked beside "
            f"{FOLDERS['gallery']}, as {' or '.join(DISTRACTOR_FOLDERS)}"
        )
    distractors = list_folder(folder, _parse_distractor)
    return Contents({**list_layout(market_home(root)).subsets, "distractors": distractors})


def read_500k(root: Path) -> Split:
    """Market-1501 with the distractors in its gallery, for the ``market`` protocol."""
    distractors = list_500k(root).subsets["distractors"].records
    split = read_market1501(root, "market1501_500k")
    note = f"{split.note}, with {len(distractors):,} distractors"
    return dataclasses.replace(split, gallery=split.gallery + distractors, note=note)


def market_home(root: Path) -> Path:
    """The folder with Market-1501's three folders. Raises DataError if it is not found."""
    expected = f"the Market-1501 layout ({', '.join(FOLDERS.values())})"
    return layout_home(root, _NAMES, expected)


def _distractor_folder(root: Path) -> Path | None:
    names = [*(f"{name}/images" for name in DISTRACTOR_FOLDERS), *DISTRACTOR_FOLDERS]
    folders = (place / name for place in (market_home(root), root) for name in names)
    return next((folder for folder in folders if folder.is_dir()), None)


def _parse_distractor(name: str) -> IdAndCamera:
    """Every person here is a distractor; without a query its camera has no effect."""
    parsed = parse_name(name)
    return DISTRACTOR_ID, parsed[1] if parsed else 0
