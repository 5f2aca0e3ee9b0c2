"""Matching with a network that scores pairs: describe each image once, compare the results.

It uses two graphs (``reid.models.graphs``): ``describe``, and ``compare`` of one query
with many gallery images. The distance of a pair is minus its score.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from reid.errors import ConfigError, ModelFileError
from reid.matching.descriptions import PairDescriptions
from reid.matching.distance_file import room_for_distances
from reid.matching.distances import Distances, euclidean_tiles
from reid.matching.matcher import VECTOR, Array, chosen_batch, identity_of, prepared_batches
from reid.progress import Advance, Say
from reid.runtime import Runner
from reid.types import BoolArray, FloatArray, Image, IntArray

DESCRIBE_BATCH = 128
"""Images in a piece of descriptions, unless an engine takes more: 28 MB in float16.

Larger pieces take more memory (``tests/benchmarks/README.md``).
"""

COMPARE_BATCH = 512
"""Images compared at once by a runner that splits batches itself: 224 MB in float32.

With fewer, threads wait for each other more often.
"""


class PairMatcher:
    """Descriptions from a ``describe`` runner, compared by a ``compare`` runner.

    ``half`` stores descriptions as float16. ``batch_size`` is the number of images in a piece of
    descriptions, by default ``DESCRIBE_BATCH``, or more with an engine for more
    (``chosen_batch``). ``num_compared`` images are compared at once: as many, or
    ``COMPARE_BATCH`` if the compare runner splits batches itself.
    """

    def __init__(
        self,
        describe: Runner,
        compare: Runner,
        batch_size: int | None = None,
        *,
        half: bool = True,
    ) -> None:
        batch_size = chosen_batch(batch_size, DESCRIBE_BATCH, describe.manifest)
        self.manifest = describe.manifest
        self.identity: Mapping[str, str] = {
            **identity_of(describe.manifest),
            "stored": "float16" if half else "float32",
        }
        self.batch_size = batch_size
        self.num_compared = max(batch_size, COMPARE_BATCH) if compare.cuts_batches else batch_size
        self._describe, self._compare, self._half = describe, compare, half

    @property
    def backend(self) -> str:
        """The backend that describes now, for reports."""
        return self._describe.backend

    def describe(
        self, images: Iterable[Image], progress: Advance | None = None
    ) -> PairDescriptions:
        """Stored descriptions of images, (H, W, 3) uint8 BGR of any size."""
        manifest = self._describe.manifest
        described = PairDescriptions(self._half)
        for batch in prepared_batches(manifest.preprocess, images, self.batch_size):
            described.append(self._describe.run({manifest.input_name: batch}))
            if progress is not None:
                progress(len(batch))
        return described

    def finite(self, descriptions: PairDescriptions) -> BoolArray:
        """(N,): whether an image's arrays have neither NaN nor infinity."""
        return descriptions.finite()

    def overflowed(self, descriptions: PairDescriptions) -> set[int]:
        """Numbers of images with a value beyond float16's range, if stored as float16."""
        return set(descriptions.overflowed)

    def storing(self, stored: str) -> PairMatcher:
        """A matcher with the same runners and this stored form, one of STORED."""
        half = stored == "float16"
        return PairMatcher(self._describe, self._compare, self.batch_size, half=half)

    def mirroring(self) -> PairMatcher:
        """Raises ConfigError: feature maps have no mean."""
        raise ConfigError(
            "the mirror image is averaged in vectors of images, and this network compares pairs of "
            "images by their feature maps: leave --mirror out"
        )

    def gallery_batches(
        self, gallery: PairDescriptions
    ) -> Iterator[tuple[slice, dict[str, FloatArray]]]:
        """The gallery's images for ``scores``: their slice, and their arrays."""
        return gallery.batches(self.num_compared, half=self._compare.takes_half)

    def scores(self, query: dict[str, FloatArray], gallery: dict[str, FloatArray]) -> FloatArray:
        """One query's arrays (1, ...) against (N, ...) -> (N,) scores, larger is more similar."""
        inputs = {f"query_{name}": array for name, array in query.items()}
        inputs |= {f"gallery_{name}": array for name, array in gallery.items()}
        return self._compare.run(inputs)["score"]

    def seconds(self, query: PairDescriptions, gallery: PairDescriptions, best: int = 0) -> float:
        """Estimated from the second comparison of a query with the first images compared at once.

        For a shortlist it is a query and one of its ``batches``, of images from all over the
        gallery: the query is prepared again for so few, and the images are gathered one by one.
        """
        if not len(query) or not len(gallery):
            return 0.0
        spread = np.arange(best) * len(gallery) // max(best, 1)
        num_batches = len(self.batches(spread))
        seconds, num = 0.0, 0
        for number in (len(query) - 1, 0):  # a graph may keep the prepared last query
            start = time.perf_counter()
            if best:
                arrays = gallery.rows(spread[::num_batches])
            else:
                _, arrays = next(self.gallery_batches(gallery))
            num = len(self.scores(query.row(number), arrays))
            seconds = time.perf_counter() - start
        return seconds * len(query) * (num_batches if best else len(gallery) / num)

    def batches(self, images: IntArray) -> list[IntArray]:
        """A shortlist (n,) in as few pieces as ``num_compared`` allows, of about equal length."""
        return np.array_split(images, max(1, -(-len(images) // self.num_compared)))

    def tiles(
        self,
        query: PairDescriptions,
        gallery: PairDescriptions,
        progress: Advance | None = None,
        best: int = 0,
        say: Say = lambda line: None,
    ) -> Distances:
        """Rows of queries -> minus their scores; each pair is compared once and kept.

        They are kept in a temporary file. Without space for it, ``say`` reports that, and a row is
        computed each time it is needed. The faster distance for ``best`` is that of the ranking
        vectors; a network without them (``classification_only``) has none.
        """
        self.refuse_shortlist(best, len(gallery))
        if not best:
            return _KeptRows(self, query, gallery, progress, say)
        return _ShortlistedRows(self, query, gallery, best, progress)

    def refuse_shortlist(self, best: int, num_gallery: int) -> None:
        """Raise ConfigError if the network has no ranking vector or the gallery fewer images."""
        if not best:
            return
        if VECTOR not in {spec.name for spec in self._describe.manifest.output_arrays}:
            raise ConfigError(
                "a shortlist needs the ranking vector, which a classification_only network "
                "lacks; compare with the whole gallery"
            )
        if not 1 <= best <= num_gallery:
            raise ConfigError(
                f"expected a shortlist (--shortlist) of 1 to {num_gallery} images, as the gallery "
                f"has {num_gallery}, found {best}; choose one of these, or 0 for all pairs"
            )

    def means(self, descriptions: PairDescriptions, groups: IntArray) -> PairDescriptions:
        """Maps and parts of several images have no mean. Raises ConfigError."""
        raise ConfigError(
            "the multi-query protocol averages embeddings, but this network compares pairs; "
            "evaluate it with single queries"
        )

    def pieces(self, descriptions: PairDescriptions) -> Sequence[Mapping[str, Array]]:
        """As they are stored."""
        return descriptions.pieces

    def from_pieces(self, pieces: Sequence[Mapping[str, Array]]) -> PairDescriptions:
        """Descriptions that use the pieces in place. Raises ModelFileError for others' arrays."""
        expected = {spec.name: spec.shape for spec in self._describe.manifest.output_arrays}
        for piece in pieces:
            found = {name: array.shape[1:] for name, array in piece.items()}
            if found != expected:
                raise ModelFileError(
                    f"the file has {found} for each image, this model expects {expected}; "
                    "describe the images again"
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
    """(Q, G) distances in a temporary file; a row is computed when first needed.

    Without space for the file a row is computed each time it is needed.
    """

    def __init__(
        self,
        matcher: PairMatcher,
        query: PairDescriptions,
        gallery: PairDescriptions,
        progress: Advance | None,
        say: Say,
    ) -> None:
        self._matcher, self._query, self._gallery = matcher, query, gallery
        self._progress = progress
        self._known = np.zeros(len(query), np.bool_)
        self._rows = room_for_distances(len(query), len(gallery), say)

    def __call__(self, rows: slice) -> FloatArray:
        wanted = np.arange(len(self._query))[rows]
        if self._rows is None:
            return self._compared(wanted)
        unknown = wanted[~self._known[wanted]]
        if len(unknown):
            self._rows[unknown] = self._compared(unknown)
            self._known[unknown] = True
        return np.array(self._rows[rows])

    def _compared(self, numbers: IntArray) -> FloatArray:
        """(n, G) distances of the queries ``numbers`` (n,)."""
        found = np.zeros((len(numbers), len(self._gallery)), np.float32)
        queries = [self._query.row(number) for number in numbers.tolist()]
        if not queries:
            return found
        # The gallery is read and converted to float32 once for all queries of the tile.
        for columns, gallery in self._matcher.gallery_batches(self._gallery):
            for row, query in zip(found, queries, strict=True):
                row[columns] = -self._matcher.scores(query, gallery)
                if self._progress is not None:
                    self._progress(columns.stop - columns.start)
        return found


class _ShortlistedRows:
    """Distances where only each query's nearest by vector come from the compare graph."""

    def __init__(
        self,
        matcher: PairMatcher,
        query: PairDescriptions,
        gallery: PairDescriptions,
        best: int,
        progress: Advance | None,
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
                self._scored[number] = (images, self._compared(number, images))
            images, distances = self._scored[number]
            # Scores and vector distances are above 0, so the shortlist comes first.
            row[images] = distances
        return block

    def _compared(self, number: int, images: IntArray) -> FloatArray:
        """(n,) distances of a query and the gallery's ``images`` (n,), a batch at a time."""
        query, found = self._query.row(number), list[FloatArray]()
        for batch in self._matcher.batches(images):
            found.append(-self._matcher.scores(query, self._gallery.rows(batch)))
            if self._progress is not None:
                self._progress(len(batch))
        return np.concatenate(found)
