"""Patches matched by a network between two images: boxes joined by lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from reid.data import read_image
from reid.model_file.preprocess import Preprocess
from reid.models.looks import PatchMatch, PatchMatches
from reid.report.chosen import Trio
from reid.report.drawing import (
    FAINT_INK,
    FRAME,
    FRAME_OF_QUERY,
    INK,
    LEGEND,
    MARGIN,
    RIGHT,
    TITLE_HEIGHT,
    WHITE,
    WRONG,
    Colour,
    centred,
    heading,
    text,
)
from reid.types import Image

COLOURS: tuple[Colour, ...] = (
    *((40, 40, 230), (20, 150, 255), (0, 210, 240), (70, 190, 60)),
    *((200, 190, 0), (240, 130, 30), (220, 60, 150), (130, 110, 250)),
)
"""One colour for each match, strongest first."""

IMAGE_HEIGHT = 504
PAIR_GAP, LIST_WIDTH, NAME_HEIGHT, LINE_HEIGHT = 190, 190, 40, 34


def patch_matches_picture(
    see: Callable[[list[Image]], PatchMatches], preprocess: Preprocess, trio: Trio
) -> Image:
    """The anchor beside the positive, and beside the negative, with the strongest matches joined.

    ``see`` returns the matches. Images are shown as the network's crop. The matches' channels and
    scores are listed to the right of each pair. Returns (H, W, 3) uint8 BGR. Raises
    DataError for an image that cannot be read.
    """
    images = [read_image(record.path) for record in trio]
    seen = see(images)
    shown = [_large(preprocess, image) for image in images]
    width = shown[0].shape[1]
    pair_width = 2 * width + PAIR_GAP + LIST_WIDTH
    top = MARGIN + TITLE_HEIGHT + NAME_HEIGHT
    size = top + IMAGE_HEIGHT + NAME_HEIGHT + MARGIN, 2 * MARGIN + 2 * pair_width
    canvas: Image = np.full((*size, 3), 255, np.uint8)
    heading(canvas, "Matched patches", LEGEND)
    for i, (name, frame) in enumerate((("positive", RIGHT), ("negative", WRONG)), 1):
        left = MARGIN + (i - 1) * pair_width
        lefts = left, left + width + PAIR_GAP
        for image, x, colour in ((0, lefts[0], FRAME_OF_QUERY), (i, lefts[1], frame)):
            _place(canvas, shown[image], x, top, colour)
            centred(canvas, name if image else "anchor", x, top - 14, INK, width)
            words = f"id {trio[image].person_id}, camera {trio[image].camera_id}"
            centred(canvas, words, x, top + IMAGE_HEIGHT + 26, FAINT_INK, width)
        matches = seen.pairs[i - 1]
        _join(canvas, matches, seen.patch, (IMAGE_HEIGHT, width), seen.map_size, lefts, top)
        _list(canvas, matches, lefts[1] + width + 24, top)
    return canvas


def _large(preprocess: Preprocess, image: Image) -> Image:
    """The network's crop, IMAGE_HEIGHT high."""
    crop = preprocess.crop(preprocess.resize(image))
    width = round(IMAGE_HEIGHT * crop.shape[1] / crop.shape[0])
    large = cv2.resize(crop, (width, IMAGE_HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.uint8)


def _place(canvas: Image, image: Image, left: int, top: int, colour: Colour) -> None:
    """An image with a frame around it."""
    height, width = image.shape[:2]
    around = slice(top - FRAME, top + height + FRAME), slice(left - FRAME, left + width + FRAME)
    canvas[around] = colour
    canvas[top : top + height, left : left + width] = image


def _join(
    canvas: Image,
    matches: Sequence[PatchMatch],
    patch: int,
    shown: tuple[int, int],
    map_size: tuple[int, int],
    lefts: tuple[int, int],
    top: int,
) -> None:
    """Each match as a box in both images, and a line between them; the strongest on top."""
    step_y, step_x = (float(one) / of for one, of in zip(shown, map_size, strict=True))
    for match, colour in reversed(list(zip(matches, COLOURS, strict=False))):
        ends = []
        for left, y, x, side in (
            (lefts[0], match.y, match.x, 1.0),
            (lefts[1], match.other_y, match.other_x, 0.0),
        ):
            half = patch // 2
            upper = round(left + (x - half) * step_x), round(top + (y - half) * step_y)
            lower = round(left + (x + half + 1) * step_x), round(top + (y + half + 1) * step_y)
            cv2.rectangle(canvas, upper, lower, WHITE, 5, cv2.LINE_AA)
            cv2.rectangle(canvas, upper, lower, colour, 2, cv2.LINE_AA)
            ends.append((lower[0] if side else upper[0], (upper[1] + lower[1]) // 2))
        cv2.line(canvas, ends[0], ends[1], colour, 2, cv2.LINE_AA)


def _list(canvas: Image, matches: Sequence[PatchMatch], left: int, top: int) -> None:
    """Channel and score of each match, in its colour."""
    for i, (match, colour) in enumerate(zip(matches, COLOURS, strict=False)):
        y = top + 20 + i * LINE_HEIGHT
        cv2.rectangle(canvas, (left, y - 14), (left + 16, y + 2), colour, -1)
        text(canvas, f"#{match.channel}", left + 26, y, colour=INK)
        text(canvas, f"{match.score:.3f}", left + 90, y, colour=FAINT_INK)
