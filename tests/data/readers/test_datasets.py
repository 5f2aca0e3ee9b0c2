"""Names, and settings that a dataset has no use for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from reid.config.settings import DataConfig
from reid.config.toml import load_recipe, recipe_names
from reid.data import DATASETS, inspect_dataset, load_split
from reid.data.readers.datasets import published_counts
from reid.errors import ConfigError, DataError

Pictures = Callable[[Path, Iterable[str]], Path]


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_says_what_it_expected_of_an_empty_folder(name: str, tmp_path: Path) -> None:
    for refuse in (load_split, inspect_dataset):
        with pytest.raises(DataError, match=str(tmp_path)) as caught:
            refuse(name, tmp_path)
        assert "expected" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_names_a_dataset(recipe: str) -> None:
    assert load_recipe(recipe).data.name in DATASETS


def test_published_images_add_up_to_the_papers_totals() -> None:
    def images(name: str) -> int:
        return sum(count for count, _ in published_counts(name).values())

    assert images("msmt17") == images("msmt17_v2") == 126_441
    assert images("dukemtmc") == 36_411
    assert images("cuhk03_np_labeled") == images("cuhk03_labeled") == 14_096
    assert images("cuhk03_np_detected") == images("cuhk03_detected") == 14_097
    assert images("viper") == 1_264
    assert images("folder") == 0


def test_settings_that_a_dataset_has_no_use_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="viper has no validation part"):
        load_split("viper", tmp_path, validation="train")
    with pytest.raises(DataError, match=r"found 'aprt' \(did you mean 'apart'\?\)"):
        load_split("msmt17", tmp_path, validation="aprt")
    with pytest.raises(DataError, match="seed must be 0 or above, found -1"):
        load_split("viper", tmp_path, split_seed=-1)
    with pytest.raises(DataError, match="msmt17 has a fixed split"):
        load_split("msmt17", tmp_path, num_test_identities=3)
    with pytest.raises(ConfigError, match=r"data\.validation .*; found 'no'"):
        DataConfig(validation="no")
    with pytest.raises(ConfigError, match=r"data\.split_seed must be 0 or above"):
        DataConfig(split_seed=-1)


TEST_IMAGES = ["query/0003_c1s1_000000_00.jpg", "bounding_box_test/0003_c2s1_000001_01.jpg"]
WITHOUT_TRAINING = {
    "market1501": "",
    "market1501_multi_query": "Market-1501-v15.09.15/",
    "market1501_500k": "",
    "dukemtmc": "DukeMTMC-reID/",
    "synthetic": "",
    "cuhk03_np_labeled": "cuhk03-np/labeled/",
}


@pytest.mark.parametrize("name", WITHOUT_TRAINING)
def test_training_images_are_not_needed_to_evaluate(
    write_pictures: Pictures, tmp_path: Path, name: str
) -> None:
    names = [*TEST_IMAGES, "gt_bbox/0003_c1s1_000000_00.jpg", "images/1.jpg"]
    write_pictures(tmp_path, [f"{WITHOUT_TRAINING[name]}{one}" for one in names])
    split = load_split(name, tmp_path)
    assert (len(split.train), len(split.query)) == (0, 1)
    assert len(split.gallery) == (2 if name == "market1501_500k" else 1)
    assert "for evaluation only" in split.note
    found = inspect_dataset(name, tmp_path)
    assert "train" not in found.subsets
    assert any("for evaluation only" in line for line in found.lines())
    with pytest.raises(DataError, match=r"no training images in .*for evaluation only"):
        load_split(name, tmp_path, for_training=True)


def test_own_test_images_are_refused_for_training(write_pictures: Pictures, tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"query/{n}/c1/1.jpg" for n in "ab"])
    write_pictures(tmp_path, [f"gallery/{n}/c2/1.jpg" for n in "ab"])
    with pytest.raises(DataError, match="folder: no training images in"):
        load_split("folder", tmp_path, for_training=True)
