"""Random images of other people: the negatives of the paper's batches."""

from __future__ import annotations

import numpy as np

from reid.errors import DataError
from reid.types import IntArray


class OtherPeople:
    """Draws images of other people than those of given images.

    ``labels`` and ``cameras`` (N,) are the images' classes and cameras. With ``across`` what is
    drawn is of another camera than the given image. Raises DataError where the images of the other
    cameras do not show two people.
    """

    def __init__(self, labels: IntArray, cameras: IntArray, across: bool = False) -> None:
        self._labels = labels
        known, self._group = np.unique(cameras, return_inverse=True)
        if not across:
            known, self._group = known[:1], np.zeros_like(labels)
        self._choices = [
            _Choice(labels, np.flatnonzero(cameras != camera) if across else np.arange(len(labels)))
            for camera in known.tolist()
        ]
        for camera, choice in zip(known.tolist(), self._choices, strict=True):
            if across and choice.num_classes < 2:
                raise DataError(
                    "sampler.negatives_across_cameras needs two people in the images of other "
                    f"cameras than camera {camera}, found {choice.num_classes}; leave it out"
                )

    def random_images(self, images: IntArray, count: int, rng: np.random.Generator) -> IntArray:
        """(A,) images -> (A, count): for each, random images of random other people."""
        found = np.empty((len(images), count), np.int64)
        for group, choice in enumerate(self._choices):
            rows = np.flatnonzero(self._group[images] == group)
            found[rows] = choice.random_images(self._labels[images[rows]], count, rng)
        return found


class _Choice:
    """Some images, by class: each class is as likely, whatever the number of its images."""

    def __init__(self, labels: IntArray, images: IntArray) -> None:
        own = labels[images]
        self._images = images[np.argsort(own, kind="stable")].astype(np.int64)
        self._classes, self._size = np.unique(own, return_counts=True)
        self._start = np.cumsum(self._size) - self._size

    @property
    def num_classes(self) -> int:
        return len(self._classes)

    def random_images(self, own: IntArray, count: int, rng: np.random.Generator) -> IntArray:
        """(A, count) images of classes other than ``own`` (A,)."""
        place = np.searchsorted(self._classes, own)
        inside = place < len(self._classes)
        inside[inside] = self._classes[place[inside]] == own[inside]
        shape = (len(own), count)
        others = len(self._classes) - inside[:, None]
        # One number draws otherwise than an array of equal ones; older runs were drawn by one.
        alike = np.unique(others)
        most = int(alike[0]) if len(alike) == 1 else np.broadcast_to(others, shape)
        row = rng.integers(0, most, shape)
        row += inside[:, None] & (row >= place[:, None])
        member = (rng.random(shape) * self._size[row]).astype(np.int64)
        return np.asarray(self._images[self._start[row] + member], np.int64)
