"""Common faults in preprocessing, each as a preparation of the crops.

They are those that users of re-identification report: BGR for RGB, normalised twice or not at
all, another resize. A preparation makes one choice of resize, channel order and normalisation; a
fault is a choice that differs from the manifest.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from reid.model_file.preprocess import INTERPOLATIONS, Preprocess
from reid.types import FloatArray, Image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""For RGB pixels of 0-1, as for most image networks."""

MAX_FAULTS = 2
"""Most faults tried together."""

Resize = Callable[[Preprocess, Image], Image]
Values = Callable[[Preprocess, FloatArray], FloatArray]

_NEAREST = "nearest"


@dataclass(frozen=True, slots=True)
class Preparation:
    """One way from crops to a network's input; ``faults`` says what is wrong with it."""

    faults: tuple[str, ...]
    resize: Resize
    swapped: bool
    values: Values

    def batch(self, preprocess: Preprocess, crops: Sequence[Image]) -> FloatArray:
        """(N, 3, H, W) float32 of crops (H, W, 3) uint8 BGR."""
        sized = np.stack([self.resize(preprocess, crop) for crop in crops])
        in_order = (preprocess.channel_order == "RGB") != self.swapped
        planes = sized[..., ::-1] if in_order else sized
        pixels = planes.transpose(0, 3, 1, 2).astype(np.float32)
        return np.ascontiguousarray(self.values(preprocess, pixels), np.float32)


def preparations(preprocess: Preprocess, inside: Preprocess | None = None) -> Iterator[Preparation]:
    """The correct one, then those with one fault, then with up to ``MAX_FAULTS``.

    ``inside`` is the preprocessing inside the graph, if there is any.
    """
    axes = (_resizes(preprocess), _orders(preprocess), _values(preprocess, inside))
    for count in range(MAX_FAULTS + 1):
        for (resize_words, resize), (order_words, swapped), (
            value_words,
            values,
        ) in itertools.product(*axes):
            faults = tuple(filter(None, (order_words, value_words, resize_words)))
            if len(faults) == count:
                yield Preparation(faults, resize, swapped, values)


def _orders(preprocess: Preprocess) -> list[tuple[str, bool]]:
    other = "RGB" if preprocess.channel_order == "BGR" else "BGR"
    return [
        ("", False),
        (f"channels in {other} order instead of {preprocess.channel_order}", True),
    ]


def _resizes(preprocess: Preprocess) -> list[tuple[str, Resize]]:
    right = preprocess.interpolation
    found: list[tuple[str, Resize]] = [("", partial(_stretched, right))]
    found += [
        (f"resized with {name!r} instead of {right!r}", partial(_stretched, name))
        for name in (*INTERPOLATIONS, _NEAREST)
        if name != right
    ]
    found.append(("the aspect ratio kept and the rest padded, instead of stretched", _letterboxed))
    words = (
        "the aspect ratio kept and right and bottom padded, instead of stretched "
        "(DeepStream: maintain-aspect-ratio=0, keepAspc: 0)"
    )
    found.append((words, _padded_behind))
    size = f"{preprocess.crop_height}x{preprocess.crop_width}"
    whole = f"{preprocess.resize_height}x{preprocess.resize_width}"
    if size != whole:
        words = f"resized to {size}, instead of to {whole} and centre-cropped"
        found.append((words, _uncropped))
    return found


def _values(preprocess: Preprocess, inside: Preprocess | None) -> list[tuple[str, Values]]:
    found: list[tuple[str, Values]] = [("", _normalised)]
    if inside is not None:
        words = "normalised twice: outside and inside the graph"
        found.append((words, lambda _, pixels: _normalised(inside, pixels)))
    identity = preprocess.mean == (0.0, 0.0, 0.0) and preprocess.std == (1.0, 1.0, 1.0)
    if not identity:
        found += [
            ("not normalised: pixels of 0-255", _as_they_are),
            ("normalised twice", _twice),
            ("pixels of 0-1 normalised as if they were 0-255", _scaled_first),
        ]
    return [
        *found,
        ("pixels of 0-1 instead of 0-255, not normalised" if not identity else
         "pixels of 0-1 instead of 0-255", _scaled),
        ("normalised with ImageNet's mean and deviation (0-1, mean 0.485 ..., std 0.229 ...)",
         _as_imagenet),
    ]  # fmt: skip


def _stretched(name: str, preprocess: Preprocess, image: Image) -> Image:
    flag = cv2.INTER_NEAREST if name == _NEAREST else INTERPOLATIONS[name]
    size = (preprocess.resize_width, preprocess.resize_height)
    return preprocess.crop(np.asarray(cv2.resize(image, size, interpolation=flag), np.uint8))


def _letterboxed(preprocess: Preprocess, image: Image) -> Image:
    """Scaled to fit, in the middle, black around it."""
    return _padded(preprocess, image, round, 0.5)


def _padded_behind(preprocess: Preprocess, image: Image) -> Image:
    """Scaled to fit, at the top left, black behind it: nvinfer's, which cuts sizes to whole pixels.

    ``symmetric-padding=1`` puts it in the middle.
    """
    return _padded(preprocess, image, int, 0.0)


def _padded(
    preprocess: Preprocess, image: Image, whole: Callable[[float], int], before: float
) -> Image:
    """``before`` is the share of the padding that is above and left of the image."""
    height, width = preprocess.resize_height, preprocess.resize_width
    scale = min(height / image.shape[0], width / image.shape[1])
    rows, columns = (max(1, whole(edge * scale)) for edge in image.shape[:2])
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = int((height - rows) * before), int((width - columns) * before)
    flag = INTERPOLATIONS[preprocess.interpolation]
    canvas[top : top + rows, left : left + columns] = cv2.resize(
        image, (columns, rows), interpolation=flag
    )
    return preprocess.crop(canvas)


def _uncropped(preprocess: Preprocess, image: Image) -> Image:
    size = (preprocess.crop_width, preprocess.crop_height)
    flag = INTERPOLATIONS[preprocess.interpolation]
    return np.asarray(cv2.resize(image, size, interpolation=flag), np.uint8)


def _normalised(preprocess: Preprocess, pixels: FloatArray) -> FloatArray:
    return np.asarray((pixels - _planes(preprocess.mean)) / _planes(preprocess.std))


def _as_they_are(preprocess: Preprocess, pixels: FloatArray) -> FloatArray:
    return pixels


def _twice(preprocess: Preprocess, pixels: FloatArray) -> FloatArray:
    return _normalised(preprocess, _normalised(preprocess, pixels))


def _scaled(preprocess: Preprocess, pixels: FloatArray) -> FloatArray:
    return np.asarray(pixels / np.float32(255))


def _scaled_first(preprocess: Preprocess, pixels: FloatArray) -> FloatArray:
    return _normalised(preprocess, _scaled(preprocess, pixels))


def _as_imagenet(preprocess: Preprocess, pixels: FloatArray) -> FloatArray:
    step = 1 if preprocess.channel_order == "RGB" else -1
    mean, std = IMAGENET_MEAN[::step], IMAGENET_STD[::step]
    return np.asarray((_scaled(preprocess, pixels) - _planes(mean)) / _planes(std))


def _planes(values: Sequence[float]) -> FloatArray:
    return np.array(values, np.float32)[:, None, None]
