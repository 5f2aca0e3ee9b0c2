"""Feature maps: which layers and channels are shown, and in which colours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reid.losses.settings import DEFAULTS
from reid.model_file.preprocess import Preprocess
from reid.models.looks import FeatureMaps
from reid.models.msp_cnn.looks import LAYERS, feature_maps, layer_maps
from reid.models.msp_cnn.network import MspCnn
from reid.report.chosen import Trio
from reid.report.drawing import (
    CAPTION_HEIGHT,
    CELL_HEIGHT,
    CELL_WIDTH,
    GAP,
    HEADER_HEIGHT,
    MARGIN,
    QUERY_GAP,
    TITLE_HEIGHT,
)
from reid.report.feature_maps import MAP_GAP, feature_maps_picture, telling_channels
from reid.report.heat import coloured
from reid.types import Image, ImageRecord

SIZE = Preprocess(40, 24, 36, 20)
LEFT = MARGIN + CELL_WIDTH + QUERY_GAP
TOP = MARGIN + TITLE_HEIGHT + 2 * HEADER_HEIGHT
WIDTH = round(CELL_HEIGHT * 20 / 36)


@pytest.fixture(scope="module")
def network() -> MspCnn:
    torch.manual_seed(0)
    return MspCnn(3).eval()


def seen_by(network: MspCnn) -> Callable[[list[Image]], FeatureMaps]:
    return partial(feature_maps, network, SIZE, losses=DEFAULTS)


@pytest.fixture
def trio(tmp_path: Path) -> Trio:
    """Three images of noise, one brighter than the other."""
    noise = np.random.default_rng(0)
    for i in range(3):
        image = noise.integers(0, 85 * (i + 1), (40, 24, 3), np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{i}.png"), image)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    people = ((1, 1), (1, 2), (2, 2))
    return Trio(*(ImageRecord(path, *who) for path, who in zip(paths, people, strict=True)))


def test_maps_are_what_the_network_s_own_modules_give(network: MspCnn) -> None:
    x = torch.randn(2, 3, 36, 20, generator=torch.Generator().manual_seed(0))
    found = layer_maps(network, x, list(LAYERS))
    with torch.no_grad():
        conv1 = network.conv1(x)
        conv2 = network.conv2(conv1)
        pool1 = network.low_level(x)
        expected = (conv1, conv2, pool1, network.inception_1a(pool1))
    for maps, own in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(maps, own.numpy(), atol=1e-5)
    assert not any(module._forward_hooks for module in network.modules())


def test_the_channels_that_vary_most_are_shown_and_no_two_alike() -> None:
    noise = np.random.default_rng(0)
    a, b, c = noise.normal(size=(3, 6, 4)).astype(np.float32)
    flat = np.full((6, 4), 9, np.float32)
    maps = np.stack([flat, 5 * a, 3 * b, 4 * a + 7, 2 * c, -3.5 * a])
    assert telling_channels(maps, 3) == [1, 2, 4]
    assert telling_channels(maps, 1) == [1]
    assert telling_channels(np.stack([a, 2 * a, flat]), 2) == [0, 1]  # a dead one says less
    assert len(telling_channels(maps, 6)) == 6


def test_named_channels_stand_in_their_columns_in_one_scale_of_colours(
    network: MspCnn, trio: Trio
) -> None:
    images = [np.asarray(cv2.imread(str(record.path)), np.uint8) for record in trio]
    maps = layer_maps(network, torch.from_numpy(SIZE.batch(images)), ["conv2", "pool1"])
    picture = feature_maps_picture(seen_by(network), SIZE, trio, {"Conv2": [3], "Pool1": [0, 31]})
    lefts = [LEFT, LEFT + WIDTH + 30, LEFT + 2 * WIDTH + 30 + MAP_GAP]
    shown = [("conv2", 3), ("pool1", 0), ("pool1", 31)]
    for left, (layer, channel) in zip(lefts, shown, strict=True):
        own = maps[layer][:, channel]
        for i in range(3):
            top = TOP + i * (CELL_HEIGHT + CAPTION_HEIGHT + GAP)
            cell = picture[top : top + CELL_HEIGHT, left : left + WIDTH]
            expected = coloured(own[i], (0.0, float(own.max())))
            corners = expected[[0, 0, -1, -1], [0, -1, 0, -1]]
            assert np.array_equal(cell[[0, 0, -1, -1], [0, -1, 0, -1]], corners)
    assert picture.shape[1] == lefts[-1] + WIDTH + MARGIN


def test_without_names_each_layer_shows_its_telling_channels(network: MspCnn, trio: Trio) -> None:
    image = np.asarray(cv2.imread(str(trio.anchor.path)), np.uint8)
    maps = layer_maps(network, torch.from_numpy(SIZE.batch([image])), list(LAYERS))
    named = {name: telling_channels(maps[layer][0], 3) for layer, name in LAYERS.items()}
    chosen = feature_maps_picture(seen_by(network), SIZE, trio)
    assert np.array_equal(chosen, feature_maps_picture(seen_by(network), SIZE, trio, named))
