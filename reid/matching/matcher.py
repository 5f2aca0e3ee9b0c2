"""The interface that describes images and compares descriptions of any kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from reid.matching.distances import Distances
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.progress import Advance, Say
from reid.types import BoolArray, FloatArray, Image, IntArray

Array = npt.NDArray[np.floating[Any]]

VECTOR = "vector"
"""The name of the ranking vector among a description's arrays."""

LARGEST_BATCH = 256
"""Images described at once at most by default, however many an engine takes."""

DescriptionT = TypeVar("DescriptionT")


class Matcher(Protocol[DescriptionT]):
    """One embedding per image for MSP-CNN and SiSNet; stored maps if pairs are compared."""

    manifest: Manifest
    """The manifest of the graph that describes images."""
    identity: Mapping[str, str]
    """The model's identity, which must be equal for two descriptions to be comparable."""

    @property
    def backend(self) -> str:
        """The backend that computes now, for reports."""
        ...

    def describe(self, images: Iterable[Image], progress: Advance | None = None) -> DescriptionT:
        """Descriptions of images (H, W, 3) uint8 BGR, in order."""
        ...

    def finite(self, descriptions: DescriptionT) -> BoolArray:
        """(N,): whether a description has neither NaN nor infinity."""
        ...

    def overflowed(self, descriptions: DescriptionT) -> set[int]:
        """Numbers of images that became infinite in a smaller stored form."""
        ...

    def storing(self, stored: str) -> Matcher[DescriptionT]:
        """The same matcher with this stored form, one of STORED, if it has a choice."""
        ...

    def mirroring(self) -> Matcher[DescriptionT]:
        """The same matcher, which describes each image by itself and its mirror image: the mean of
        the two vectors, of length 1 again. It takes twice the computing.

        Itself if the mean is inside the graph already. Raises ConfigError if descriptions have no
        mean.
        """
        ...

    def seconds(self, query: DescriptionT, gallery: DescriptionT, best: int = 0) -> float:
        """Estimated seconds of ``tiles`` for all queries; 0 if negligible."""
        ...

    def tiles(
        self,
        query: DescriptionT,
        gallery: DescriptionT,
        progress: Advance | None = None,
        best: int = 0,
        say: Say = lambda line: None,
    ) -> Distances:
        """Rows of queries -> their (rows, G) float32 distances; smaller is more similar.

        ``progress`` is called with the number of pairs just compared, if that takes time; ``say``
        reports that distances cannot be kept for reuse. With ``best`` only that many images are
        compared with a query, the nearest by a faster distance; the others follow in that
        distance's order. Raises what ``refuse_shortlist`` raises.
        """
        ...

    def refuse_shortlist(self, best: int, num_gallery: int) -> None:
        """Raise ConfigError if ``tiles`` cannot compare only ``best`` of a gallery's images.

        That is without a faster distance, or if ``best`` is not from 1 to ``num_gallery``; 0, for
        all, is always possible. Called before anything is described.
        """
        ...

    def means(self, descriptions: DescriptionT, groups: IntArray) -> DescriptionT:
        """The mean description of each group 0..M-1; ``groups`` (N,) is each image's group.

        Raises ConfigError if descriptions have no mean.
        """
        ...

    def pieces(self, descriptions: DescriptionT) -> Sequence[Mapping[str, Array]]:
        """The arrays to store, in pieces: named arrays, (n, ...) each."""
        ...

    def from_pieces(self, pieces: Sequence[Mapping[str, Array]]) -> DescriptionT:
        """Descriptions from stored ``pieces``. Raises ModelFileError for another model's arrays."""
        ...

    def close(self) -> None:
        """Close the runners."""
        ...


def chosen_batch(asked: int | None, usual: int, manifest: Manifest) -> int:
    """Images described at once: ``asked``, or by default as many as an engine takes, but ``usual``
    at least and ``LARGEST_BATCH`` at most; ``usual`` for other files.

    Raises ValueError for less than 1.
    """
    if asked is None:
        of_engine = manifest.engine.largest_batch if manifest.engine else 0
        return max(usual, min(of_engine, LARGEST_BATCH))
    if asked < 1:
        raise ValueError(f"batch_size must be at least 1, found {asked}")
    return asked


def prepared_batches(
    preprocess: Preprocess, images: Iterable[Image], batch_size: int
) -> Iterator[FloatArray]:
    """The images as network input, (n, 3, H, W) float32, ``batch_size`` at most.

    A second thread reads and preprocesses one batch ahead, so a lazy iterable decodes while the
    caller works on a batch. A single batch uses no thread: cameras describe few images in every
    frame, and OpenCV keeps some memory for every thread that ended.
    """
    source = iter(images)

    def next_batch() -> FloatArray:
        return preprocess.batch(list(itertools.islice(source, batch_size)))

    batch = next_batch()
    if len(batch) < batch_size:
        if len(batch):
            yield batch
        return
    with ThreadPoolExecutor(1) as ahead:
        while len(batch):
            pending = ahead.submit(next_batch)
            yield batch
            batch = pending.result()


MIRRORED = "mirrored"
"""The key of an identity whose vectors have the mirror image averaged in; absent: they have not."""

_USUAL_GRAPHS = ("embed", "describe", "train")
"""The graphs that describe images by default."""


def identity_of(manifest: Manifest) -> Mapping[str, str]:
    """The model behind a description: network, checkpoint, precision, input and output."""
    before = manifest.preprocess
    # Several graphs of one checkpoint may output embeddings of the same size (SiSNet's branches).
    branch = "" if manifest.stage in _USUAL_GRAPHS else f", {manifest.stage}"
    mirrored = {MIRRORED: "yes"} if manifest.mirrored else {}  # absent in files made before it
    return {
        "network": manifest.network,
        "checkpoint": manifest.model_sha256[:16] or "unknown",
        "precision": manifest.precision,
        "output": manifest.output_meaning + branch,
        "preprocess": (
            f"{before.resize_height}x{before.resize_width} {before.interpolation}, "
            f"crop {before.crop_height}x{before.crop_width}, {before.channel_order}, "
            f"mean {'/'.join(map(str, before.mean))}, std {'/'.join(map(str, before.std))}"
        ),
        **mirrored,
    }


def model_differences(found: object, own: Mapping[str, str]) -> str:
    """How another model's ``identity`` differs from ours, as text; empty if it does not."""
    other = found if isinstance(found, dict) else {}
    absent = {MIRRORED: "no"}
    return ", ".join(
        f"{key} {other.get(key, absent.get(key, 'missing'))} "
        f"(this model: {own.get(key, absent.get(key, 'none'))})"
        for key in dict.fromkeys((*own, *other))
        if other.get(key) != own.get(key)
    )
