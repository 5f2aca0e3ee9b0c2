"""PNG files, and images in their frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.errors import OutputError
from reid.report.drawing import (
    CELL_HEIGHT,
    CELL_WIDTH,
    FRAME,
    RIGHT,
    captioned,
    framed,
    png_bytes,
    save_png,
)
from reid.types import Image


def canvas() -> Image:
    return np.full((400, 300, 3), 255, np.uint8)


def test_a_saved_picture_is_read_back_as_it_was(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    save_png(image, tmp_path / "new" / "picture.png")
    data = (tmp_path / "new" / "picture.png").read_bytes()
    assert data == png_bytes(image)
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), image)


def test_a_picture_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"file/picture\.png"):
        save_png(np.zeros((2, 2, 3), np.uint8), tmp_path / "file" / "picture.png")


@pytest.mark.parametrize("shape", [(128, 64), (60, 60), (400, 90), (1, 50)])
def test_an_image_keeps_its_aspect_and_what_it_fills_can_be_drawn_on(
    shape: tuple[int, int],
) -> None:
    drawn = canvas()
    filled = framed(drawn, 10, 20, np.full((*shape, 3), 128, np.uint8), RIGHT)
    height, width = filled.shape[:2]
    assert (height, width) == (CELL_HEIGHT - 2 * FRAME, width) or width == CELL_WIDTH - 2 * FRAME
    assert abs(height / width - shape[0] / shape[1]) < 0.02 * max(1, shape[0] / shape[1])
    assert (drawn == 128).all(2).sum() == height * width
    filled[:] = 7
    assert (drawn == 7).all(2).sum() == height * width
    assert drawn[20, 10].tolist() == drawn[20 + CELL_HEIGHT - 1, 10].tolist() == list(RIGHT)


def test_a_long_caption_is_made_small_enough_for_its_cell() -> None:
    drawn = canvas()
    captioned(drawn, 80, 20, "W" * 20, "x")
    columns = np.flatnonzero((drawn < 255).any((0, 2)))
    stroke = 3  # of a letter, beyond its width
    assert columns.min() >= 80 - stroke
    assert columns.max() < 80 + CELL_WIDTH + stroke
