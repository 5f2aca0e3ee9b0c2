from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.config.settings import AugmentConfig
from reid.data.augment import CopyKind, Draws, augment, shrunk
from reid.model_file.preprocess import Preprocess
from reid.types import Image

PREPROCESS = Preprocess(resize_height=24, resize_width=14, crop_height=20, crop_width=10)
OFF = AugmentConfig(random_crop=False, mirror_probability=0.0)
seeds = st.integers(0, 2**64 - 1)


def noise(seed: int = 0, height: int = 24, width: int = 14) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def result(config: AugmentConfig, seed: int, image: Image | None = None) -> Image:
    picture = noise() if image is None else image
    return augment(picture, PREPROCESS, config, np.random.default_rng(seed))


def test_with_everything_off_the_crop_is_the_one_evaluation_sees() -> None:
    image = noise(height=40, width=17)
    expected = PREPROCESS.crop(PREPROCESS.resize(image))
    np.testing.assert_array_equal(result(OFF, 0, image), expected)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_a_copy_of_a_kind_is_the_image_or_its_mirror_or_shifted(seed: int) -> None:
    by_chance = AugmentConfig(random_crop=False, mirror_probability=0.5, translation=0.3)
    shifting = AugmentConfig(random_crop=False, mirror_probability=0.0, translation=0.3)

    def copy(kind: CopyKind) -> Image:
        rng = np.random.default_rng(seed)
        return augment(noise(), PREPROCESS, by_chance, rng, kind)

    np.testing.assert_array_equal(copy("image"), result(OFF, seed))
    np.testing.assert_array_equal(copy("mirrored"), result(OFF, seed)[:, ::-1])
    np.testing.assert_array_equal(copy("shifted"), result(shifting, seed))
    np.testing.assert_array_equal(copy("drawn"), result(by_chance, seed))


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_a_mirrored_image_is_the_plain_one_flipped(seed: int) -> None:
    plain = result(AugmentConfig(mirror_probability=0.0), seed)
    mirrored = result(AugmentConfig(mirror_probability=1.0), seed)
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])


def test_half_of_the_images_are_mirrored_at_probability_one_half() -> None:
    config = AugmentConfig(random_crop=False, mirror_probability=0.5)
    plain = result(OFF, 0)
    mirrored = sum(not np.array_equal(result(config, seed), plain) for seed in range(400))
    assert 150 < mirrored < 250


def test_random_crops_are_windows_of_the_image_and_reach_every_place() -> None:
    image = noise()
    config = AugmentConfig(random_crop=True, mirror_probability=0.0)
    windows = {
        image[top : top + 20, left : left + 10].tobytes(): (top, left)
        for top in range(5)
        for left in range(5)
    }
    found = {windows[result(config, seed, image).tobytes()] for seed in range(400)}
    assert found == set(windows.values())


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_switching_one_change_off_leaves_the_others_as_they_were(seed: int) -> None:
    everything = AugmentConfig(colour_jitter_std=0.1, erasing_probability=0.5)
    unerased = AugmentConfig(colour_jitter_std=0.1, erasing_probability=0.0)
    one, other = result(everything, seed), result(unerased, seed)
    erased = (one == (102, 102, 101)).all(axis=2)
    np.testing.assert_array_equal(one[~erased], other[~erased])
    uncoloured = AugmentConfig(colour_jitter_std=0.0, erasing_probability=0.5)
    still_erased = (result(uncoloured, seed) == (102, 102, 101)).all(axis=2)
    np.testing.assert_array_equal(still_erased, erased)


@pytest.mark.parametrize(
    ("order", "mean", "pixel"),
    [
        ("BGR", (10.0, 20.0, 30.0), (10, 20, 30)),
        ("RGB", (10.0, 20.0, 30.0), (30, 20, 10)),
    ],
)
def test_erased_pixels_become_zero_in_the_networks_input(
    order: str, mean: tuple[float, float, float], pixel: tuple[int, int, int]
) -> None:
    preprocess = Preprocess(24, 14, 20, 10, channel_order=order, mean=mean)
    config = replace(OFF, erasing_probability=1.0)
    white = np.full((24, 14, 3), 255, np.uint8)
    crop = augment(white, preprocess, config, np.random.default_rng(1))
    changed = (crop != 255).any(axis=2)
    assert changed.any()
    assert (crop[changed] == pixel).all()
    assert (preprocess.normalise(crop)[:, changed] == 0).all()


def test_what_is_erased_is_a_rectangle_of_the_papers_size_and_shape() -> None:
    big = Preprocess(160, 64, 144, 56)
    config = replace(OFF, erasing_probability=1.0)
    white = np.full((160, 64, 3), 255, np.uint8)
    areas, aspects = [], []
    for seed in range(200):
        erased = (augment(white, big, config, np.random.default_rng(seed)) != 255).any(axis=2)
        height, width = erased.any(axis=1).sum(), erased.any(axis=0).sum()
        assert height * width == erased.sum()
        areas.append(erased.mean())
        aspects.append(height / width)
    # Rounding to whole pixels moves both limits a little.
    assert 0.015 < min(areas) < 0.05
    assert 0.3 < max(areas) < 0.41
    assert 0.27 < min(aspects) < 0.6
    assert 2.5 < max(aspects) < 3.6


def test_colour_jitter_adds_the_principal_components_to_the_whole_image() -> None:
    std_rgb = [0.2175 * 255, 0.0188 * 255, 0.0045 * 255]
    red, green, blue = (
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    )
    grey = np.full((24, 14, 3), 128, np.uint8)
    for seed in range(50):
        alpha = 0.5 * Draws.from_rng(np.random.default_rng(seed)).colour
        pixel = [
            128 + sum(channel[i] * alpha[i] * std_rgb[i] for i in range(3))
            for channel in (blue, green, red)
        ]
        crop = result(replace(OFF, colour_jitter_std=0.5), seed, grey)
        assert np.abs(crop - np.clip(pixel, 0, 255)).max() <= 0.5 + 1e-9


def test_colour_jitter_stops_at_black_and_white() -> None:
    config = replace(OFF, colour_jitter_std=3.0)
    for seed in range(20):
        crop = result(config, seed, np.full((24, 14, 3), 250, np.uint8))
        assert len(np.unique(crop.reshape(-1, 3), axis=0)) == 1
        shade = result(config, seed, np.full((24, 14, 3), 5, np.uint8))
        assert (shade.astype(int) <= crop).all()


def test_the_image_given_is_never_changed_and_never_shared() -> None:
    image = noise()
    before = image.copy()
    config = replace(OFF, erasing_probability=1.0)
    crop = result(config, 0, image)
    np.testing.assert_array_equal(image, before)
    assert not np.shares_memory(result(OFF, 0, image), image)
    assert crop.flags.c_contiguous


def test_no_size_leaves_the_crop_alone() -> None:
    crop = noise()
    assert shrunk(crop, None) is crop


def test_shrinking_to_one_half_averages_two_by_two_pixels() -> None:
    crop = noise(3, 8, 4)
    blocks = crop.reshape(4, 2, 2, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(shrunk(crop, (4, 2)) - blocks).max() <= 0.5


def translated_by_loop(image: Image, down: int, right: int, fill: str = "edges") -> Image:
    """Pixel (y, x) comes from (y - down, x - right); outside it is 0, or the nearest edge pixel."""
    height, width = image.shape[:2]
    moved = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            inside = 0 <= y - down < height and 0 <= x - right < width
            if inside or fill == "edges":
                moved[y, x] = image[
                    min(max(y - down, 0), height - 1), min(max(x - right, 0), width - 1)
                ]
    return moved


@pytest.mark.parametrize("fill", ["zeros", "edges"])
@pytest.mark.parametrize(
    ("largest", "side", "limits"),
    [
        (0.1, "each", (2, 1)),
        (0.05, "each", (1, 0)),
        (0.25, "each", (6, 3)),
        (0.1, "height", (2, 2)),
        (0.05, "height", (1, 1)),
    ],
)
def test_translations_are_uniform_over_whole_pixels_within_their_share_of_a_side(
    largest: float, side: str, limits: tuple[int, int], fill: str
) -> None:
    image = noise()  # 24 x 14: a tenth of it is 2.4 x 1.4
    config = replace(OFF, translation=largest, translation_side=side, translation_fill=fill)
    whole = Preprocess(24, 14, 24, 14)
    rows, columns = (range(-limit, limit + 1) for limit in limits)
    shifts = {
        translated_by_loop(image, down, right, fill).tobytes(): (down, right)
        for down in rows
        for right in columns
    }
    found = Counter(
        shifts[augment(image, whole, config, np.random.default_rng(seed)).tobytes()]
        for seed in range(40 * len(shifts))
    )
    assert set(found) == set(shifts.values())
    assert max(found.values()) < 80  # of 40 expected


def test_a_shift_never_moves_a_narrow_image_out_of_sight() -> None:
    image = np.full((40, 4, 3), 200, np.uint8)
    whole = Preprocess(40, 4, 40, 4)
    config = replace(
        OFF, translation=0.45, translation_side="height"
    )  # 18 of 40 rows, but only 4 columns
    shown = [augment(image, whole, config, np.random.default_rng(seed)).max() for seed in range(50)]
    assert set(shown) == {200}


def test_a_share_of_a_side_that_is_a_whole_number_is_reached() -> None:
    # 0.05 of 160 x 60 is 8 x 3; 0.29 * 100 is a hair below 29 in floating point.
    for side, largest, expected in ((160, 0.05, 8), (60, 0.05, 3), (100, 0.29, 29)):
        whole = Preprocess(side, side, side, side)
        ramp = np.broadcast_to(np.arange(side, dtype=np.uint8)[:, None, None], (side, side, 3))
        config = replace(OFF, translation=largest)
        tops = [
            int(augment(ramp, whole, config, np.random.default_rng(seed))[0, 0, 0])
            for seed in range(400)
        ]
        assert max(tops) == expected


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_translation_leaves_every_other_draw_as_it_was(seed: int) -> None:
    image = noise()
    draws = Draws.from_rng(np.random.default_rng(seed))
    down, right = int(draws.down * 5) - 2, int(draws.right * 3) - 1
    everything = AugmentConfig(colour_jitter_std=0.1, erasing_probability=0.5)
    np.testing.assert_array_equal(
        result(replace(everything, translation=0.1), seed, image),
        result(everything, seed, translated_by_loop(image, down, right)),
    )


def test_the_numbers_drawn_before_translation_came_are_drawn_still() -> None:
    rng = np.random.default_rng(5)
    top, left, mirror, erase = rng.random(4).tolist()
    rectangles, colour = rng.random((20, 4)), rng.standard_normal(3)
    draws = Draws.from_rng(np.random.default_rng(5))
    assert (draws.top, draws.left, draws.mirror, draws.erase) == (top, left, mirror, erase)
    np.testing.assert_array_equal(draws.rectangles, rectangles)
    np.testing.assert_array_equal(draws.colour, colour)
