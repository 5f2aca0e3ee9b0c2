"""How far a candidate may be from its reference: one limit per measure, by precision."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tolerances:
    """What may differ. Errors are of unit-length embeddings, or of scores of pairs s / (1 + s).

    ``lowest_row_cosine``, ``top1_agreement`` and ``top5_agreement`` are at least, the rest
    at most. ``tie`` is the difference in squared distance (of vectors) or in s / (1 + s)
    below which two neighbours count as equally near. Rank-1 and mAP are judged when two
    evaluations are given, and may always change by one query's worth: a small query set
    cannot show less. ``stored_error`` is the largest error where descriptions are kept as a
    gallery keeps them; vectors are kept as they are.
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
        max_error=2e-3,
        mean_error=3e-4,
        median_error=3e-4,
        p99_error=1e-3,
        lowest_row_cosine=0.99998,
        top1_agreement=0.99,
        top5_agreement=0.97,
        batch_error=1e-3,
        rank1_change=0.005,
        map_change=0.005,
        tie=1e-3,
    ),
}
"""By the candidate's precision; set from MSP-CNN held against PyTorch in ONNX Runtime on a CPU,
on 48 to 64 real pedestrian crops:

==================  =============  ==============  ============  ================
measure             fp32, random   fp32, trained   fp16, random  fp16, trained
==================  =============  ==============  ============  ================
max_error           1.3e-7         2.2e-7          1.1e-4        2.7e-4
mean_error          2.1e-8         4.1e-8          2.3e-5        5.5e-5
p99_error           7.5e-8         1.4e-7          7.3e-5        1.8e-4
1 - lowest cosine   < 1e-6         4e-13           < 1e-6        8.3e-7
top1, top5          1, 1           1, 1            1, 1          1, 1
batch_error         0              0               0             0
==================  =============  ==============  ============  ================

What must be caught, on the same crops (random; trained): channels swapped, max_error 0.05;
0.1 and lowest cosine 0.973; 0.895. A mean off by 2 of 255, max_error 3.2e-3; 7.8e-3 and
mean_error 4.9e-4; 1.1e-3. Between the two lie the limits of fp16, wide enough for a GPU
that accumulates in half. Those of fp32 presume that TF32 is off, and catch a mean off by
0.1 (max_error 1.7e-4), which fp16's own rounding hides.
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
"""The same for networks of pairs, set from CSN (levels 2 and 3) held against PyTorch in ONNX
Runtime on a CPU, 8 real pedestrian crops against 48; "random" has random batch norms and logits
scaled to a deviation of 1, so that no probability stands at its end, "begun" is four updates of
training:

==================  ============  ===========  ============  ===========
measure             fp32, random  fp32, begun  fp16, random  fp16, begun
==================  ============  ===========  ============  ===========
max_error           2.4e-7        1.2e-7       3.2e-4        1.9e-4
mean_error          5.3e-8        3.1e-8       7.5e-5        5.1e-5
median_error        6.0e-8        0            6.2e-5        4.4e-5
p99_error           1.8e-7        1.2e-7       2.3e-4        1.5e-4
1 - lowest cosine   6e-14         1.4e-13      2.6e-7        4.1e-7
stored_error        1.7e-4        6.2e-5       3.7e-4        1.8e-4
top1, top5          1, 1          1, 1         1, 1          1, 1
batch_error         0             0            0             0
==================  ============  ===========  ============  ===========

Trained (1,056 updates on CUHK01, 48 real crops, by ``reid parity``) fp16 is further off, because
the nearer two vectors the steeper 0.2 / (d + 1e-4): max_error 2.1e-3, mean_error 1.9e-4,
median_error 8.1e-5, p99_error 1.3e-3, 1 - lowest cosine 4.0e-6, stored_error 2.1e-3; fp32 3.3e-7,
4.9e-8, 3.0e-8, 2.4e-7, 3.3e-13, 4.5e-5. The limits leave room for about three times that; a mean
off by 2 of 255 is then off by 0.075 (max_error).

What must be caught, on the same crops (random; begun): channels swapped, max_error 0.066; 0.13
and lowest cosine 0.81; 0.62. Query and gallery exchanged in conv4, max_error 0.014 (random). A
mean off by 2 of 255, max_error 2.4e-3; 4.7e-3, mean_error 7.0e-4; 1.1e-3, lowest cosine 0.99991;
0.99968. The limits of fp32 also catch a mean off by 0.1 (max_error 1.3e-4) and one of conv4's
36864 weights off by half the largest (1.9e-4), which fp16's own rounding hides. Ranks, rank-1
and mAP are those of descriptions kept as float16, which ``stored_error`` is of, so their limits
and ties are no narrower than its.

The correlations need no island in float16: their largest sum was 1.0e3 of 65504. A network
whose maps grow 8 times as large would overflow; its scores are then not finite, and fail.
"""

AT_LEAST = frozenset({"lowest_row_cosine", "top1_agreement", "top5_agreement"})
