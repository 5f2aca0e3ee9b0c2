"""Augmentation of training images: translation, crop, mirror, colour jitter, random erasing.

Works on uint8 BGR pixels, before normalisation. All random numbers are drawn before the first
one is used, so switching one augmentation off leaves the others unchanged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from reid.config.settings import AugmentConfig
from reid.model_file.preprocess import Preprocess
from reid.types import FloatArray, Image

# Principal components of ImageNet's RGB pixels (0-255): standard deviations and, in columns,
# directions. AlexNet (Krizhevsky et al. 2012, section 4.1) defines the jitter but prints no
# numbers; these are the ones its public re-implementations share.
_PCA_STD_RGB = 255.0 * np.array([0.2175, 0.0188, 0.0045])
_PCA_DIRECTIONS_RGB = np.array(
    [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ]
)

# Zhong et al. 2017, "Random Erasing Data Augmentation": share of the crop's area, and height
# divided by width, both uniform; the paper draws again until the rectangle fits.
_ERASED_AREA = (0.02, 0.4)
_ERASED_ASPECT = (0.3, 1 / 0.3)
_ERASING_ATTEMPTS = 20


CopyKind: TypeAlias = Literal["drawn", "image", "shifted", "mirrored"]
"""How a copy of an image is shifted and mirrored: both by chance, or neither, or one of them."""


@dataclass(frozen=True, slots=True)
class Draws:
    """The random numbers of one image: uniform in [0, 1), ``colour`` (3,) standard normal.

    ``rectangles`` (attempts, 4) holds area, aspect, top and left of each attempt to erase;
    ``down`` and ``right`` decide the translation.
    """

    top: float
    left: float
    mirror: float
    erase: float
    colour: npt.NDArray[np.float64]
    rectangles: npt.NDArray[np.float64]
    down: float
    right: float

    @staticmethod
    def from_rng(rng: np.random.Generator) -> Draws:
        """Draw the same numbers in the same order, whatever the configuration."""
        top, left, mirror, erase = rng.random(4).tolist()
        rectangles = rng.random((_ERASING_ATTEMPTS, 4))
        colour = rng.standard_normal(3)
        down, right = rng.random(2).tolist()
        return Draws(top, left, mirror, erase, colour, rectangles, down, right)


def augment(
    image: Image,
    preprocess: Preprocess,
    config: AugmentConfig,
    rng: np.random.Generator,
    kind: CopyKind = "drawn",
) -> Image:
    """(H, W, 3) uint8 BGR -> (crop_height, crop_width, 3) uint8 BGR, always a new array.

    The order is: resize; translation; random crop (or the centre crop); mirror; AlexNet's colour
    jitter; random erasing. Erasing fills with the preprocessing mean (rounded), so that the
    rectangle is 0 in the network's input. ``kind`` other than ``drawn`` decides on translation and
    mirror, and leaves the rest to chance. With everything switched off the result is exactly
    the crop that evaluation uses.
    """
    draws = Draws.from_rng(rng)
    resized = preprocess.resize(image)
    if config.translation > 0 and kind in ("drawn", "shifted"):
        resized = _translated(resized, draws, config)
    top = left = None
    if config.random_crop:
        top = int(draws.top * (preprocess.resize_height - preprocess.crop_height + 1))
        left = int(draws.left * (preprocess.resize_width - preprocess.crop_width + 1))
    crop = preprocess.crop(resized, top, left)
    mirrored = draws.mirror < config.mirror_probability if kind == "drawn" else kind == "mirrored"
    crop = np.asarray(cv2.flip(crop, 1), np.uint8) if mirrored else crop.copy()
    if config.colour_jitter_std > 0:
        crop = _jittered(crop, draws.colour * config.colour_jitter_std)
    if draws.erase < config.erasing_probability:
        _erase(crop, draws.rectangles, preprocess)
    return crop


def shrunk(crop: Image, size: tuple[int, int] | None) -> Image:
    """Resize ``crop`` to ``size`` (height, width), for coarse-to-fine training; None: unchanged.

    Pixel areas are averaged (INTER_AREA) to avoid aliasing.
    """
    if size is None:
        return crop
    return np.asarray(cv2.resize(crop, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _translated(image: Image, draws: Draws, config: AugmentConfig) -> Image:
    """Shift by a whole number of pixels, uniform up to ``config.translation`` times a side.

    X-Corr's code shifts CUHK01's images by up to 0.05 of the height along both axes, and fills the
    uncovered border with zeros. A shift is at most one pixel less than its side.
    """
    height, width = image.shape[:2]
    down = _shift(draws.down, config.translation * height)
    across = height if config.translation_side == "height" else width
    right = _shift(draws.right, min(config.translation * across, width - 1))
    rows, columns = np.arange(height) - down, np.arange(width) - right
    moved: Image = image[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
    if config.translation_fill == "zeros":
        moved[(rows < 0) | (rows >= height)] = 0
        moved[:, (columns < 0) | (columns >= width)] = 0
    return moved


def _shift(draw: float, largest: float) -> int:
    limit = int(largest + 1e-9)  # 0.29 * 100 is a hair below 29
    return int(draw * (2 * limit + 1)) - limit


def _jittered(crop: Image, alpha: npt.NDArray[np.float64]) -> Image:
    """Add one colour to the whole image: the sum of alpha_i * std_i * direction_i."""
    shift_bgr = (_PCA_DIRECTIONS_RGB @ (alpha * _PCA_STD_RGB))[::-1]
    table = np.rint(np.arange(256)[:, None] + shift_bgr).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(crop, table[None]), np.uint8)


def _erase(crop: Image, rectangles: npt.NDArray[np.float64], preprocess: Preprocess) -> None:
    """Fill the first rectangle that fits with the mean, in place."""
    height, width = crop.shape[:2]
    for area_draw, aspect_draw, top_draw, left_draw in rectangles.tolist():
        area = height * width * _between(*_ERASED_AREA, area_draw)
        aspect = _between(*_ERASED_ASPECT, aspect_draw)
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < h < height and 0 < w < width:
            top = int(top_draw * (height - h + 1))
            left = int(left_draw * (width - w + 1))
            crop[top : top + h, left : left + w] = _mean_bgr(preprocess)
            return


def _mean_bgr(preprocess: Preprocess) -> FloatArray:
    """The mean as a BGR pixel; the configuration has it in the network's channel order."""
    mean = preprocess.mean if preprocess.channel_order == "BGR" else preprocess.mean[::-1]
    return np.rint(np.asarray(mean, np.float32)).clip(0, 255)


def _between(low: float, high: float, draw: float) -> float:
    return low + (high - low) * draw
