"""What describes images and compares descriptions, whatever a description is."""

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
"""The name, among a description's arrays, of the vector that images are ranked by."""

DescriptionT = TypeVar("DescriptionT")


class Matcher(Protocol[DescriptionT]):
    """One vector per image for MSP-CNN and SiSNet; cached maps for a pair network."""

    backend: str
    """What runs the arrays, for reports."""
    manifest: Manifest
    """Of the graph that describes images."""
    identity: Mapping[str, str]
    """What must agree for two descriptions to be comparable."""

    def describe(self, images: Iterable[Image], progress: Advance | None = None) -> DescriptionT:
        """Descriptions of images (H, W, 3) uint8 BGR, in their order."""
        ...

    def finite(self, descriptions: DescriptionT) -> BoolArray:
        """(N,): whether a description holds neither NaN nor infinity."""
        ...

    def overflowed(self, descriptions: DescriptionT) -> set[int]:
        """Numbers of images that were finite until they were kept in a smaller form."""
        ...

    def storing(self, stored: str) -> Matcher[DescriptionT]:
        """The same matcher, keeping descriptions in a form of STORED where it has a choice."""
        ...

    def seconds(self, query: DescriptionT, gallery: DescriptionT, best: int = 0) -> float:
        """About how long ``tiles`` takes here for all queries; 0 where it takes no time."""
        ...

    def tiles(
        self,
        query: DescriptionT,
        gallery: DescriptionT,
        progress: Advance | None = None,
        best: int = 0,
        say: Say = lambda line: None,
    ) -> Distances:
        """Rows of queries -> their (rows, G) float32 distances; smaller is more alike.

        ``progress`` is called with the number of pairs just compared, where that takes time, and
        ``say`` hears where they cannot be kept for a second look.
        With ``best`` only that many images are compared with a query, those that a quicker
        distance puts first, and the others follow behind them in its order. Raises what
        ``refuse_shortlist`` raises.
        """
        ...

    def refuse_shortlist(self, best: int, num_gallery: int) -> None:
        """Raise ConfigError where ``tiles`` could not compare only ``best`` of a gallery's images.

        That is where there is no quicker distance, or ``best`` is not of 1 to ``num_gallery``;
        0, for all of them, can always be. Told before anything is described.
        """
        ...

    def means(self, descriptions: DescriptionT, groups: IntArray) -> DescriptionT:
        """The mean description of each group 0..M-1; ``groups`` (N,) says which an image is in.

        Raises ConfigError where descriptions have no mean.
        """
        ...

    def pieces(self, descriptions: DescriptionT) -> Sequence[Mapping[str, Array]]:
        """What to store of the images, in pieces: named arrays, (n, ...) each."""
        ...

    def from_pieces(self, pieces: Sequence[Mapping[str, Array]]) -> DescriptionT:
        """What ``pieces`` gave, back. Raises ModelFileError for arrays of another model."""
        ...

    def close(self) -> None:
        """Close what describes and compares."""
        ...


def prepared_batches(
    preprocess: Preprocess, images: Iterable[Image], batch_size: int
) -> Iterator[FloatArray]:
    """The images as network input, (n, 3, H, W) float32, ``batch_size`` at most.

    They are read and preprocessed one batch ahead in a second thread, so a lazy iterable's
    decoding overlaps with what the caller does with a batch. A few images, one batch, need none:
    a camera asks for them frame after frame, and OpenCV keeps 0.9 kB of every thread that ended.
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


_USUAL_GRAPHS = ("embed", "describe", "train")
"""What a network describes images with unless another of its graphs is asked for."""


def identity_of(manifest: Manifest) -> Mapping[str, str]:
    """The model behind a description: network, checkpoint, precision, what goes in and out."""
    before = manifest.preprocess
    # Several graphs of one checkpoint may give vectors (SiSNet's branches), of the same size too.
    branch = "" if manifest.stage in _USUAL_GRAPHS else f", {manifest.stage}"
    return {
        "network": manifest.network,
        "checkpoint": manifest.checkpoint_sha256[:16] or "unknown",
        "precision": manifest.precision,
        "output": manifest.output_meaning + branch,
        "preprocess": (
            f"{before.resize_height}x{before.resize_width} {before.interpolation}, "
            f"crop {before.crop_height}x{before.crop_width}, {before.channel_order}, "
            f"mean {'/'.join(map(str, before.mean))}, std {'/'.join(map(str, before.std))}"
        ),
    }


def model_differences(found: object, own: Mapping[str, str]) -> str:
    """In what another model's ``identity`` differs from ours, in words; empty where it does not."""
    other = found if isinstance(found, dict) else {}
    return ", ".join(
        f"{key} {other.get(key, 'missing')} (this model: {own.get(key, 'none')})"
        for key in dict.fromkeys((*own, *other))
        if other.get(key) != own.get(key)
    )
