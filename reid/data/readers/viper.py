"""VIPeR (viewpoint invariant pedestrian recognition).

Gray, Brennan and Tao, "Evaluating Appearance Models for Recognition, Reacquisition, and
Tracking", PETS 2007. https://vision.soe.ucsc.edu/node/178

Published: 632 identities, one 48x128 BMP of each in ``cam_a`` and one in ``cam_b``:
``cam_a/001_45.bmp`` and ``cam_b/001_90.bmp`` show identity 001, seen at 45 and at 90
degrees. The numbers run from 000 to 873 with gaps; here they start at 1.

There is no fixed split. The papers average over 10 random halves, 316 identities for training
and 316 for testing: seeds 0 to 9 here. Each half is tested in both directions, every image
against those of the other camera, and the results are the mean of the two.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from reid.data.readers.division import Choice, draw_identities
from reid.data.readers.folders import (
    Contents,
    IdAndCamera,
    find_home,
    identities,
    list_folder,
    require_two_identities,
)
from reid.types import Protocol, Split

PUBLISHED = {"cam_a": (632, 632), "cam_b": (632, 632)}
"""Subset -> (images, identities) as published."""

FOLDERS = ("cam_a", "cam_b")
"""The folder of ``camera_id`` 0 and of 1."""

_NAME = re.compile(r"(\d{3,6})_\d+\.", re.ASCII)


def list_viper(root: Path) -> Contents:
    """The images by camera. Raises DataError if a folder is missing or has no such image."""
    home = _home(root)
    return Contents(
        {
            folder: list_folder(home / folder, partial(_parse, camera))
            for camera, folder in enumerate(FOLDERS)
        }
    )


def read_viper(root: Path, choice: Choice) -> Split:
    """Test on a random half, or ``num_test_identities``, with the ``single_shot`` protocol.

    Query and gallery are the same images: a query is compared with those of the other camera,
    which gives both directions at once. Raises DataError if images are missing or too few.
    """
    home = _home(root)
    cam_a, cam_b = (listing.records for listing in list_viper(root).subsets.values())
    in_both = sorted(set(identities(cam_a)) & set(identities(cam_b)))
    wanted = choice.num_test_identities or len(in_both) // 2
    condition = "are seen by both cameras; the papers use 316 of 632"
    test = draw_identities("viper", home, in_both, wanted, choice.seed, condition)
    train = tuple(record for record in (*cam_a, *cam_b) if record.person_id not in test)
    require_two_identities("viper", home, train)
    tested = tuple(record for record in (*cam_a, *cam_b) if record.person_id in test)
    return Split(
        dataset="viper",
        train=train,
        query=tested,
        gallery=tested,
        protocol=Protocol("single_shot", seed=choice.seed),
        note=f"{len(identities(train))}/{wanted} identities, random split with seed {choice.seed}, "
        "both directions",
    )


def _parse(camera: int, name: str) -> IdAndCamera | None:
    match = _NAME.match(name)
    return (int(match[1]) + 1, camera) if match else None


def _home(root: Path) -> Path:
    return find_home(root, ("VIPeR", "VIPeR.v1.0"), FOLDERS[0], "VIPeR (cam_a and cam_b)")
