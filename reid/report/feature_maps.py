"""Feature maps from low to high level, for an anchor, a positive and a negative.

As Figure 4 of Shen et al., "Person re-identification by multi-level similarity perception", ACM MM
2017, with the names of layers and channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from reid.data import read_image
from reid.model_file.preprocess import Preprocess
from reid.models.looks import FeatureMaps
from reid.report.chosen import Trio
from reid.report.drawing import (
    CAPTION_HEIGHT,
    CELL_HEIGHT,
    CELL_WIDTH,
    FAINT_INK,
    FRAME_OF_QUERY,
    GAP,
    HEADER_HEIGHT,
    INK,
    LEGEND,
    MARGIN,
    QUERY_GAP,
    RIGHT,
    TITLE_HEIGHT,
    WRONG,
    captioned,
    centred,
    framed,
    heading,
)
from reid.report.heat import coloured
from reid.types import FloatArray, Image

CHANNELS_SHOWN = 3
"""Of each layer."""

ALIKE = 0.8
"""Channels whose maps of the anchor correlate more than this count as alike."""

MAP_GAP, LAYER_GAP = 6, 30


def telling_channels(maps: FloatArray, number: int) -> list[int]:
    """The channels of (C, h, w) maps that vary most over positions, ascending [inferred].

    Of channels that correlate by more than ``ALIKE`` only the first is taken, as long as there
    are others. Figure 4 names channels of one trained network; another network's differ.
    """
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    centred_maps = flat - flat.mean(1, keepdims=True)
    lengths = np.linalg.norm(centred_maps, axis=1)
    unit = centred_maps / np.maximum(lengths, 1e-12)[:, None]
    order = [int(channel) for channel in np.argsort(-lengths, kind="stable")]
    chosen: list[int] = []
    for channel in order:
        alike = any(abs(unit[channel] @ unit[other]) > ALIKE for other in chosen)
        if lengths[channel] and not alike:
            chosen.append(channel)
    rest = [channel for channel in order if channel not in chosen]
    return sorted([*chosen, *rest][:number])


def feature_maps_picture(
    see: Callable[[list[Image]], FeatureMaps],
    preprocess: Preprocess,
    trio: Trio,
    channels: Mapping[str, Sequence[int]] | None = None,
) -> Image:
    """The trio in three rows; beside each image its maps, with channel numbers above.

    ``see`` returns the maps of images. ``channels`` of the layers are shown, or each layer's
    ``telling_channels`` of the anchor. A channel has one colour scale for its three images,
    from 0 up. Returns (H, W, 3) uint8 BGR. Raises DataError for an image that cannot be read.
    """
    images = [read_image(record.path) for record in trio]
    maps = see(images)
    shown = channels or {
        layer: telling_channels(of_layer[0], CHANNELS_SHOWN) for layer, of_layer in maps.items()
    }
    width = round(CELL_HEIGHT * preprocess.crop_width / preprocess.crop_height)
    lefts = _lefts(shown, width)
    top, row_height = MARGIN + TITLE_HEIGHT + 2 * HEADER_HEIGHT, CELL_HEIGHT + CAPTION_HEIGHT
    right = max(lefts.values()) + width + MARGIN
    height = top + 3 * row_height + 2 * GAP + MARGIN // 2
    canvas: Image = np.full((height, right, 3), 255, np.uint8)
    heading(canvas, "Feature maps from low to high level", LEGEND)
    _draw_names(canvas, top, lefts, width)
    frames = (FRAME_OF_QUERY, RIGHT, WRONG)
    for i, (name, record, frame) in enumerate(zip(trio._fields, trio, frames, strict=True)):
        row = top + i * (row_height + GAP)
        framed(canvas, MARGIN, row, images[i], frame)
        who = f"{name}, id {record.person_id}"
        captioned(canvas, MARGIN, row, who, f"camera {record.camera_id}")
        for (layer, channel), left in lefts.items():
            of_channel = maps[layer][:, channel]
            picture = coloured(of_channel[i], (0.0, float(of_channel.max())))
            canvas[row : row + CELL_HEIGHT, left : left + width] = cv2.resize(
                picture, (width, CELL_HEIGHT), interpolation=cv2.INTER_NEAREST
            )
    return canvas


def _lefts(shown: Mapping[str, Sequence[int]], width: int) -> dict[tuple[str, int], int]:
    """(layer, channel) -> the left edge of its column."""
    lefts, left = {}, MARGIN + CELL_WIDTH + QUERY_GAP
    for layer, numbers in shown.items():
        for channel in numbers:
            lefts[layer, channel] = left
            left += width + MAP_GAP
        left += LAYER_GAP - MAP_GAP
    return lefts


def _draw_names(canvas: Image, top: int, lefts: Mapping[tuple[str, int], int], width: int) -> None:
    """Each layer's name over its columns, and each channel's number over its column."""
    for layer in dict.fromkeys(layer for layer, _ in lefts):
        own = [left for (of_layer, _), left in lefts.items() if of_layer == layer]
        span = own[-1] + width - own[0]
        centred(canvas, layer, own[0], top - 12 - HEADER_HEIGHT // 2 - 8, INK, span)
    for (_, channel), left in lefts.items():
        centred(canvas, f"#{channel}", left, top - 12, FAINT_INK, width)
