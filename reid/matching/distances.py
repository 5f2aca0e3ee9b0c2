"""Distances between queries and gallery images, a tile at a time.

Queries are processed in tiles, so the (queries x gallery) matrix is never in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from reid.errors import DataError, ModelFileError
from reid.types import FloatArray

Distances = Callable[[slice], FloatArray]
"""Rows of queries -> their (rows, gallery) float32 distances, in an array that is not changed by
the next call. Networks that compare pairs have their own."""

TILE = 128
"""Queries per tile: 42 MB of distances against the 82,161 gallery images of MSMT17."""


def euclidean_distances(query: FloatArray, gallery: FloatArray) -> FloatArray:
    """Euclidean distances of (Q, D) and (G, D) float32 vectors: (Q, G) float32.

    Computed as |q|^2 - 2 q.g + |g|^2, one matrix product: for unit vectors the squares
    are correct to about 1e-6. Raises ValueError if the vectors' sizes differ.
    """
    return _euclidean(query, gallery, _squares(gallery))


def euclidean_tiles(query: FloatArray, gallery: FloatArray) -> Distances:
    """``euclidean_distances`` tile by tile; the gallery's squares are computed once."""
    squares = _squares(gallery)
    return lambda rows: _euclidean(query[rows], gallery, squares)


def _squares(vectors: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("nd,nd->n", vectors, vectors), np.float32)


def _euclidean(query: FloatArray, gallery: FloatArray, gallery_squares: FloatArray) -> FloatArray:
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"expected (Q, D) and (G, D) vectors of the same size D, "
            f"found {query.shape} and {gallery.shape}"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # tiles_of rejects overflow
        distances: FloatArray = (np.float32(-2) * query) @ gallery.T
        distances += gallery_squares
        distances += _squares(query)[:, None]
    np.maximum(distances, 0, out=distances)  # rounding may leave identical vectors just below zero
    np.sqrt(distances, out=distances)
    return distances


def tiles_of(
    distances: Distances, num_query: int, num_gallery: int, tile: int = TILE
) -> Iterator[tuple[slice, FloatArray]]:
    """Each tile's query rows and its checked (rows, gallery) distances.

    Raises DataError for an empty side, ModelFileError for a distance that is not finite (no
    distance compares as smaller than NaN, so it would pass for a perfect match), and ValueError for
    a tile of another shape.
    """
    for name, num in (("query", num_query), ("gallery", num_gallery)):
        if num == 0:
            raise DataError(f"the {name} is empty: at least one image is needed to rank")
    if tile < 1:
        raise ValueError(f"a tile must have at least 1 query, found {tile}")
    for start in range(0, num_query, tile):
        rows = slice(start, min(start + tile, num_query))
        block = distances(rows)
        if block.shape != (rows.stop - start, num_gallery):
            raise ValueError(
                f"distances of queries {start}..{rows.stop - 1} must have shape "
                f"({rows.stop - start}, {num_gallery}), found {block.shape}"
            )
        if not (np.isfinite(block.max()) and np.isfinite(block.min())):
            bad = start + int(np.argmin(np.isfinite(block).all(axis=1)))
            raise ModelFileError(
                f"the distances of query {bad} are not all finite: the model's output contains "
                "NaN or infinity; check its weights, or use FP32"
            )
        yield rows, block
