"""Verification (do two images show the same person): counts of all distances, and their ROC.

Pairs below a threshold on the distance are accepted as the same person. The true positive rate
(TPR) is the share of positive pairs that are accepted, the false positive rate (FPR) that of
negative pairs. Pairs that the protocol never ranks (junk, the query's own camera) are excluded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid.evaluation.ranking import Tile
from reid.types import FloatArray, IntArray

Shares = npt.NDArray[np.float64]

FPRS = (1e-1, 1e-2, 1e-3, 1e-4)
"""False positive rates at which the true positive rate is reported."""

_DROPPED_BITS = 11
"""Low bits of a float32 that a bin ignores: 12 of the 23 mantissa bits are left."""

_NUM_BINS = 1 << (32 - _DROPPED_BITS)
_CHUNK = 1 << 17
"""Distances counted at once: 1 MB as int64, which stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Numbers of positive and negative pairs by distance, in B fine bins.

    ``limits`` (B,) float32 ascending is the greatest distance of each bin, ``positives`` and
    ``negatives`` (B,) int64 count its pairs; empty bins are left out. A bin's width is 2^-13 to
    2^-12 of its distance.
    """

    limits: FloatArray
    positives: IntArray
    negatives: IntArray

    def roc(self) -> tuple[Shares, Shares]:
        """FPR and TPR, each (B + 1,) in [0, 1], ascending from 0; exact at the bins' limits.

        All TPR are 0 if there is no positive pair, all FPR are 0 if there is no negative pair.
        """
        return _shares(self.negatives), _shares(self.positives)

    def tpr_at(self, fpr: float) -> float | None:
        """The greatest TPR of a limit whose FPR is at most ``fpr``.

        None if there is no positive pair, or fewer than 1 / ``fpr`` negative pairs, because
        then no threshold can have that rate.
        """
        found = self._last_bin(fpr)
        return None if found is None else float(self.roc()[1][found])

    def distance_at(self, fpr: float) -> float | None:
        """The distance up to which pairs are accepted for the TPR of ``tpr_at``.

        None where that is None, or if no limit has so low an FPR.
        """
        found = self._last_bin(fpr)
        return float(self.limits[found - 1]) if found else None

    def rates_at(self, distance: float) -> tuple[float, float]:
        """(FPR, TPR) of the pairs up to a distance, to a bin's width."""
        accepted = int(np.searchsorted(self.limits, np.float32(distance), side="right"))
        fpr, tpr = self.roc()
        return float(fpr[accepted]), float(tpr[accepted])

    def _last_bin(self, fpr: float) -> int | None:
        """The number of bins that are accepted at ``fpr``; None as for ``tpr_at``."""
        if not self.positives.sum() or self.negatives.sum() * fpr < 1:
            return None
        return int(np.searchsorted(self.roc()[0], fpr, side="right")) - 1

    def histogram(self, bins: int = 100) -> tuple[Shares, IntArray, IntArray]:
        """(edges (bins + 1,), positives (bins,), negatives (bins,)) in bins of equal width."""
        limits = self.limits.astype(np.float64)
        positives, edges = np.histogram(limits, bins, weights=self.positives)
        negatives, _ = np.histogram(limits, bins, weights=self.negatives)
        return edges, positives, negatives


def _shares(counts: IntArray) -> Shares:
    """0, followed by the cumulative share up to and including each bin."""
    sums = np.concatenate([[0], counts.cumsum()])
    return np.asarray(sums / max(sums[-1], 1), np.float64)


class PairCounts:
    """Counts the distances of positive and of negative pairs."""

    def __init__(self) -> None:
        self._positives = np.zeros(_NUM_BINS, np.int64)
        self._negatives = np.zeros(_NUM_BINS, np.int64)

    def add(self, tile: Tile) -> None:
        def of(chosen: list[IntArray]) -> FloatArray:
            rows = zip(tile.distances, chosen, strict=True)
            return np.concatenate([row[images] for row, images in rows])

        # Few pairs are positive or skipped, so count all pairs and subtract those.
        positives = of(tile.good)
        _count(positives, self._positives)
        _count(tile.distances, self._negatives)
        _count(positives, self._negatives, -1)
        _count(of(tile.skipped), self._negatives, -1)

    def verification(self) -> Verification:
        """The counts so far."""
        found = np.flatnonzero((self._positives > 0) | (self._negatives > 0))
        last = ((found - _NUM_BINS // 2 + 1) << _DROPPED_BITS) - 1
        limits = _ordered(last.astype(np.int32)).view(np.float32)
        return Verification(limits, self._positives[found], self._negatives[found])


def _count(distances: FloatArray, counts: IntArray, times: int = 1) -> None:
    """Add to each bin of ``counts`` the number of distances in it, ``times`` over."""
    flat = np.ascontiguousarray(distances, np.float32).reshape(-1)
    if not len(flat):
        return
    ends = _ordered(np.array([flat.min(), flat.max()]).view(np.int32)) >> _DROPPED_BITS
    # The minimum may be -0.0, which is one bin lower than 0.0.
    first, last = int(ends[0]) - 1, int(ends[1])
    chunk = max(_CHUNK, last - first)  # counting a chunk takes a pass over the bins too
    for start in range(0, len(flat), chunk):
        bins = _ordered(flat[start : start + chunk].view(np.int32)) >> _DROPPED_BITS
        found = np.bincount(np.subtract(bins, first, dtype=np.int64))
        at = first + _NUM_BINS // 2
        counts[at : at + len(found)] += times * found


def _ordered(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Map float32 bits to integers in the order of the floats; its own inverse.

    Negative floats are stored as sign and magnitude; inverting the magnitude's bits puts the
    greater magnitude first.
    """
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
