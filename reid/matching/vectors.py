"""Matching with one embedding per image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from reid.errors import ConfigError, ModelFileError
from reid.matching.distances import Distances, euclidean_tiles
from reid.matching.matcher import VECTOR, Array, chosen_batch, identity_of, prepared_batches
from reid.model_file.manifest import Manifest
from reid.progress import Advance, Say
from reid.runtime import Runner
from reid.types import BoolArray, FloatArray, Image, IntArray

DESCRIBE_BATCH = 64
"""Images described at once by default; more if an engine takes more."""


class VectorMatcher:
    """One L2-normalised vector per image, compared by Euclidean distance.

    The runner's manifest says how to preprocess, which input and output to use, and
    whether the output is normalised. ``batch_size`` images are described at once, by default
    ``DESCRIBE_BATCH``, or more with an engine for more (``chosen_batch``). With ``mirror`` an
    image's vector is the mean of its own and its mirror image's, of length 1 again, and so says
    the matcher's ``manifest``; nothing changes for a file whose graph computes that mean itself.
    """

    def __init__(
        self, runner: Runner, batch_size: int | None = None, *, mirror: bool = False
    ) -> None:
        batch_size = chosen_batch(batch_size, DESCRIBE_BATCH, runner.manifest)
        self._mirror = mirror and not runner.manifest.mirrored
        self.manifest = runner.manifest.with_mirror() if mirror else runner.manifest
        self.identity = identity_of(self.manifest)
        self._runner = runner
        self._manifest = runner.manifest
        self._batch_size = batch_size

    @property
    def backend(self) -> str:
        """The backend that computes now, for reports."""
        return self._runner.backend

    def describe(self, images: Iterable[Image], progress: Advance | None = None) -> FloatArray:
        """(N, D) float32 unit vectors of N images, (H, W, 3) uint8 BGR of any size.

        Raises ModelFileError if the runner's output differs from its manifest.
        """
        vectors = [np.zeros((0, self._manifest.output_dim), np.float32)]
        for batch in prepared_batches(self._manifest.preprocess, images, self._batch_size):
            vectors.append(self._mirrored(batch) if self._mirror else self._run(batch))
            if progress is not None:
                progress(len(batch))
        return np.concatenate(vectors)

    def finite(self, descriptions: FloatArray) -> BoolArray:
        """(N,): whether every entry of a vector is finite."""
        return np.asarray(np.isfinite(descriptions).all(axis=1), np.bool_)

    def overflowed(self, descriptions: FloatArray) -> set[int]:
        """None: vectors are stored unchanged."""
        return set()

    def storing(self, stored: str) -> VectorMatcher:
        """Itself: vectors are always float32."""
        return self

    def mirroring(self) -> VectorMatcher:
        """A matcher with the same runner that averages the mirror image in."""
        if self.manifest.mirrored:
            return self
        return VectorMatcher(self._runner, self._batch_size, mirror=True)

    def seconds(self, query: FloatArray, gallery: FloatArray, best: int = 0) -> float:
        """0: it is a single matrix product."""
        return 0.0

    def tiles(
        self,
        query: FloatArray,
        gallery: FloatArray,
        progress: Advance | None = None,
        best: int = 0,
        say: Say = lambda line: None,
    ) -> Distances:
        """Rows of queries -> Euclidean distances, in [0, 2] for unit vectors."""
        self.refuse_shortlist(best, len(gallery))
        return euclidean_tiles(query, gallery)

    def refuse_shortlist(self, best: int, num_gallery: int) -> None:
        """Raise ConfigError for any shortlist: nothing is faster than comparing vectors."""
        if best:
            raise ConfigError(
                f"a shortlist (found {best}) is for networks that compare pairs; this one compares "
                "embeddings with the whole gallery at once; leave the shortlist out"
            )

    def means(self, descriptions: FloatArray, groups: IntArray) -> FloatArray:
        """The mean of each group's vectors, of length 1 again."""
        sums = np.zeros((int(groups.max(initial=-1)) + 1, descriptions.shape[1]), np.float32)
        np.add.at(sums, groups, descriptions)
        return unit_vectors(sums)

    def pieces(self, descriptions: FloatArray) -> list[dict[str, Array]]:
        """All vectors at once."""
        return [{VECTOR: descriptions}]

    def from_pieces(self, pieces: Sequence[Mapping[str, Array]]) -> FloatArray:
        """(N, D). Raises ModelFileError for anything but vectors of this model's size."""
        dim = self._manifest.output_dim
        if any(set(piece) != {VECTOR} or piece[VECTOR].shape[1:] != (dim,) for piece in pieces):
            raise ModelFileError(
                f"the file has no embeddings of size {dim}; describe the images again"
            )
        none = np.zeros((0, dim), np.float32)
        return np.concatenate([none, *(piece[VECTOR] for piece in pieces)]).astype(np.float32)

    def close(self) -> None:
        """Close the runner."""
        self._runner.close()

    def _mirrored(self, batch: FloatArray) -> FloatArray:
        """The mean of each image's vector and its mirror image's, of length 1 again."""
        own, other = self._run(batch), self._run(mirror_of(batch, self._manifest))
        return unit_vectors(np.add(own, other, dtype=np.float32))

    def _run(self, batch: FloatArray) -> FloatArray:
        manifest = self._manifest
        outputs = self._runner.run({manifest.input_name: batch})
        if manifest.output_name not in outputs:
            raise ModelFileError(
                f"the manifest names the output {manifest.output_name!r}, the model has "
                f"{', '.join(sorted(outputs))}; export it again"
            )
        vectors = outputs[manifest.output_name]
        expected = (len(batch), manifest.output_dim)
        if vectors.shape != expected:
            raise ModelFileError(
                f"output {manifest.output_name!r} should have shape {expected} by the "
                f"manifest, found {vectors.shape}; export the model again"
            )
        return vectors if manifest.normalised else unit_vectors(vectors)


def mirror_of(batch: FloatArray, manifest: Manifest) -> FloatArray:
    """The mirror images of a prepared batch (N, 3, H, W): its columns in reverse order.

    Where the graph itself cuts the crop out, the crop is mirrored in its place: the centre of an
    odd margin is not the centre of its mirror image.
    """
    mirrored: FloatArray = batch.copy()
    inside = manifest.inside
    left = inside.crop_corner[1] if inside else 0
    columns = slice(left, left + inside.crop_width if inside else None)
    mirrored[..., columns] = batch[..., columns][..., ::-1]
    return mirrored


def unit_vectors(vectors: FloatArray) -> FloatArray:
    """Rows of (N, D) divided by their lengths; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
