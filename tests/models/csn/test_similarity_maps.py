"""Attended parts and similarity maps lie where the network's own sampling says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from reid.model_file.preprocess import Preprocess
from reid.models.csn.network import Csn, CsnDescription
from reid.models.csn.settings import CsnSettings
from reid.models.csn.similarity_maps import (
    map_stride,
    over_image,
    part_corners,
    parts_in_image,
    similarity_maps,
)
from reid.models.csn.spatial_transformer import CentreCrop, sample, stripes
from reid.types import BoolArray, FloatArray

PLAIN = Preprocess(160, 60, 160, 60)
CROPPED = Preprocess(176, 68, 160, 60)


@pytest.mark.parametrize(
    ("image", "map_height", "stride"), [(160, 40, 4), (160, 20, 8), (73, 19, 4), (73, 10, 8)]
)
def test_a_stride_is_found_through_poolings_that_round_up(
    image: int, map_height: int, stride: int
) -> None:
    assert map_stride(image, map_height) == stride


@pytest.mark.parametrize("align_corners", [True, False])
def test_the_corners_of_a_centre_crop_are_its_pixels_outer_edges(align_corners: bool) -> None:
    crop = CentreCrop(10, align_corners)
    _, thetas = crop(stripes(torch.rand(2, 1, 40, 15)).flatten(0, 1))
    corners = part_corners(thetas.view(2, 3, 2, 3), (40, 15), 10, align_corners)
    for image in corners:
        for top, found in zip((0, 10, 20), image, strict=True):
            upper, lower = top + 5, top + 15
            expected = [[2, upper], [12, upper], [12, lower], [2, lower]]
            np.testing.assert_allclose(found, expected, atol=1e-4)


def literal_place(
    theta: list[list[float]], row: float, column: float, size: int, stripe: tuple[int, int]
) -> tuple[float, float]:
    """Eq. 1 for one place of the part with aligned corners: (x, y) from the stripe's edge."""
    height, width = stripe
    w_out, h_out = (2 * index / (size - 1) - 1 for index in (column, row))
    x = theta[0][0] * w_out + theta[0][1] * h_out + theta[0][2]
    y = theta[1][0] * w_out + theta[1][1] * h_out + theta[1][2]
    return (x + 1) / 2 * (width - 1) + 0.5, (y + 1) / 2 * (height - 1) + 0.5


def test_corners_are_half_a_step_outside_the_outermost_sampled_points() -> None:
    thetas = torch.rand(2, 3, 2, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    found = part_corners(thetas, (20, 8), 5)
    for image in range(2):
        for stripe, top in enumerate((0, 5, 10)):
            theta = thetas[image, stripe].tolist()
            places = [(-0.5, -0.5), (-0.5, 4.5), (4.5, 4.5), (4.5, -0.5)]
            literal = [literal_place(theta, row, column, 5, (10, 8)) for row, column in places]
            expected = np.array([(x, y + top) for x, y in literal])
            np.testing.assert_allclose(found[image, stripe], expected, atol=1e-5)


def touched(corners: FloatArray, height: int, width: int) -> BoolArray:
    """The pixels of which the quadrilateral covers any of 32 x 32 points."""
    fine = 32
    y, x = (np.mgrid[: height * fine, : width * fine] + 0.5) / fine
    inside = np.ones_like(x, np.bool_)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= 0
    return np.asarray(inside.reshape(height, fine, width, fine).any((1, 3)), np.bool_)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    "theta",
    [
        [[0.8, 0.0, 0.0], [0.0, 0.8, 0.0]],
        [[0.75, 0.0, -0.2], [0.0, 0.5, 0.45]],
        [[0.75, 0.1, 0.05], [-0.1, 0.55, 0.2]],
    ],
)
def test_a_map_of_1_inside_the_quadrilateral_gives_parts_of_1_and_outside_of_0(
    theta: list[list[float]], align_corners: bool
) -> None:
    thetas = torch.tensor(theta).view(1, 1, 2, 3)
    (corners,) = part_corners(thetas, (24, 15), 8, align_corners)[0]
    inside = touched(corners, 24, 15)
    assert 0 < inside.sum() < inside.size
    for mask, expected in ((inside, 1.0), (~inside, 0.0)):
        maps = torch.from_numpy(mask.astype(np.float32))[None, None]
        part = sample(maps, thetas[0], 8, align_corners)
        torch.testing.assert_close(part, torch.full_like(part, expected))


def test_a_quadrilateral_is_not_larger_than_its_part() -> None:
    _, theta = CentreCrop(10)(torch.zeros(1, 1, 24, 15))
    (corners,) = part_corners(theta[None], (24, 15), 10)[0]
    inside = touched(corners, 24, 15)
    assert inside.sum() == 100
    for row, column in np.argwhere(inside):
        maps = torch.zeros(1, 1, 24, 15)
        maps[0, 0, row, column] = 1
        assert sample(maps, theta, 10).sum() == pytest.approx(1, abs=1e-5)


def described(maps: Tensor, parts: Tensor) -> CsnDescription:
    """One level; whole maps attended to."""
    whole = torch.eye(2, 3).expand(*parts.shape[:2], 2, 3)
    return CsnDescription((maps,), (parts,), maps.new_empty(len(maps), 0), (whole,))


def test_parts_are_moved_by_the_crop_and_scaled_by_the_resize() -> None:
    network = Csn(CsnSettings(levels=(3,), divide=False, align_corners=False))
    image = described(torch.zeros(1, 96, 20, 8), torch.zeros(1, 1, 96, 5, 5))
    (found,) = parts_in_image(network, image, CROPPED)
    # 8 x 20 pixels of 8 x 8: 64 x 160 from (4, 8) on, out of 68 x 176.
    left, upper, right, lower = 4 / 68, 8 / 176, 68 / 68, 168 / 176
    expected = [[left, upper], [right, upper], [right, lower], [left, lower]]
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-6)


def test_a_similarity_map_is_the_mean_of_every_channel_s_and_stripe_s_correlation() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 96, 20, 8)).astype(np.float32)
    parts = rng.normal(size=(1, 3, 96, 5, 5)).astype(np.float32)
    query = described(torch.zeros(1, 96, 20, 8), torch.from_numpy(parts))
    gallery = described(torch.from_numpy(maps), torch.zeros(2, 3, 96, 5, 5))
    (found,) = similarity_maps(Csn(CsnSettings(levels=(3,))), query, gallery)
    assert found.shape == (2, 20, 8)
    for n, y, x in ((0, 10, 4), (1, 2, 5), (1, 0, 0)):
        padded = np.pad(maps[n], ((0, 0), (2, 2), (2, 2)))
        window = padded[:, y : y + 5, x : x + 5]
        expected = np.mean([(parts[0, s] * window).sum((1, 2)) for s in range(3)])
        assert found[n, y, x] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("size", "shape"), [(5, (20, 8)), (10, (40, 15)), (3, (20, 8))])
def test_the_heat_peaks_where_the_query_s_pattern_is_in_the_gallery_image(
    size: int, shape: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    pattern = torch.rand(96, size, size, generator=generator)
    places = [(1, 0), (shape[0] // 2, shape[1] - size - 1)]
    maps = 0.1 * torch.rand(2, 96, *shape, generator=generator)
    for image, (row, column) in zip(maps, places, strict=True):
        image[:, row : row + size, column : column + size] = pattern
    query = described(torch.zeros(1, 96, *shape), pattern[None, None])
    (found,) = similarity_maps(
        Csn(CsnSettings(divide=False)), query, described(maps, torch.zeros(2, 1, 96, size, size))
    )
    stride = math.ceil(160 / shape[0])
    for similarity, (row, column) in zip(found, places, strict=True):
        laid = over_image(similarity, size, PLAIN, (320, 120))
        peak = np.unravel_index(int(np.argmax(laid)), laid.shape)
        centre = [2 * stride * (row + size / 2), 2 * stride * (column + size / 2)]
        np.testing.assert_allclose(np.array(peak) + 0.5, centre, atol=2)


def test_what_the_crop_leaves_out_has_no_heat() -> None:
    laid = over_image(np.ones((20, 8), np.float32), 5, CROPPED, (176, 68))
    inside = np.isfinite(laid)
    assert inside.sum() == 160 * 60
    assert inside[8:168, 4:64].all()
    np.testing.assert_allclose(laid[inside], 1, atol=1e-6)
