"""Golden crops: synthetic images on which two runs of one model are compared on any machine."""

from __future__ import annotations

import numpy as np

from reid.types import Image

NUM_CROPS = 12


def golden_crops(count: int = NUM_CROPS, seed: int = 1) -> list[Image]:
    """Crops that show every mistake in preprocessing: (H, W, 3) uint8 BGR.

    Patches of colour, none grey, under fine stripes; 90 to 400 pixels high, so that they are
    enlarged and reduced, and 0.3 to 0.7 as wide, so that stretching differs from padding.
    """
    rng = np.random.default_rng(seed)
    crops = []
    for height, aspect in zip(
        rng.integers(90, 401, count), rng.uniform(0.3, 0.7, count), strict=True
    ):
        width = int(height * aspect)
        patches = rng.integers(20, 236, (6, 3, 3))
        rows, columns = np.arange(height), np.arange(width)
        colours = patches[rows * 6 // height][:, columns * 3 // width]
        period = rng.integers(2, 7, 2)
        stripes = 40.0 * ((rows[:, None] // period[0] + columns // period[1]) % 2) - 20
        crops.append(np.clip(colours + stripes[..., None], 0, 255).astype(np.uint8))
    return crops
