"""Two scales' maps over the image, for each run beside the other."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reid.losses.settings import DEFAULTS
from reid.model_file.preprocess import Preprocess
from reid.models.looks import ScalesSeen
from reid.models.sisnet.activation_maps import scale_maps, scales_seen
from reid.models.sisnet.network import SisNet
from reid.models.sisnet.settings import SisNetSettings
from reid.report.activations import RUN_GAP, SCALE_GAP, Attention, activations_picture
from reid.report.drawing import (
    CAPTION_HEIGHT,
    CELL_HEIGHT,
    CELL_WIDTH,
    FRAME,
    GAP,
    HEADER_HEIGHT,
    MARGIN,
    QUERY_GAP,
    TITLE_HEIGHT,
)
from reid.types import FloatArray, Image, ImageRecord

SIZE = Preprocess(72, 40, 64, 32)
TOP = MARGIN + TITLE_HEIGHT + HEADER_HEIGHT + 12
LEFT = MARGIN + CELL_WIDTH + QUERY_GAP
RUN_WIDTH = 2 * CELL_WIDTH + SCALE_GAP + RUN_GAP


@pytest.fixture
def records(tmp_path: Path) -> list[ImageRecord]:
    """Two grey images."""
    found = []
    for person in (1, 2):
        path = tmp_path / f"{person}.png"
        assert cv2.imwrite(str(path), np.full((144, 72, 3), 60 * person, np.uint8))
        found.append(ImageRecord(path, person, 1))
    return found


def seen(name: str, *maps: FloatArray) -> Attention:
    """A run that sees the same first and second map in both images."""
    first, second = (np.stack([one, one]) for one in maps)
    both = ScalesSeen((first, second), ("64x32", "48x32"), [3, 4], [0.5, float("nan")])
    return Attention(name, SIZE, both)


def panel(picture: Image, run: int, scale: int, row: int = 0) -> Image:
    top = TOP + row * (CELL_HEIGHT + CAPTION_HEIGHT + GAP)
    left = LEFT + run * RUN_WIDTH + scale * (CELL_WIDTH + SCALE_GAP)
    return picture[
        top + FRAME : top + CELL_HEIGHT - FRAME, left + FRAME : left + CELL_WIDTH - FRAME
    ]


def brightness(part: Image) -> float:
    return float(part.astype(int).sum(2).mean())


UPPER = np.array([[9, 9], [9, 9], [0, 0], [0, 0]], np.float32)


def test_a_map_is_bright_where_it_is_great_and_each_has_its_own_scale(
    records: list[ImageRecord],
) -> None:
    runs = [seen("one", UPPER, UPPER[::-1]), seen("two", UPPER / 100 - 5, UPPER)]
    picture = activations_picture(records, runs)
    half = (CELL_HEIGHT - 2 * FRAME) // 2
    for run, scale, upper_is_brighter in ((0, 0, 1), (0, 1, 0), (1, 0, 1), (1, 1, 1)):
        part = panel(picture, run, scale)
        assert (brightness(part[:half]) > brightness(part[half:])) == upper_is_brighter
    assert np.array_equal(panel(picture, 0, 0), panel(picture, 1, 0))


def test_runs_stand_side_by_side_and_images_below_one_another(records: list[ImageRecord]) -> None:
    runs = [seen("one", UPPER, UPPER), seen("two", UPPER, UPPER), seen("three", UPPER, UPPER)]
    whole = activations_picture(records, runs)
    assert whole.shape[1] == activations_picture(records, runs[:1]).shape[1] + 2 * RUN_WIDTH
    one = activations_picture(records[:1], runs)
    assert whole.shape[0] - one.shape[0] == CELL_HEIGHT + CAPTION_HEIGHT + GAP
    assert brightness(panel(whole, 2, 1, 0)) < brightness(panel(whole, 2, 1, 1))


def test_what_is_shown_is_the_run_s_own_maps(records: list[ImageRecord]) -> None:
    torch.manual_seed(0)
    network = SisNet(5, SisNetSettings(depth=18, second_size=(48, 32))).eval()
    images = [np.asarray(cv2.imread(str(record.path)), np.uint8) for record in records]
    found = scales_seen(network, SIZE, images, DEFAULTS)
    with torch.no_grad():
        expected = scale_maps(network, torch.from_numpy(SIZE.batch(images)))
    np.testing.assert_allclose(found.maps[0], expected.first.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.maps[1], expected.second.numpy(), atol=1e-5)
    assert found.sizes == ("64x32", "48x32")
    assert found.classes == expected.classes.tolist()
    assert len(found.agreement) == 2
