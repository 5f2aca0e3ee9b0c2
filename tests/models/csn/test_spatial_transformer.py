"""Stripes by the paper's rows, and sampling against a naive bilinear loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from reid.models.csn.spatial_transformer import CentreCrop, SpatialTransformer, sample, stripes


def numbered_rows(height: int) -> Tensor:
    """(1, 1, height, 2): each pixel holds its row."""
    return torch.arange(float(height)).view(1, 1, height, 1).expand(1, 1, height, 2)


@pytest.mark.parametrize(
    ("height", "rows"),
    [
        (40, [(0, 20), (10, 30), (20, 40)]),  # the paper's, of level 2
        (20, [(0, 10), (5, 15), (10, 20)]),  # of level 3
        (10, [(0, 5), (2, 7), (5, 10)]),
        (9, [(0, 5), (2, 7), (4, 9)]),
    ],
)
def test_stripes_are_halves_that_overlap_by_half(height: int, rows: list[tuple[int, int]]) -> None:
    found = stripes(numbered_rows(height))
    expected = [[float(row) for row in range(*span)] for span in rows]
    assert found[0, :, 0, :, 0].tolist() == expected


def test_undivided_maps_are_one_stripe() -> None:
    maps = torch.rand(2, 3, 8, 5)
    assert torch.equal(stripes(maps, divide=False), maps[:, None])


def naive_sample(image: Tensor, transform: Tensor, size: int, align_corners: bool) -> Tensor:
    """Eq. 1 for each output pixel of (C, h, w), then the four neighbours, zeros outside."""
    channels, height, width = image.shape
    (s_w, r_w, t_w), (r_h, s_h, t_h) = transform.tolist()
    out = torch.zeros(channels, size, size)

    def from_pixel(index: int, length: int) -> float:
        if align_corners:
            return 2 * index / (length - 1) - 1
        return (2 * index + 1) / length - 1

    def to_pixel(coordinate: float, length: int) -> float:
        if align_corners:
            return (coordinate + 1) / 2 * (length - 1)
        return ((coordinate + 1) * length - 1) / 2

    for row in range(size):
        for column in range(size):
            w_out, h_out = from_pixel(column, size), from_pixel(row, size)
            x = to_pixel(s_w * w_out + r_w * h_out + t_w, width)
            y = to_pixel(r_h * w_out + s_h * h_out + t_h, height)
            for corner_y in (math.floor(y), math.floor(y) + 1):
                for corner_x in (math.floor(x), math.floor(x) + 1):
                    if 0 <= corner_y < height and 0 <= corner_x < width:
                        weight = (1 - abs(y - corner_y)) * (1 - abs(x - corner_x))
                        out[:, row, column] += weight * image[:, corner_y, corner_x]
    return out


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    "transform",
    [
        [[0.8, 0.0, 0.0], [0.0, 0.8, 0.0]],
        [[0.5, 0.2, -0.3], [-0.1, 0.7, 0.2]],
        [[0.9, 0.0, 0.6], [0.0, 0.9, -0.6]],  # partly outside
        [[-0.4, 0.3, 0.1], [0.2, 0.3, 0.0]],
    ],
)
def test_sampling_equals_the_loop(transform: list[list[float]], align_corners: bool) -> None:
    maps = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    transforms = torch.tensor([transform, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    found = sample(maps, transforms, 5, align_corners)
    for image, theta, part in zip(maps, transforms, found, strict=True):
        expected = naive_sample(image, theta, 5, align_corners)
        torch.testing.assert_close(part, expected, rtol=0, atol=1e-5)


def test_sampling_has_the_gradient_of_its_formula() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(1, 2, 6, 5, generator=generator, dtype=torch.float64).requires_grad_()
    theta = torch.tensor([[[0.61, 0.03, 0.05], [-0.04, 0.57, 0.11]]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m, t: sample(m, t, 3), (maps, theta.requires_grad_()))


def test_coordinates_are_exact_under_autocast() -> None:
    maps = torch.arange(30.0).repeat(20, 1)[None, None]  # a ramp: a part tells where it was taken
    transforms = torch.tensor([[[0.777, 0.0, 0.111], [0.0, 0.777, 0.0]]])
    exact = sample(maps, transforms, 10)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sample(maps, transforms, 10), exact)
        assert sample(maps.bfloat16(), transforms, 10).dtype == torch.bfloat16


def test_the_identity_samples_the_map_itself() -> None:
    maps = torch.rand(1, 2, 6, 6)
    identity = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    for align_corners in (True, False):
        torch.testing.assert_close(sample(maps, identity, 6, align_corners), maps)


def test_training_starts_from_a_centred_part_of_the_set_scale() -> None:
    maps = torch.rand(4, 8, 20, 15)
    parts, transforms = SpatialTransformer(8, 10, attention_init_scale=0.7)(maps)
    assert parts.shape == (4, 8, 10, 10)
    expected = torch.tensor([[0.7, 0.0, 0.0], [0.0, 0.7, 0.0]]).expand(4, 2, 3)
    torch.testing.assert_close(transforms, expected)
    torch.testing.assert_close(parts, sample(maps, expected, 10))


def test_transforms_stay_within_one_whatever_the_layer_says() -> None:
    network = SpatialTransformer(8, 4)
    with torch.no_grad():
        network.transform.bias.fill_(50)
    _, transforms = network(torch.rand(2, 8, 10, 8))
    assert transforms.max().item() == 1


@pytest.mark.parametrize("scale", [0.0, 1.0, -0.5])
def test_a_scale_that_tanh_cannot_give_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=r"attention_init_scale must be in \(0, 1\)"):
        SpatialTransformer(8, 4, attention_init_scale=scale)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("height", "width", "size"), [(20, 15, 10), (10, 8, 5), (3, 3, 3)])
def test_the_crop_is_the_centre_and_its_transform_samples_it(
    height: int, width: int, size: int, align_corners: bool
) -> None:
    maps = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(2))
    parts, transforms = CentreCrop(size, align_corners)(maps)
    top, left = (height - size) // 2, (width - size) // 2
    assert torch.equal(parts, maps[:, :, top : top + size, left : left + size])
    sampled = sample(maps, transforms, size, align_corners)
    torch.testing.assert_close(sampled, parts, rtol=0, atol=1e-5)
