"""Activation maps of two scales over the image, several runs side by side.

Zhang et al., "Scale-Invariant Siamese Network for Person Re-Identification" (poster), Figure 3:
Baseline, SiSNet, SiSNet with the DRC loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from reid.data import read_image
from reid.model_file.preprocess import Preprocess
from reid.models.looks import ScalesSeen
from reid.report.drawing import (
    CAPTION_HEIGHT,
    CELL_HEIGHT,
    CELL_WIDTH,
    FAINT_INK,
    FRAME_OF_QUERY,
    GAP,
    HEADER_HEIGHT,
    INK,
    LINE,
    MARGIN,
    QUERY_GAP,
    TITLE_HEIGHT,
    captioned,
    centred,
    framed,
    heading,
    short,
)
from reid.report.heat import heat
from reid.types import Image, ImageRecord

SCALE_GAP, RUN_GAP = 6, 40


@dataclass(frozen=True, slots=True)
class Attention:
    """A run's activation maps of the images at both scales, and its preprocessing."""

    name: str
    preprocess: Preprocess
    seen: ScalesSeen


def activations_picture(records: Sequence[ImageRecord], seen: Sequence[Attention]) -> Image:
    """Images in rows; beside each, per run, the crop with the maps of its two scales over it.

    Each map has its own colour scale, from its least to its greatest value, because positions are
    compared, as in the DRC loss. ``seen`` has each run's maps of the same images. Returns
    (H, W, 3) uint8 BGR. Raises DataError for an image that cannot be read.
    """
    run_width = 2 * CELL_WIDTH + SCALE_GAP
    lefts = [MARGIN + CELL_WIDTH + QUERY_GAP + i * (run_width + RUN_GAP) for i in range(len(seen))]
    top, row_height = MARGIN + TITLE_HEIGHT + HEADER_HEIGHT + 12, CELL_HEIGHT + CAPTION_HEIGHT
    height = top + len(records) * row_height + (len(records) - 1) * GAP + MARGIN // 2
    canvas: Image = np.full((height, lefts[-1] + run_width + MARGIN, 3), 255, np.uint8)
    heading(canvas, "Activation maps", ())
    for left, run in zip(lefts, seen, strict=True):
        centred(canvas, short(run.name), left, top - HEADER_HEIGHT - 8, INK, run_width)
        for scale, size in enumerate(run.seen.sizes):
            centred(canvas, size, left + scale * (CELL_WIDTH + SCALE_GAP), top - 12, FAINT_INK)
    for i, record in enumerate(records):
        row, image = top + i * (row_height + GAP), read_image(record.path)
        framed(canvas, MARGIN, row, image, FRAME_OF_QUERY)
        captioned(canvas, MARGIN, row, f"id {record.person_id}", f"camera {record.camera_id}")
        for left, run in zip(lefts, seen, strict=True):
            _draw_scales(canvas, left, row, run, image, i)
    return canvas


def _draw_scales(canvas: Image, left: int, top: int, run: Attention, image: Image, i: int) -> None:
    crop = run.preprocess.crop(run.preprocess.resize(image))
    for scale, maps in enumerate(run.seen.maps):
        filled = framed(canvas, left + scale * (CELL_WIDTH + SCALE_GAP), top, crop, LINE)
        size = filled.shape[1], filled.shape[0]
        laid = np.asarray(cv2.resize(maps[i], size, interpolation=cv2.INTER_LINEAR), np.float32)
        filled[:] = heat(filled, laid, (float(maps[i].min()), float(maps[i].max())))
    width = 2 * CELL_WIDTH + SCALE_GAP
    below = top + CELL_HEIGHT
    correlation = run.seen.agreement[i]
    agreement = "a flat map" if np.isnan(correlation) else f"correlation {correlation:.2f}"
    centred(canvas, agreement, left, below + 22, INK, width)
    centred(canvas, f"as class {run.seen.classes[i]}", left, below + 44, FAINT_INK, width)
