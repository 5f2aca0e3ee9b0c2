"""VIPeR: random halves, each image asks the other camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid.data import inspect_dataset, load_split
from reid.errors import DataError
from reid.evaluation.scoring import measure
from reid.matching.labels import labels_from_records


def _viper(folder: Path, identities: int, suffix: str = ".bmp") -> Path:
    """Empty files with the release's gaps and angles; a split is made from names alone."""
    for camera, angle in (("cam_a", 0), ("cam_b", 90)):
        (folder / camera).mkdir(parents=True)
        for person in range(identities):
            (folder / camera / f"{person * 3:03d}_{angle + person % 2 * 45}{suffix}").touch()
    return folder


def test_half_of_the_identities_are_tested_and_the_other_half_trains(tmp_path: Path) -> None:
    split = load_split("viper", _viper(tmp_path, 10))
    train, test = ({record.person_id for record in side} for side in (split.train, split.query))
    assert len(train) == len(test) == 5
    assert not train & test
    assert len(split.train) == len(split.query) == 10
    assert min(train | test) == 1  # file 000 is person 1: 0 would be a distractor
    assert split.note == "5/5 identities, random split with seed 0, both directions"


def test_ten_seeds_are_ten_halves_and_each_is_the_same_again(tmp_path: Path) -> None:
    _viper(tmp_path, 40)
    halves = [load_split("viper", tmp_path, split_seed=seed) for seed in range(10)]
    assert len({frozenset(record.path for record in split.query) for split in halves}) == 10
    assert load_split("viper", tmp_path, split_seed=3) == halves[3]


def test_the_figures_are_the_mean_of_both_directions(tmp_path: Path) -> None:
    split = load_split("viper", _viper(tmp_path, 20))
    labels = labels_from_records(split.query)
    distances = np.random.default_rng(0).random((20, 20)).astype(np.float32)
    both = measure(lambda rows: distances[rows], labels, labels, split.protocol).scores
    ranks = []
    for asking in (0, 1):
        for q in np.flatnonzero(labels.camera_ids == asking):
            others = np.flatnonzero(labels.camera_ids != asking)
            order = others[np.argsort(distances[q, others])]
            ranks.append(int(np.argmax(labels.person_ids[order] == labels.person_ids[q])))
    assert both.cmc[1] == pytest.approx(np.mean(np.array(ranks) < 1))
    assert both.cmc[5] == pytest.approx(np.mean(np.array(ranks) < 5))
    assert (both.num_query, both.num_unanswerable) == (20, 0)


def test_an_archive_in_its_own_folder_and_upper_case_suffixes_are_read(tmp_path: Path) -> None:
    folder = _viper(tmp_path / "VIPeR.v1.0" / "VIPeR", 4, ".BMP")
    (folder / "cam_a" / "Thumbs.db").touch()
    assert len(load_split("viper", tmp_path).query) == 4


def test_the_complete_dataset_is_as_published_and_splits_316_to_316(tmp_path: Path) -> None:
    _viper(tmp_path, 632)
    found = inspect_dataset("viper", tmp_path)
    assert found.matches_published is True
    assert found.split.startswith("316/316 identities")


def test_a_missing_camera_and_too_many_test_identities_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cam_a not found; expected VIPeR"):
        load_split("viper", tmp_path)
    _viper(tmp_path, 4)
    with pytest.raises(DataError, match=r"316 test identities.* has 4 that"):
        load_split("viper", tmp_path, num_test_identities=316)
    with pytest.raises(DataError, match="at least 2 identities, found 1"):
        load_split("viper", tmp_path, num_test_identities=3)
