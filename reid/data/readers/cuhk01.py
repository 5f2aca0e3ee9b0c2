"""CUHK01, also called the CUHK campus dataset.

Li, Zhao and Wang, "Human Reidentification with Transferred Metric Learning", ACCV 2012.
https://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html

Published: 3,884 PNG images (60x160) of 971 identities, four each: ``0001001.png`` is
identity 1, image 1. Images 1 and 2 are view A, images 3 and 4 view B.

There is no fixed split. The papers split the identities at random: 871 for training and
100 for testing, or 485 and 486. Queries are the images of view A; the gallery is one random
image per identity from view B. This is repeated and averaged (single-shot).
"""

from __future__ import annotations

import re
from pathlib import Path

from reid.data.readers.division import Choice, draw_identities
from reid.data.readers.folders import (
    Contents,
    IdAndCamera,
    Listing,
    identities,
    list_folder,
    require_two_identities,
)
from reid.errors import DataError
from reid.types import Protocol, Split

PUBLISHED = {"view A": (1_942, 971), "view B": (1_942, 971)}
"""Subset -> (images, identities) as published."""

VIEW_A, VIEW_B = 0, 1
"""``camera_id`` of the query's and the gallery's view."""

DEFAULT_TEST_IDENTITIES = 100
GALLERY_DRAWS = 10
"""Number of random single-shot galleries to average over."""

_SUBFOLDERS = ("campus", "CUHK01/campus", "cuhk01/campus", "")
_NAME = re.compile(r"(\d{4})(\d{3})\.")


def parse_name(name: str) -> IdAndCamera | None:
    """``0001003.png`` -> (1, VIEW_B); None if the name has another form."""
    match = _NAME.match(name)
    if match is None or not 1 <= int(match[2]) <= 4:
        return None
    return int(match[1]), VIEW_A if int(match[2]) <= 2 else VIEW_B


def list_cuhk01(root: Path) -> Contents:
    """The images by view; files with unexpected names are reported under view A.

    ``root`` is the image folder, or contains it as ``campus`` or ``CUHK01/campus``.
    Raises DataError if the folder is missing or has no such image.
    """
    everything = list_folder(_home(root), parse_name)
    view_a = tuple(r for r in everything.records if r.camera_id == VIEW_A)
    view_b = tuple(r for r in everything.records if r.camera_id == VIEW_B)
    return Contents({"view A": Listing(view_a, everything.skipped), "view B": Listing(view_b)})


def read_cuhk01(root: Path, choice: Choice) -> Split:
    """A random split by identity: ``num_test_identities`` for testing (0: 100), the rest train.

    The same seed gives the same split on every machine. Only identities seen in both views
    are used for testing. Raises DataError if images are missing or too few.
    """
    home, wanted = _home(root), choice.num_test_identities or DEFAULT_TEST_IDENTITIES
    views = list_cuhk01(root).subsets
    view_a, view_b = views["view A"].records, views["view B"].records
    in_both = sorted(set(identities(view_a)) & set(identities(view_b)))
    condition = "are seen in both views; the papers use 100 or 486 of 971"
    test = draw_identities("cuhk01", home, in_both, wanted, choice.seed, condition)
    train = sorted(
        (record for record in (*view_a, *view_b) if record.person_id not in test),
        key=lambda record: record.path,
    )
    require_two_identities("cuhk01", home, train)
    return Split(
        dataset="cuhk01",
        train=tuple(train),
        query=tuple(record for record in view_a if record.person_id in test),
        gallery=tuple(record for record in view_b if record.person_id in test),
        protocol=Protocol("single_shot", trials=GALLERY_DRAWS, seed=choice.seed),
        note=f"{len(identities(train))}/{wanted} identities, random split with seed {choice.seed}",
    )


def _home(root: Path) -> Path:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected CUHK01 with campus/0001001.png")
    return next(root / name for name in _SUBFOLDERS if (root / name).is_dir())
