"""Caffe's pooling rule and fillers, against loops written from Caffe's definition."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from reid.models.layers import (
    BN_EPS,
    BN_MOMENTUM,
    ConvBnRelu,
    HalvingMaxPool2d,
    InceptionA,
    InceptionB,
    xavier_,
)

Map = npt.NDArray[np.float32]


def caffe_pooled_size(size: int, kernel: int, stride: int, pad: int) -> int:
    """ceil((size + 2 pad - kernel) / stride) + 1; with padding, no window starts outside."""
    pooled = math.ceil((size + 2 * pad - kernel) / stride) + 1
    if pad > 0 and (pooled - 1) * stride >= size + pad:
        pooled -= 1
    return pooled


def caffe_pool(x: Map, kind: str, kernel: int, stride: int, pad: tuple[int, int]) -> Map:
    """Caffe's pooling of (C, H, W), one window at a time.

    AVE divides by the window clipped to the padded map; MAX sees no padding.
    """
    channels, height, width = x.shape
    rows = caffe_pooled_size(height, kernel, stride, pad[0])
    columns = caffe_pooled_size(width, kernel, stride, pad[1])
    pooled = np.zeros((channels, rows, columns), dtype=np.float32)
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride - pad[0], column * stride - pad[1]
            bottom = min(top + kernel, height + pad[0])
            right = min(left + kernel, width + pad[1])
            count = (bottom - top) * (right - left)
            window = x[:, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
            values = window.reshape(channels, -1)
            pooled[:, row, column] = values.max(1) if kind == "max" else values.sum(1) / count
    return pooled


def random_map(channels: int, height: int, width: int) -> Map:
    return np.random.default_rng(0).standard_normal((channels, height, width)).astype(np.float32)


def assert_pools_alike(module: nn.Module, x: Map, expected: Map) -> None:
    found = module(torch.from_numpy(x)[None])[0].numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "pad", "pooled"),
    [
        ((72, 28), (0, 0), (36, 14)),  # inception_1b/pool
        ((36, 14), (0, 0), (18, 7)),  # inception_2b/pool
        ((18, 7), (0, 1), (9, 4)),  # inception_3b/pool, pad_h 0 and pad_w 1
    ],
)
def test_halving_pool_is_the_prototxts_max_pool(
    size: tuple[int, int], pad: tuple[int, int], pooled: tuple[int, int]
) -> None:
    x = random_map(3, *size)
    expected = caffe_pool(x, "max", 3, 2, pad)
    assert expected.shape[1:] == pooled
    assert_pools_alike(HalvingMaxPool2d(), x, expected)


@pytest.mark.parametrize("size", [(72, 28), (36, 14), (18, 7), (9, 4), (5, 1)])
def test_ave_pool_counts_its_padding(size: tuple[int, int]) -> None:
    x = random_map(3, *size)
    assert_pools_alike(InceptionA(3, 2).pool, x, caffe_pool(x, "ave", 3, 1, (1, 1)))


@pytest.mark.parametrize("height", range(2, 20))
def test_halving_pool_has_the_size_of_the_convolutions_beside_it(height: int) -> None:
    block = InceptionB(2, 2).eval()
    for width in (2, 3, 7, 14):
        assert block(torch.zeros(1, 2, height, width)).shape == (
            1,
            6,
            math.ceil(height / 2),
            math.ceil(width / 2),
        )


def test_a_window_that_would_start_outside_the_padded_map_is_dropped() -> None:
    assert caffe_pooled_size(4, kernel=2, stride=2, pad=1) == 3
    assert caffe_pooled_size(5, kernel=2, stride=2, pad=1) == 3  # ceil(5 / 2) + 1 = 4, less one


def test_xavier_fills_uniformly_by_fan_in_alone() -> None:
    torch.manual_seed(0)
    weight = xavier_(torch.empty(128, 32, 3, 3))
    bound = math.sqrt(3 / (32 * 3 * 3))
    assert weight.abs().max().item() <= bound
    assert weight.abs().max().item() > 0.999 * bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_convolution_starts_as_the_prototxts_fillers_say() -> None:
    layer = ConvBnRelu(16, 8, 3, pad=1)
    assert layer.conv.bias is not None
    assert layer.conv.bias.eq(0.2).all()
    assert layer.conv.weight.abs().max().item() <= math.sqrt(3 / (16 * 9))
    assert layer.bn.weight.eq(1).all()
    assert layer.bn.bias.eq(0).all()


def test_running_statistics_keep_nine_tenths_of_the_old() -> None:
    layer = ConvBnRelu(1, 1, 1)
    nn.init.ones_(layer.conv.weight)
    x = torch.tensor([[[[1.0, 3.0]]]])  # after the bias of 0.2: mean 2.2, unbiased variance 2
    out = layer.train()(x)
    assert BN_MOMENTUM == 0.1
    assert layer.bn.running_mean is not None
    assert layer.bn.running_var is not None
    assert layer.bn.running_mean.item() == pytest.approx(0.9 * 0 + 0.1 * 2.2)
    assert layer.bn.running_var.item() == pytest.approx(0.9 * 1 + 0.1 * 2)
    # The batch is divided by its own biased variance, 1, and eps under the root.
    assert out.flatten().tolist() == pytest.approx([0.0, 1 / math.sqrt(1 + BN_EPS)], abs=1e-7)
    assert BN_EPS == 1e-5


BRANCHES_A = ("conv_1x1", "conv_3x3", "double_3x3_2", "pool_proj")
BRANCHES_B = ("conv_3x3", "double_3x3_2")


@pytest.mark.parametrize("branch", range(4))
def test_inception_a_concatenates_in_the_prototxts_order(branch: int) -> None:
    block = InceptionA(5, 2).eval()
    assert changed_channels(block, BRANCHES_A[branch], 8) == [2 * branch, 2 * branch + 1]


@pytest.mark.parametrize("branch", range(2))
def test_inception_b_concatenates_its_convolutions_first(branch: int) -> None:
    block = InceptionB(5, 2).eval()
    assert changed_channels(block, BRANCHES_B[branch], 9) == [2 * branch, 2 * branch + 1]


def changed_channels(block: nn.Module, branch: str, channels: int) -> list[int]:
    """The output channels that move when one branch's last BN shift does."""
    x = torch.rand(1, 5, 8, 6)
    with torch.no_grad():
        before = block(x)
        block.get_submodule(branch).bn.bias.add_(1.0)
        moved = (block(x) - before).abs().amax((0, 2, 3)) > 1e-3
    assert before.shape[1] == channels
    return [index for index, changed in enumerate(moved.tolist()) if changed]


def test_inception_b_passes_the_pooled_input_through_last() -> None:
    block = InceptionB(5, 2).eval()
    x = torch.randn(1, 5, 8, 6)  # negative values survive: no ReLU of its own
    expected = caffe_pool(x[0].numpy(), "max", 3, 2, (0, 0))
    with torch.no_grad():
        found = block(x)[0, 4:].numpy()
    np.testing.assert_array_equal(found, expected)
