"""Preprocessing against a loop over pixels, and the training path against the deployed one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from reid.errors import ConfigError
from reid.model_file.preprocess import Preprocess
from reid.types import Image

MEAN, STD = (102.0, 101.0, 99.0), (58.0, 57.0, 56.0)


def picture(height: int = 128, width: int = 64, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_the_defaults_are_the_dgd_codes() -> None:
    preprocess = Preprocess()
    assert preprocess.input_shape == (3, 144, 56)
    assert (preprocess.resize_height, preprocess.resize_width) == (160, 64)
    assert (preprocess.channel_order, preprocess.mean) == ("BGR", (102.0, 102.0, 101.0))
    assert preprocess.std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_every_value_is_the_centre_crops_pixel_less_the_mean_over_std(order: str) -> None:
    preprocess = Preprocess(channel_order=order, mean=MEAN, std=STD)
    image = picture()
    resized = cv2.resize(image, (64, 160), interpolation=cv2.INTER_LINEAR)
    found = preprocess(image)
    channels = (0, 1, 2) if order == "BGR" else (2, 1, 0)
    for c, source in enumerate(channels):
        for y in (0, 1, 70, 143):
            for x in (0, 30, 55):
                pixel = float(resized[y + 8, x + 4, source])
                assert found[c, y, x] == pytest.approx((pixel - MEAN[c]) / STD[c], rel=1e-6)


def test_a_batch_holds_what_each_image_gives_alone() -> None:
    preprocess = Preprocess(mean=MEAN, std=STD)
    images = [picture(128, 64, 1), picture(200, 90, 2), picture(160, 64, 3)]
    batch = preprocess.batch(images)
    assert batch.dtype == np.float32
    for row, image in zip(batch, images, strict=True):
        assert np.array_equal(row, preprocess(image))
    assert preprocess.batch([]).shape == (0, 3, 144, 56)


def test_an_image_of_the_right_size_is_not_resampled() -> None:
    image = picture(160, 64)
    assert np.array_equal(Preprocess().resize(image), image)


def test_another_crop_shows_the_same_part_of_an_image() -> None:
    half = Preprocess().with_crop((72, 28))
    assert (half.resize_height, half.resize_width) == (80, 32)
    assert half.input_shape == (3, 72, 28)
    assert Preprocess().with_crop((144, 56)) == Preprocess()
    assert Preprocess(crop_height=160, crop_width=64).with_crop((7, 3)).resize_height == 7


def test_a_crop_elsewhere_moves_by_whole_pixels() -> None:
    preprocess = Preprocess()
    resized = preprocess.resize(picture())
    assert np.array_equal(preprocess.crop(resized, 3, 5), resized[3:147, 5:61])
    assert np.array_equal(preprocess.crop(resized), resized[8:152, 4:60])


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_image_is_refused_with_its_shape(image: Image) -> None:
    with pytest.raises(ValueError, match=r"\(height, width, 3\), found shape"):
        Preprocess().resize(image)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channel_order": "GBR"}, "BGR or RGB"),
        ({"interpolation": "nearest"}, "bilinear, area, cubic"),
        ({"crop_height": 161}, "must fit into 160x64"),
        ({"crop_width": 0}, "must fit into"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be positive"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Preprocess(**settings)  # type: ignore[arg-type]
