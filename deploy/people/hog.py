"""OpenCV's built-in people detector: needs no file, finds upright and fully visible people only.

Histograms of oriented gradients and a linear SVM (Dalal and Triggs, CVPR 2005) over windows of
64x128 pixels with a person in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from reid.types import Image

from .boxes import People, no_people, suppress

WINDOW = (64, 128)
PERSON = (0.48, 0.68)
"""Share of the window's width and height that becomes the person's box (measured)."""

MIN_HEIGHT = 48
"""The smallest person in the frame's pixels: its window is enlarged to 128 rows."""

MOST_PIXELS = 1 << 20
"""Limit of the searched image: larger frames are reduced and take no longer, but their smallest
people are missed."""

MAX_OVERLAP = 0.5


class HogDetector:
    """Detects people of at least ``min_height`` pixels; frames above MOST_PIXELS are reduced.

    An SVM's margin m, which is above 0, becomes the score 1 / (1 + exp(-2 m)) (a choice).
    """

    name = "OpenCV HOG"
    note = ""

    def __init__(self, min_height: int = MIN_HEIGHT) -> None:
        self._scale = max(1.0, PERSON[1] * WINDOW[1] / min_height)
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(np.array(cv2.HOGDescriptor.getDefaultPeopleDetector()))

    def detect(self, frames: Sequence[Image]) -> list[People]:
        """See ``PeopleDetector``."""
        return [self._detect(frame) for frame in frames]

    def close(self) -> None:
        """Nothing to release."""

    def _detect(self, frame: Image) -> People:
        scale = min(self._scale, (MOST_PIXELS / (frame.shape[0] * frame.shape[1])) ** 0.5)
        searched = cv2.resize(frame, None, fx=scale, fy=scale)
        if searched.shape[1] < WINDOW[0] or searched.shape[0] < WINDOW[1]:
            return no_people()
        windows, margins = self._hog.detectMultiScale(
            searched, winStride=(8, 8), padding=(8, 8), scale=1.05
        )
        if not len(windows):
            return no_people()
        left, top, width, height = np.asarray(windows, np.float32).T / np.float32(scale)
        across, down = width * (1 - PERSON[0]) / 2, height * (1 - PERSON[1]) / 2
        corners = (left + across, top + down, left + width - across, top + height - down)
        scores = 1 / (1 + np.exp(-2 * np.asarray(margins, np.float32).ravel()))
        people = People(np.stack(corners, axis=1).astype(np.float32), scores.astype(np.float32))
        return suppress(people, MAX_OVERLAP)
