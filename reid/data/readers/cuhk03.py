"""CUHK03 with its 20 test sets; boxes drawn by hand (labeled) or found by a detector.

Li, Zhao, Xiao and Wang, "DeepReID: Deep Filter Pairing Neural Network for Person
Re-Identification", CVPR 2014. https://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html

Published: 1,467 identities of five camera pairs, 14,096 labeled and 14,097 detected images,
five or fewer of each identity and camera. The paper's own 1,360 are those of the first
three pairs.

The file's 20 test sets have 100 identities each; the split's seed, 0 to 19, is the set.
All others train (1367/100), or, with the setting ``validation = "apart"``, as in the paper
those of the first three pairs without 100 drawn at random for validation (1160/100/100).
Queries are the first camera's, the gallery is one random image of each identity of the
second camera, repeated and averaged. Labeled and detected images are two datasets here:
the papers train and test on each alone.
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
the pairs need no telling apart."""

VALIDATION_IDENTITIES = 100
PAPERS_PAIRS = 3
GALLERY_DRAWS = 10
"""Random galleries that single-shot figures are averaged over."""

_NAME = re.compile(r"([1-5])_(\d{3})_([12])_\d{2}\.", re.ASCII)


def parse_name(name: str) -> IdAndCamera | None:
    """``2_017_1_03.png`` -> (2017, FIRST_VIEW): pair 2, person 17, view 1, image 3."""
    match = _NAME.match(name)
    return (int(match[1] + match[2]), int(match[3]) - 1) if match else None


def list_cuhk03(kind: str, root: Path) -> Contents:
    """All images of a kind; the first time they are extracted. Raises what ``extract`` does."""
    return Contents({"all": list_folder(image_folder(kind, root), parse_name)})


def read_cuhk03(kind: str, root: Path, choice: Choice) -> Split:
    """The split of test set ``choice.seed``, for the ``single_shot`` protocol.

    Raises DataError for a file that is not CUHK03's or has no such test set.
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
            "are of the first three camera pairs and not tested",
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
    """``cuhk-03.mat`` under ``root``. Raises DataError where it is not."""
    return find_home(root, NAMES, "cuhk-03.mat", "cuhk-03.mat") / "cuhk-03.mat"


def image_folder(kind: str, root: Path) -> Path:
    """The folder of a kind's extracted images, extracted now if there is none."""
    name = f"images_{kind}"
    home = search_home(root, NAMES, name) if root.is_dir() else None
    return home / name if home else extract(mat_file(root), kind)


def _test_set(dataset: str, mat: Path, choice: Choice) -> frozenset[int]:
    sets = read_test_sets(mat)
    if choice.seed >= len(sets):
        raise DataError(
            f"{dataset}: the split's seed is one of its {len(sets)} test sets, "
            f"0 to {len(sets) - 1}; found {choice.seed}"
        )
    test = sets[choice.seed]
    if choice.num_test_identities not in (0, len(test)):
        raise DataError(
            f"{dataset}: its test sets have {len(test)} identities; "
            f"num_test_identities is {len(test)} or 0, found {choice.num_test_identities}"
        )
    return test
