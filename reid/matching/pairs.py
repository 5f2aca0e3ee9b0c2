"""Matching with a network that scores pairs: describe each image once, compare stored ones.

Two graphs do the work (``reid.models.csn_stages``): ``describe``, and ``compare`` of one query
with many gallery images. The distance of a pair is minus its score.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from reid.distances import Distances, euclidean_tiles
from reid.errors import ConfigError, ModelFileError, output_errors
from reid.matching.descriptions import PairDescriptions
from reid.matching.matcher import Array, Progress, identity_of, prepared_batches
from reid.runtime import Runner
from reid.types import BoolArray, FloatArray, Image, IntArray

VECTOR = "vector"
"""The ranking vector's name among a description's arrays."""

DESCRIBE_BATCH = 128
"""Images of a piece of descriptions: 28 MB in float16, what ``compare`` works through at once.

Each piece has the query laid out again, on two cores a tenth of the time of 64 images. Describing
64, 128 or 256 images at once took 0.6, 0.8 and 1.2 GB of memory, PyTorch included.
"""


class PairMatcher:
    """Descriptions of a ``describe`` runner, compared by a ``compare`` runner.

    ``half`` stores descriptions as float16. ``batch_size`` is the number of images that a
    description's piece holds.
    """

    def __init__(
        self,
        describe: Runner,
        compare: Runner,
        batch_size: int = DESCRIBE_BATCH,
        *,
        half: bool = True,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, found {batch_size}")
        self.backend = describe.backend
        self.identity: Mapping[str, str] = {
            **identity_of(describe.manifest),
            "stored": "float16" if half else "float32",
        }
        self._describe, self._compare = describe, compare
        self._batch_size, self._half = batch_size, half

    def describe(
        self, images: Iterable[Image], progress: Progress | None = None
    ) -> PairDescriptions:
        """Stored descriptions of images, (H, W, 3) uint8 BGR of any size."""
        manifest = self._describe.manifest
        described = PairDescriptions(self._half)
        for batch in prepared_batches(manifest.preprocess, images, self._batch_size):
            described.append(self._describe.run({manifest.input_name: batch}))
            if progress is not None:
                progress(len(batch))
        return described

    def finite(self, descriptions: PairDescriptions) -> BoolArray:
        """(N,): whether an image's arrays hold neither NaN nor infinity."""
        return descriptions.finite()

    def scores(self, query: dict[str, FloatArray], gallery: dict[str, FloatArray]) -> FloatArray:
        """One query's arrays (1, ...) against (N, ...) -> (N,) scores, larger is more alike."""
        inputs = {f"query_{name}": array for name, array in query.items()}
        inputs |= {f"gallery_{name}": array for name, array in gallery.items()}
        return self._compare.run(inputs)["score"]

    def seconds(self, query: PairDescriptions, gallery: PairDescriptions) -> float:
        """Timed on the gallery's first piece, the second time."""
        if not len(query) or not len(gallery):
            return 0.0
        one, (_, piece) = query.row(0), gallery.piece(0)
        self.scores(one, piece)
        start = time.perf_counter()
        self.scores(one, gallery.piece(0)[1])
        seconds = time.perf_counter() - start
        return seconds / len(next(iter(piece.values())))

    def tiles(
        self,
        query: PairDescriptions,
        gallery: PairDescriptions,
        progress: Progress | None = None,
        best: int = 0,
    ) -> Distances:
        """Rows of queries -> minus their scores; each pair is compared once and kept.

        The quicker distance of ``best`` is that of the ranking vectors; a network without them
        (``classification_only``) has none. Raises OutputError where there is no room for the rows.
        """
        self.refuse_shortlist(best, len(gallery))
        if not best:
            return _KeptRows(self, query, gallery, progress)
        return _ShortlistedRows(self, query, gallery, best, progress)

    def refuse_shortlist(self, best: int, num_gallery: int) -> None:
        """Raise ConfigError where this network has no ranking vector, or the gallery not so many
        images."""
        if not best:
            return
        if VECTOR not in {spec.name for spec in self._describe.manifest.output_arrays}:
            raise ConfigError(
                "a shortlist needs the ranking vector, which this network (classification_only) "
                "has not; compare with the whole gallery"
            )
        if not 1 <= best <= num_gallery:
            raise ConfigError(
                f"a shortlist has 1 to {num_gallery} images, as the gallery has; found {best}"
            )

    def means(self, descriptions: PairDescriptions, groups: IntArray) -> PairDescriptions:
        """Maps and parts of several images have no mean. Raises ConfigError."""
        raise ConfigError(
            "the multi-query protocol averages vectors, and this network compares pairs; evaluate "
            "it with single queries"
        )

    def pieces(self, descriptions: PairDescriptions) -> Sequence[Mapping[str, Array]]:
        """As they are stored."""
        return descriptions.pieces

    def from_pieces(self, pieces: Sequence[Mapping[str, Array]]) -> PairDescriptions:
        """Descriptions that stay where the pieces are. Raises ModelFileError for others' arrays."""
        expected = {spec.name: spec.shape for spec in self._describe.manifest.output_arrays}
        for piece in pieces:
            found = {name: array.shape[1:] for name, array in piece.items()}
            if found != expected:
                raise ModelFileError(
                    f"the file holds {found} of each image, this model compares {expected}; "
                    "describe again"
                )
        described = PairDescriptions(self._half)
        for piece in pieces:
            described.keep(piece)
        return described

    def close(self) -> None:
        """Close both runners."""
        self._describe.close()
        self._compare.close()


class _KeptRows:
    """(Q, G) distances in a temporary file, a row computed when it is first asked for."""

    def __init__(
        self,
        matcher: PairMatcher,
        query: PairDescriptions,
        gallery: PairDescriptions,
        progress: Progress | None,
    ) -> None:
        self._matcher, self._query, self._gallery = matcher, query, gallery
        self._progress = progress
        self._known = np.zeros(len(query), np.bool_)
        shape = (len(query), len(gallery))
        self._rows: FloatArray | None = None
        if 0 not in shape:
            with (
                output_errors(Path(tempfile.gettempdir())),
                tempfile.TemporaryFile() as file,  # its map outlives it
            ):
                # Room that is lacking is told now: a map that cannot be written ends the process.
                # macOS and Windows have no such call.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, 4 * len(query) * len(gallery))
                self._rows = np.memmap(file, np.float32, "w+", shape=shape)

    def __call__(self, rows: slice) -> FloatArray:
        wanted = range(*rows.indices(len(self._query)))
        if self._rows is None:
            return np.zeros((len(wanted), len(self._gallery)), np.float32)
        unknown = [q for q in wanted if not self._known[q]]
        queries = {q: self._query.row(q) for q in unknown}
        for index in range(len(self._gallery.pieces) if unknown else 0):
            # A piece is read, and made float32, once for all queries of the tile.
            columns, piece = self._gallery.piece(index)
            for q, arrays in queries.items():
                self._rows[q, columns] = -self._matcher.scores(arrays, piece)
                if self._progress is not None:
                    self._progress(columns.stop - columns.start)
        self._known[unknown] = True
        return np.array(self._rows[rows])


class _ShortlistedRows:
    """Distances of which only each query's best by the vector come from the compare graph."""

    def __init__(
        self,
        matcher: PairMatcher,
        query: PairDescriptions,
        gallery: PairDescriptions,
        best: int,
        progress: Progress | None,
    ) -> None:
        self._matcher, self._query, self._gallery = matcher, query, gallery
        self._best, self._progress = best, progress
        self._by_vector = euclidean_tiles(query.whole(VECTOR), gallery.whole(VECTOR))
        self._scored: dict[int, tuple[IntArray, FloatArray]] = {}

    def __call__(self, rows: slice) -> FloatArray:
        block = self._by_vector(rows)
        for row, number in zip(block, range(*rows.indices(len(self._query))), strict=True):
            if number not in self._scored:
                images = np.sort(np.argpartition(row, self._best - 1)[: self._best])
                scores = self._matcher.scores(self._query.row(number), self._gallery.rows(images))
                self._scored[number] = (images, -scores)
                if self._progress is not None:
                    self._progress(len(images))
            images, distances = self._scored[number]
            # Scores are above 0, distances of vectors too: the shortlist comes first.
            row[images] = distances
        return block
