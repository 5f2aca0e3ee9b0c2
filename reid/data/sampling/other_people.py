"""Random images of other people: the negatives of the paper's batches."""

from __future__ import annotations

import numpy as np

from reid.types import IntArray


class OtherPeople:
    """Draws images of people other than given ones; ``labels`` (N,) are the images' classes."""

    def __init__(self, labels: IntArray) -> None:
        self._by_class = np.argsort(labels, kind="stable").astype(np.int64)
        self._class_size = np.bincount(labels).astype(np.int64)
        self._class_start = np.cumsum(self._class_size) - self._class_size

    def random_images(self, own: IntArray, count: int, rng: np.random.Generator) -> IntArray:
        """(A, count) images: a random image of a random class other than ``own`` (A,)."""
        shape = (len(own), count)
        other = rng.integers(0, len(self._class_size) - 1, shape)
        other += other >= own[:, None]
        member = (rng.random(shape) * self._class_size[other]).astype(np.int64)
        return np.asarray(self._by_class[self._class_start[other] + member], np.int64)
