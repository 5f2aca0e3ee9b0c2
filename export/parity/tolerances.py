"""Limits on the difference between candidate and reference, per measure and precision."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Allowed differences; errors are in unit-length embeddings, or in pair scores s / (1 + s).

    ``lowest_row_cosine``, ``top1_agreement`` and ``top5_agreement`` are lower limits, the rest
    upper limits. ``tie`` is the difference in squared distance (of vectors) or in s / (1 + s)
    below which two neighbours count as equally near. Rank-1 and mAP are checked if two
    evaluations are given, and may always change by the weight of one query, the smallest change
    a query set can show. ``stored_error`` is the largest error with descriptions stored as in a
    gallery; vectors are stored unchanged.
    """

    max_error: float
    mean_error: float
    median_error: float
    p99_error: float
    lowest_row_cosine: float
    top1_agreement: float
    top5_agreement: float
    batch_error: float
    rank1_change: float
    map_change: float
    tie: float
    stored_error: float = 0.0


TOLERANCES = {
    "fp32": Tolerances(
        max_error=2e-5,
        mean_error=2e-6,
        median_error=2e-6,
        p99_error=1e-5,
        lowest_row_cosine=0.999999,
        top1_agreement=1.0,
        top5_agreement=1.0,
        batch_error=2e-5,
        rank1_change=0.001,
        map_change=0.001,
        tie=1e-5,
    ),
    "fp16": Tolerances(
        max_error=6e-3,
        mean_error=3e-4,
        median_error=3e-4,
        p99_error=1e-3,
        lowest_row_cosine=0.9999,
        top1_agreement=0.99,
        top5_agreement=0.97,
        batch_error=1e-3,
        rank1_change=0.005,
        map_change=0.005,
        tie=1e-3,
    ),
    "int8": Tolerances(
        max_error=0.25,
        mean_error=1e-2,
        median_error=1e-2,
        p99_error=5e-2,
        lowest_row_cosine=0.9,
        top1_agreement=0.9,
        top5_agreement=0.8,
        batch_error=2e-2,
        rank1_change=0.01,
        map_change=0.005,
        tie=2e-2,
    ),
}
"""Limits by the candidate's precision, for vector networks.

They were set from MSP-CNN, random and trained, against PyTorch, on real pedestrian crops; the
measurements are in ``tests/benchmarks/README.md``. Each limit is between two kinds of results.
Below it are correct candidates, with room for a GPU that accumulates in FP16. Above it, for the
limits of FP32 and FP16, are swapped channels and a mean that is off by 2 of 255; those of FP16 have
room for OSNet x0.25 too, whose weights alone, rounded to FP16, give 0.99997. INT8's own rounding is
as large as a mean that is off by 10; above its limits are swapped channels and a scale or mean of
another range, and mAP may change by half a point. The FP32 limits assume that TF32 is off; they
also catch a mean that is off by 0.1, which the rounding of FP16 hides.
"""

PAIR_TOLERANCES = {
    "fp32": Tolerances(
        max_error=1e-5,
        mean_error=1e-6,
        median_error=1e-6,
        p99_error=5e-6,
        lowest_row_cosine=0.999999,
        top1_agreement=1.0,
        top5_agreement=1.0,
        batch_error=1e-5,
        rank1_change=0.005,
        map_change=0.005,
        tie=1e-3,
        stored_error=1e-3,
    ),
    "fp16": Tolerances(
        max_error=6e-3,
        mean_error=5e-4,
        median_error=3e-4,
        p99_error=4e-3,
        lowest_row_cosine=0.99998,
        top1_agreement=1.0,
        top5_agreement=1.0,
        batch_error=1e-3,
        rank1_change=0.005,
        map_change=0.005,
        tie=6e-3,
        stored_error=6e-3,
    ),
}
"""Limits by the candidate's precision, for networks that compare pairs.

They were set from CSN (levels 2 and 3), random and trained, against PyTorch, on real pedestrian
crops; the measurements are in ``tests/benchmarks/README.md``. Training makes the FP16 errors
larger, because 0.2 / (d + 1e-4) is steeper the nearer two vectors are; the limits are about three
times the errors of a trained network. They catch swapped channels, query and gallery exchanged in
conv4, and a mean that is off by 2 of 255. The FP32 limits also catch a mean that is off by 0.1
and a single wrong weight of conv4 (off by half the largest one), which the rounding of FP16
hides. Ranks, rank-1 and mAP use descriptions stored as float16, so their limits and ties are not
narrower than ``stored_error``.

The correlations need no FP32 island: their sums are far below the largest float16, 65504. A
network with maps 8 times as large would overflow; its scores are then not finite, and it fails.
"""

AT_LEAST = frozenset({"lowest_row_cosine", "top1_agreement", "top5_agreement"})
