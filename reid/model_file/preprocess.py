"""Preprocessing, from a decoded image to the network's input.

Training, evaluation, export, benchmarks and the deployed runners all use this code, so resize,
channel order, mean and scale are the same everywhere.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from numbers import Real

import cv2
import numpy as np

from reid.errors import ConfigError
from reid.types import FloatArray, Image

MAX_EDGE = 4096
"""Longest side of a network's input in pixels; a larger value means a damaged or hostile file."""

INTERPOLATIONS = {"bilinear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "cubic": cv2.INTER_CUBIC}


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Resize (ignoring the aspect ratio), crop, order channels, y = (x - mean) / std.

    The defaults are those of the DGD code, on which MSP-CNN builds: 160x64 with a 144x56 crop,
    BGR, mean 102/102/101, no scaling. ``mean`` and ``std`` are in ``channel_order``, in units
    of 0-255. Raises ConfigError for invalid sizes, names or numbers.
    """

    resize_height: int = 160  # height that an image is resized to, aspect ratio ignored [DGD]
    resize_width: int = 64  # width [DGD]
    crop_height: int = 144  # height of the crop: at random in training, else at the centre [DGD]
    crop_width: int = 56  # width of the crop [DGD]
    channel_order: str = "BGR"  # BGR or RGB [DGD]
    # subtracted from each channel, in channel_order, 0 to 255 [DGD]
    mean: tuple[float, float, float] = (102.0, 102.0, 101.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)  # then divided by [DGD]
    interpolation: str = "bilinear"  # bilinear, area or cubic [DGD]

    def __post_init__(self) -> None:
        if self.channel_order not in ("BGR", "RGB"):
            raise ConfigError(f"channel_order must be BGR or RGB, found {self.channel_order!r}")
        if self.interpolation not in INTERPOLATIONS:
            raise ConfigError(
                f"interpolation must be one of {', '.join(INTERPOLATIONS)}; found "
                f"{self.interpolation!r}"
            )
        fits = 0 < self.crop_height <= self.resize_height and (
            0 < self.crop_width <= self.resize_width
        )
        if not fits:
            raise ConfigError(
                f"the crop {self.crop_height}x{self.crop_width} must fit into "
                f"{self.resize_height}x{self.resize_width} (height x width)"
            )
        if max(self.resize_height, self.resize_width) > MAX_EDGE:
            raise ConfigError(
                f"expected at most {MAX_EDGE} pixels per side, found "
                f"{self.resize_height}x{self.resize_width} (height x width)"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            finite = all(isinstance(value, Real) and math.isfinite(value) for value in values)
            if len(values) != 3 or not finite:
                raise ConfigError(f"{name} must be three finite numbers, found {values}")
        if min(self.std) <= 0:
            raise ConfigError(f"std must be positive, found {self.std}")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the network's input."""
        return (3, self.crop_height, self.crop_width)

    @property
    def crop_corner(self) -> tuple[int, int]:
        """(top, left) of the centre crop, rounded down."""
        return (
            (self.resize_height - self.crop_height) // 2,
            (self.resize_width - self.crop_width) // 2,
        )

    def with_crop(self, size: tuple[int, int]) -> Preprocess:
        """The same part of an image in a crop of another ``size`` (height, width)."""
        height, width = size
        return dataclasses.replace(
            self,
            resize_height=max(height, round(self.resize_height * height / self.crop_height)),
            resize_width=max(width, round(self.resize_width * width / self.crop_width)),
            crop_height=height,
            crop_width=width,
        )

    def resize_only(self) -> Preprocess:
        """The preprocessing left for the caller if the graph itself crops and normalises."""
        return Preprocess(
            self.resize_height,
            self.resize_width,
            self.resize_height,
            self.resize_width,
            self.channel_order,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            interpolation=self.interpolation,
        )

    def resize(self, image: Image) -> Image:
        """(H, W, 3) uint8 -> (resize_height, resize_width, 3) uint8."""
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"expected an image (height, width, 3), found shape {image.shape}")
        if image.shape[:2] == (self.resize_height, self.resize_width):
            return image
        size = (self.resize_width, self.resize_height)
        resized = cv2.resize(image, size, interpolation=INTERPOLATIONS[self.interpolation])
        return np.asarray(resized, np.uint8)

    def crop(self, resized: Image, top: int | None = None, left: int | None = None) -> Image:
        """The crop at (top, left), by default the centre crop, rounded down."""
        top = self.crop_corner[0] if top is None else top
        left = self.crop_corner[1] if left is None else left
        return resized[top : top + self.crop_height, left : left + self.crop_width]

    def normalise(self, crops: Image) -> FloatArray:
        """(..., H, W, 3) uint8 BGR -> (..., 3, H, W) float32, channels in ``channel_order``."""
        *leading, height, width, channels = crops.shape
        out = np.empty((*leading, channels, height, width), np.float32)
        source = (0, 1, 2) if self.channel_order == "BGR" else (2, 1, 0)
        # One plane at a time is several times faster than converting the interleaved image.
        for target, channel in enumerate(source):
            plane = out[..., target, :, :]
            np.subtract(crops[..., channel], np.float32(self.mean[target]), out=plane)
            np.divide(plane, np.float32(self.std[target]), out=plane)
        return out

    def __call__(self, image: Image) -> FloatArray:
        """Preprocess one image for testing: (H, W, 3) uint8 BGR -> (3, crop_height, crop_width)
        float32."""
        return self.normalise(self.crop(self.resize(image)))

    def batch(self, images: list[Image]) -> FloatArray:
        """Like ``__call__`` for N images: (N, 3, crop_height, crop_width) float32."""
        if not images:
            return np.zeros((0, *self.input_shape), np.float32)
        return self.normalise(np.stack([self.crop(self.resize(image)) for image in images]))
