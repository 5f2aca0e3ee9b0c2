"""Describing images and measuring distances between descriptions.

A Matcher hides what a description is: one vector per image for MSP-CNN and SiSNet, cached
maps for a pair network. Evaluation, gallery, camera and benchmark speak only to this.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np

from reid.errors import ModelFileError
from reid.ranking import euclidean_distances
from reid.runtime import Runner
from reid.types import FloatArray, Image

Progress = Callable[[int], object]
"""Called with the number of images just done: ``tqdm.update`` is one."""

DescriptionT = TypeVar("DescriptionT")


class Matcher(Protocol[DescriptionT]):
    """What describes images and compares descriptions, whatever a description is."""

    def describe(self, images: Iterable[Image], progress: Progress | None = None) -> DescriptionT:
        """Descriptions of images (H, W, 3) uint8 BGR, in their order."""
        ...

    def distances(self, query: DescriptionT, gallery: DescriptionT) -> FloatArray:
        """(Q, G) float32 distances; smaller is more alike."""
        ...


class VectorMatcher:
    """One L2-normalised vector per image, compared by Euclidean distance.

    The runner's manifest says how to preprocess, which input and output to use, and
    whether the vectors come normalised. The runner stays the caller's to close.
    """

    def __init__(self, runner: Runner, batch_size: int = 64) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, found {batch_size}")
        self._runner = runner
        self._manifest = runner.manifest
        self._batch_size = batch_size

    def describe(self, images: Iterable[Image], progress: Progress | None = None) -> FloatArray:
        """(N, D) float32 unit vectors of N images, (H, W, 3) uint8 BGR of any size.

        ``images`` is read and preprocessed one batch ahead in a second thread, so a lazy
        iterable's decoding overlaps with the network. Raises ModelFileError where the
        runner's output is not what its manifest says.
        """
        source = iter(images)
        vectors = [np.zeros((0, self._manifest.output_dim), np.float32)]
        with ThreadPoolExecutor(1) as ahead:
            pending = ahead.submit(self._next_batch, source)
            while len(batch := pending.result()):
                pending = ahead.submit(self._next_batch, source)
                vectors.append(self._run(batch))
                if progress is not None:
                    progress(len(batch))
        return np.concatenate(vectors)

    def distances(self, query: FloatArray, gallery: FloatArray) -> FloatArray:
        """(Q, G) Euclidean distances, in [0, 2] for unit vectors."""
        return euclidean_distances(query, gallery)

    def _next_batch(self, source: Iterator[Image]) -> FloatArray:
        """The next images as network input, (0, ...) at the end."""
        return self._manifest.preprocess.batch(list(itertools.islice(source, self._batch_size)))

    def _run(self, batch: FloatArray) -> FloatArray:
        manifest = self._manifest
        outputs = self._runner.run({manifest.input_name: batch})
        if manifest.output_name not in outputs:
            raise ModelFileError(
                f"the manifest names the output {manifest.output_name!r}, the model has "
                f"{', '.join(sorted(outputs))}; export the model again"
            )
        vectors = outputs[manifest.output_name]
        expected = (len(batch), manifest.output_dim)
        if vectors.shape != expected:
            raise ModelFileError(
                f"output {manifest.output_name!r} should have shape {expected} by the "
                f"manifest, found {vectors.shape}; export the model again"
            )
        return vectors if manifest.normalised else unit_vectors(vectors)


def unit_vectors(vectors: FloatArray) -> FloatArray:
    """Rows of (N, D) divided by their lengths; a row of zeros stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
