"""Several datasets as one to train on."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid.config.settings import DataConfig
from reid.data.readers.datasets import load_split
from reid.data.readers.joint import joined, load_training
from reid.errors import DataError
from reid.types import ImageRecord


@pytest.fixture
def sets(people: Path, crowd: Path, tmp_path: Path) -> Path:
    """Two datasets below one folder, each under its name."""
    for name, images in (("market1501", people), ("dukemtmc", crowd)):
        (tmp_path / name).symlink_to(images)
    return tmp_path


def test_the_people_and_cameras_of_two_sets_are_kept_apart() -> None:
    first = [ImageRecord(Path("a.jpg"), 7, 1), ImageRecord(Path("b.jpg"), 2, 3)]
    second = [ImageRecord(Path("c.jpg"), 7, 1), ImageRecord(Path("d.jpg"), 0, 0)]
    records = joined([first, second, first])
    assert "".join(one.path.stem for one in records) == "abcdab"
    assert [one.person_id for one in records] == [7, 2, 15, 8, 23, 18]
    assert [one.camera_id for one in records] == [1, 3, 5, 4, 7, 9]


def test_all_training_images_of_each_set_are_trained_on(sets: Path, people: Path) -> None:
    (sets / "synthetic").symlink_to(people)
    data = load_training(DataConfig(names=("market1501", "synthetic")), sets)
    alone = load_split("market1501", people)
    assert len(data.records) == 2 * len(alone.train)
    assert len({one.person_id for one in data.records}) == 2 * 8
    assert len({one.camera_id for one in data.records}) == 2 * 2
    assert [split.dataset for split, _ in data.parts] == ["market1501", "synthetic"]
    assert "96 images of 16 people" in data.words


def test_one_set_is_read_from_the_root_itself(people: Path) -> None:
    data = load_training(DataConfig(name="synthetic"), people)
    assert data.records == load_split("synthetic", people).train


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (DataConfig(names=("market1501", "market1501")), "market1501 twice"),
        (DataConfig(names=("market1501", "cuhk1")), "cuhk01"),
        (DataConfig(names=("market1501", "viper")), "viper: no such folder"),
        (DataConfig(names=("market1501", "dukemtmc"), num_test_identities=3), "fixed splits"),
        (DataConfig(names=("market1501", "dukemtmc"), validation="apart"), "validation"),
    ],
)
def test_what_cannot_be_joined_is_named(sets: Path, data: DataConfig, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_training(data, sets)


def test_a_set_of_one_camera_cannot_be_joined(sets: Path, tmp_path: Path, people: Path) -> None:
    folder = sets / "folder"
    for person in ("ann", "bob", "cy"):
        (folder / person).mkdir(parents=True)
        for number, image in enumerate(sorted((people / "query").glob("*.jpg"))[:3]):
            (folder / person / f"{number}.jpg").write_bytes(image.read_bytes() + person.encode())
    data = DataConfig(names=("market1501", "folder"), num_test_identities=1)
    with pytest.raises(DataError, match="folder: its training images are of one camera"):
        load_training(data, sets)
