"""What a dataset check finds, and that findings are not errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.data import inspect_dataset, read_image
from reid.errors import DataError
from tests.heard import Heard

FILES = (
    "bounding_box_train/0001_c1s1_000001_00.jpg",
    "bounding_box_train/0001_c2s1_000001_00.jpg",
    "bounding_box_train/0002_c1s1_000001_00.jpg",
    "query/0003_c1s1_000001_00.jpg",
    "bounding_box_test/0003_c2s1_000001_00.jpg",
    "bounding_box_test/0004_c2s1_000001_00.jpg",
    "bounding_box_test/0000_c2s1_000001_00.jpg",
    "bounding_box_test/-1_c3s1_000001_00.jpg",
)


@pytest.fixture
def market(tmp_path: Path) -> Path:
    for shade, name in enumerate(FILES):
        picture = cv2.imencode(".jpg", np.full((16, 8, 3), 20 * shade, np.uint8))[1].tobytes()
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture)
    return tmp_path


def test_each_subset_is_counted(market: Path) -> None:
    subsets = inspect_dataset("market1501", market).subsets
    counted = {
        name: (s.images, s.identities, s.cameras, s.junk, s.distractors)
        for name, s in subsets.items()
    }
    assert counted == {
        "train": (3, 2, 2, 0, 0),
        "query": (1, 1, 1, 0, 0),
        "gallery": (4, 2, 2, 1, 1),
    }


def test_counts_that_differ_from_the_published_are_said_and_are_no_error(market: Path) -> None:
    found = inspect_dataset("market1501", market)
    assert found.matches_published is False
    text = "\n".join(found.lines())
    assert "differs from the published 12,936 images, 751 identities" in text


def test_synthetic_data_has_nothing_published_to_match(market: Path) -> None:
    found = inspect_dataset("synthetic", market)
    assert found.matches_published is None
    assert "no published counts" in "\n".join(found.lines())


def test_complete_cuhk01_matches_the_published_counts(tmp_path: Path) -> None:
    for person in range(1, 972):
        for image in (1, 2, 3, 4):
            (tmp_path / f"{person:04d}{image:03d}.png").touch()
    found = inspect_dataset("cuhk01", tmp_path)
    assert found.matches_published is True
    assert len(found.unreadable) == 3884
    assert "and 3,874 more" in "\n".join(found.lines())


def test_a_truncated_image_among_good_ones_is_named(market: Path) -> None:
    path = market / FILES[1]
    path.write_bytes(path.read_bytes()[:-20])
    found = inspect_dataset("market1501", market)
    assert len(found.unreadable) == 1
    assert str(path) in found.unreadable[0]
    assert "truncated" in found.unreadable[0]
    assert any(str(path) in line for line in found.lines())


def test_image_files_with_other_names_are_listed_and_thumbs_db_is_not(market: Path) -> None:
    for name in ("holiday.jpg", "Thumbs.db"):
        (market / "bounding_box_train" / name).write_bytes(b"x")
    found = inspect_dataset("market1501", market)
    assert found.skipped == {"train": ("holiday.jpg",), "query": (), "gallery": ()}
    assert "  train/holiday.jpg" in found.lines()
    assert found.unreadable == ()


def test_identities_of_one_camera_are_listed_for_training_and_for_testing(market: Path) -> None:
    found = inspect_dataset("market1501", market)
    assert found.single_camera == {"train": (2,), "test": (4,)}
    assert "identities seen by one camera only (train): 1" in found.lines()


def test_files_of_the_same_bytes_in_train_and_test_are_listed(market: Path) -> None:
    train, query, gallery = (market / FILES[index] for index in (0, 3, 4))
    assert inspect_dataset("market1501", market).duplicates == ()
    gallery.write_bytes(query.read_bytes())
    assert inspect_dataset("market1501", market).duplicates == ()
    gallery.write_bytes(train.read_bytes())
    found = inspect_dataset("market1501", market)
    assert found.duplicates == (f"{train} = {gallery}",)
    assert "exact duplicates across train and test: 1" in found.lines()


def test_where_nothing_is_divided_the_same_bytes_under_two_identities_are_listed(
    tmp_path: Path,
) -> None:
    picture = cv2.imencode(".png", np.zeros((16, 8, 3), np.uint8))[1].tobytes()
    for name in ("0001001.png", "0001003.png", "0002001.png", "0002003.png"):
        (tmp_path / name).write_bytes(picture)
    found = inspect_dataset("cuhk01", tmp_path)
    assert found.duplicates == (f"{tmp_path / '0001001.png'} = {tmp_path / '0002001.png'}",)
    assert found.split.startswith("not possible: cuhk01: cannot choose 100 test identities")


def test_the_check_says_which_other_protocols_can_be_tested(market: Path) -> None:
    for folder in ("gt_bbox", "images"):
        (market / folder).mkdir()
    assert inspect_dataset("market1501", market).notes == (
        "gt_bbox found: market1501_multi_query is available",
        "500k distractors found: market1501_500k is available",
    )


def test_the_json_form_is_plain_and_complete(market: Path) -> None:
    found = inspect_dataset("market1501", market)
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["subsets"]["gallery"]["junk"] == 1
    assert plain["subsets"]["train"]["matches_published"] is False
    assert plain["single_camera"] == {"train": [2], "test": [4]}


def test_progress_counts_every_file_once(market: Path) -> None:
    heard = Heard()
    inspect_dataset("market1501", market, threads=2, reporter=heard)
    assert heard.calls == [(done, len(FILES), "reading") for done in range(1, len(FILES) + 1)]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected the Market-1501 layout"):
        inspect_dataset("market1501", tmp_path)


@pytest.mark.real_data
def test_real_cuhk01_is_as_published_and_every_image_reads(
    real_data: Callable[..., Path],
) -> None:
    folder = real_data("cuhk01")
    found = inspect_dataset("cuhk01", folder)
    assert found.matches_published is True
    assert found.unreadable == ()
    assert read_image(next(Path(folder, "cuhk01", "campus").glob("*.png"))).shape == (160, 60, 3)
