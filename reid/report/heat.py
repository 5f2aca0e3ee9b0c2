"""Numbers as colours: from black over red to yellow."""

from __future__ import annotations

import cv2
import numpy as np

from reid.types import FloatArray, Image

HEAT_SHARE = 0.65
"""Share of the heat colour over an image; the rest is the image in grey."""


def coloured(values: FloatArray, scale: tuple[float, float]) -> Image:
    """Values (H, W) as colours (H, W, 3); ``scale`` is the darkest and the brightest value."""
    low, high = scale
    share = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-12), 0, 1)
    byte = (255 * share).round().astype(np.uint8)
    return np.asarray(cv2.applyColorMap(byte, cv2.COLORMAP_INFERNO), np.uint8)


def heat(image: Image, values: FloatArray, scale: tuple[float, float]) -> Image:
    """Values (H, W) as colours over the image (H, W, 3) in grey; grey alone where they are NaN."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    blended = cv2.addWeighted(coloured(values, scale), HEAT_SHARE, grey, 1 - HEAT_SHARE, 0)
    return np.where(np.isnan(values)[..., None], grey, blended).astype(np.uint8)
