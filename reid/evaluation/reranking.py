"""k-reciprocal re-ranking: two images are close if they share their neighbours.

Zhong, Zheng, Cao and Li, "Re-ranking Person Re-identification with k-reciprocal Encoding",
CVPR 2017, sections 3.2 to 3.5. Query and gallery are one set of N images here.

- Section 3.2: R(p, k) are those of p's k nearest images that have p among their k nearest.
  It grows to R*(p, k1) by R(q, k1/2) of each q in R(p, k1) where two thirds of the former are
  in R(p, k1) already.
- Section 3.3: p is encoded as a vector V_p of N entries, e^-d(p, g) for g in R*(p, k1), else 0.
  The Jaccard distance of two images is 1 - sum min(V_p, V_g) / sum max(V_p, V_g).
- Section 3.4: V_p becomes the mean V of p's k2 nearest images.
- Section 3.5: the distance is (1 - lambda) Jaccard + lambda d.

Where the paper is open, or the authors' program (zhunzhong07/person-re-ranking) differs from it,
this follows the program, because published figures come from it: d is the squared Euclidean
distance divided by the largest one of p; an image is its own first neighbour, in addition to the k
others, and one of the k2; half of k1 is rounded to even; the share must be above two thirds, not
equal to it; and V_p is divided by its sum.

No dense (N, N) matrix is ever in memory: neighbours are found in tiles, and V is sparse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from reid.errors import ConfigError
from reid.evaluation.ranking import nearest_in
from reid.matching.distances import TILE, Distances, euclidean_tiles, tiles_of
from reid.types import BoolArray, FloatArray

Neighbours = npt.NDArray[np.int32]

_BLOCK = 256
"""Images whose neighbourhoods are computed at once: at most 66 MB with 256-d vectors."""


@dataclass(frozen=True, slots=True)
class Reranking:
    """The paper's settings, section 4.2. ``weight`` is its lambda. Raises ConfigError."""

    k1: int = 20
    k2: int = 6
    weight: float = 0.3

    def __post_init__(self) -> None:
        if not (self.k1 >= 1 and self.k2 >= 1 and 0 <= self.weight <= 1):
            raise ConfigError(
                "re-ranking needs k1 and k2 of at least 1 and lambda in [0, 1]; found "
                f"{self.words()}"
            )

    def words(self) -> str:
        """``k1 20, k2 6, lambda 0.3``."""
        return f"k1 {self.k1}, k2 {self.k2}, lambda {self.weight:g}"


def reranked_tiles(
    query: FloatArray,
    gallery: FloatArray,
    settings: Reranking,
    progress: Callable[[int], object] = lambda count: None,
) -> Distances:
    """Distances, (rows, G) float32 in [0, 1], of (Q, D) and (G, D) float32 vectors re-ranked.

    All neighbourhoods are computed before this returns; ``progress`` counts images.
    Raises ModelFileError for distances that are not finite.
    """
    vectors = np.concatenate([query, gallery])
    nearest, greatest = _nearest_of_all(vectors, settings, progress)
    encoded = _encoded(vectors, nearest, greatest, settings.k1)
    of_queries = _expanded(encoded, nearest[: len(query), : settings.k2])
    # Transposed: for each entry of V the gallery images that have it, and their values.
    by_entry = _expanded(encoded, nearest[len(query) :, : settings.k2]).T.tocsr()
    del encoded
    euclidean = euclidean_tiles(query, gallery)

    def distances(rows: slice) -> FloatArray:
        block = euclidean(rows)
        block **= 2
        block *= settings.weight / greatest[: len(query)][rows, None]
        for row, number in zip(block, range(*rows.indices(len(query))), strict=True):
            of_row = slice(of_queries.indptr[number], of_queries.indptr[number + 1])
            shared = by_entry[of_queries.indices[of_row]]
            values = np.repeat(of_queries.data[of_row], np.diff(shared.indptr))
            least = np.minimum(values, shared.data)
            overlap = np.bincount(shared.indices, least, len(gallery))
            # Both sums are 1, so the sum of the larger entries is 2 minus that of the smaller ones.
            row += (1 - settings.weight) * (1 - overlap / (2 - overlap))
        np.maximum(block, 0, out=block)  # rounding may give slightly negative values
        return block

    return distances


def _nearest_of_all(
    vectors: FloatArray, settings: Reranking, progress: Callable[[int], object]
) -> tuple[Neighbours, FloatArray]:
    """(N, K) each image's nearest, itself first; and (N,) the square of its largest distance."""
    num = len(vectors)
    wanted = min(num, max(settings.k1 + 1, settings.k2))
    nearest = np.zeros((num, wanted), np.int32)
    greatest = np.zeros(num, np.float32)
    for rows, block in tiles_of(euclidean_tiles(vectors, vectors), num, num, TILE):
        for i, row in enumerate(block, rows.start):
            greatest[i] = row.max() ** 2
            row[i] = -1
            nearest[i] = nearest_in(row, wanted)
        progress(rows.stop - rows.start)
    return nearest, np.where(greatest > 0, greatest, np.float32(1))


def _reciprocal(nearest: Neighbours) -> BoolArray:
    """(N, K): whether an image is among the neighbours of its neighbour."""
    found = np.zeros(nearest.shape, np.bool_)
    for rows in _blocks(len(nearest)):
        images = np.arange(rows.start, rows.stop)[:, None, None]
        found[rows] = (nearest[nearest[rows]] == images).any(axis=2)
    return found


def _encoded(vectors: FloatArray, nearest: Neighbours, greatest: FloatArray, k1: int) -> csr_array:
    """(N, N) V of each image, its entries those of R*."""
    near, half = nearest[:, : k1 + 1], nearest[:, : round(k1 / 2) + 1]
    in_near, in_half = _reciprocal(near), _reciprocal(half)
    pieces = []
    for rows in _blocks(len(vectors)):
        reciprocal = np.where(in_near[rows], near[rows], -1)  # R(p, k1)
        others = np.where(in_half[near[rows]], half[near[rows]], -1)  # R(q, k1/2)
        shared = (others[..., None] == reciprocal[:, None, None]).any(axis=3) & (others >= 0)
        enough = 3 * shared.sum(axis=2) > 2 * (others >= 0).sum(axis=2)
        grown = np.where((enough & in_near[rows])[..., None], others, -1)
        members = np.sort(np.hstack([reciprocal, grown.reshape(len(grown), -1)]), axis=1)
        is_new = np.diff(members, axis=1, prepend=-1) > 0
        owner, columns = np.nonzero(is_new)[0], members[is_new]
        squared = ((vectors[rows][owner] - vectors[columns]) ** 2).sum(axis=1)
        values = np.exp(-squared / greatest[rows][owner])
        sums = np.bincount(owner, values)
        counts = np.bincount(owner)
        pieces.append((counts, columns, (values / sums[owner]).astype(np.float32)))
    counts, columns, values = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    starts = np.concatenate([[0], counts.cumsum()])
    return csr_array((values, columns, starts), shape=(len(vectors), len(vectors)))


def _expanded(encoded: csr_array, nearest: Neighbours) -> csr_array:
    """The mean V of each row's ``nearest`` (rows, k2) images."""
    rows, k2 = nearest.shape
    weights = np.full(nearest.size, 1 / k2, np.float32)
    starts = np.arange(0, nearest.size + 1, k2)
    mean = csr_array((weights, nearest.reshape(-1), starts), shape=(rows, encoded.shape[0]))
    return mean @ encoded


def _blocks(num: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, num)) for start in range(0, num, _BLOCK))
