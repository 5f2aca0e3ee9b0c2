"""CUHK03 with its 20 test sets; boxes drawn by hand (labeled) or by a detector (detected).

Li, Zhao, Xiao and Wang, "DeepReID: Deep Filter Pairing Neural Network for Person
Re-Identification", CVPR 2014. https://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html

Published: 1,467 identities of five camera pairs, 14,096 labeled and 14,097 detected images,
at most five per identity and camera. The paper itself counts 1,360 identities, those of the
first three pairs.

The file has 20 test sets of 100 identities each; the split seed, 0 to 19, selects one.
All other identities are for training (1367/100). With ``validation = "apart"``, as in the
paper, training uses the first three pairs without 100 random validation identities
(1160/100/100). Queries are the images of the first camera; the gallery is one random image per
identity from the second camera. This is repeated and averaged (single-shot). Labeled and
detected images are two datasets here, because papers train and test on each alone.
"""

from __future__ import annotations

import re
from pathlib import Path

from reid.data.readers.cuhk03_mat import extract, read_test_sets
from reid.data.readers.division import Choice, draw_identities
from reid.data.readers.folders import (
    Contents,
    IdAndCamera,
    find_home,
    identities,
    list_folder,
    require_two_identities,
    search_home,
)
from reid.errors import DataError
from reid.types import Protocol, Split

PUBLISHED = {"labeled": {"all": (14_096, 1_467)}, "detected": {"all": (14_097, 1_467)}}
"""Kind -> subset -> (images, identities) of the released file."""

NAMES = ("cuhk03_release", "cuhk03")
FIRST_VIEW, SECOND_VIEW = 0, 1
"""``camera_id`` of the query's and the gallery's camera. An identity belongs to one pair, so
all pairs can share these two numbers."""

VALIDATION_IDENTITIES = 100
PAPERS_PAIRS = 3
GALLERY_DRAWS = 10
"""Number of random single-shot galleries to average over."""

_NAME = re.compile(r"([1-5])_(\d{3})_([12])_\d{2}\.", re.ASCII)


def parse_name(name: str) -> IdAndCamera | None:
    """``2_017_1_03.png`` -> (2017, FIRST_VIEW): pair 2, person 17, view 1, image 3."""
    match = _NAME.match(name)
    return (int(match[1] + match[2]), int(match[3]) - 1) if match else None


def list_cuhk03(kind: str, root: Path) -> Contents:
    """All images of a kind, extracted on first use. Raises the same errors as ``extract``."""
    return Contents({"all": list_folder(image_folder(kind, root), parse_name)})


def read_cuhk03(kind: str, root: Path, choice: Choice) -> Split:
    """The split of test set ``choice.seed``, for the ``single_shot`` protocol.

    Raises DataError if the file is not CUHK03's or has no such test set.
    """
    dataset, mat = f"cuhk03_{kind}", mat_file(root)
    test = _test_set(dataset, mat, choice)
    records = list_cuhk03(kind, root).subsets["all"].records
    train = [record for record in records if record.person_id not in test]
    words = ""
    if choice.validation == "apart":
        train = [record for record in train if record.person_id // 1000 <= PAPERS_PAIRS]
        apart = draw_identities(
            dataset,
            mat,
            identities(train),
            VALIDATION_IDENTITIES,
            choice.seed,
            "are in the first three camera pairs and not in the test set",
            "validation",
        )
        train = [record for record in train if record.person_id not in apart]
        words = f"/{len(apart)} for validation"
    require_two_identities(dataset, mat, train)
    tested = [record for record in records if record.person_id in test]
    return Split(
        dataset=dataset,
        train=tuple(train),
        query=tuple(record for record in tested if record.camera_id == FIRST_VIEW),
        gallery=tuple(record for record in tested if record.camera_id == SECOND_VIEW),
        protocol=Protocol("single_shot", trials=GALLERY_DRAWS, seed=choice.seed),
        note=f"{len(identities(train))}{words}/{len(test)} identities, test set {choice.seed}",
    )


def mat_file(root: Path) -> Path:
    """``cuhk-03.mat`` under ``root``. Raises DataError if it is missing."""
    return find_home(root, NAMES, "cuhk-03.mat", "cuhk-03.mat") / "cuhk-03.mat"


def image_folder(kind: str, root: Path) -> Path:
    """The folder of a kind's extracted images; extracts them now if it is missing."""
    name = f"images_{kind}"
    home = search_home(root, NAMES, name) if root.is_dir() else None
    return home / name if home else extract(mat_file(root), kind)


def _test_set(dataset: str, mat: Path, choice: Choice) -> frozenset[int]:
    sets = read_test_sets(mat)
    if choice.seed >= len(sets):
        raise DataError(
            f"{dataset}: the split seed selects one of {len(sets)} test sets; expected "
            f"0 to {len(sets) - 1}, found {choice.seed}"
        )
    test = sets[choice.seed]
    if choice.num_test_identities not in (0, len(test)):
        raise DataError(
            f"{dataset}: its test sets have {len(test)} identities; expected "
            f"num_test_identities {len(test)} or 0, found {choice.num_test_identities}"
        )
    return test
