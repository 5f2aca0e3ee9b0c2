"""Thresholds from own footage, without labels: two people in one frame are different people.

Two images of one track are of one person in one camera, seconds apart. They are much more alike
than two images over cameras, so that their rate is optimistic: it is shown as such, and is never a
true positive rate.
"""

from __future__ import annotations

import math

import numpy as np

from reid.errors import DataError
from reid.evaluation.threshold_report import Needed, ThresholdReport
from reid.evaluation.thresholds import (
    EQUAL,
    FPRS,
    LEAST_FALSE,
    LEAST_PEOPLE,
    distance_at,
    measured_rates,
    resampled,
)
from reid.model_file.thresholds import PAIR_FPR, PairRate, Thresholds
from reid.types import FloatArray, IntArray


def footage_thresholds(
    different: FloatArray,
    tracks: IntArray,
    same: FloatArray,
    *,
    source: str,
    graph: str,
    fpr: float | None = None,
    unit_vectors: bool = True,
) -> ThresholdReport:
    """Thresholds from (D,) distances of pairs in one frame, and (S,) of pairs of one track.

    ``tracks`` (D, 2) are the tracks' numbers of each pair in one frame, for the bootstrap: tracks
    are drawn again. Raises DataError, with the number needed, for too few tracks or a rate that
    the pairs cannot show.
    """
    known, places = np.unique(tracks, return_inverse=True)
    if len(known) < LEAST_PEOPLE:
        raise DataError(
            f"{source} shows {len(known)} people (tracks) together with others in one frame; "
            f"thresholds need at least {LEAST_PEOPLE}: longer footage, or a busier place"
        )
    order = np.argsort(different, kind="stable")
    ascending = different[order]
    first, second = places.reshape(-1, 2)[order].T
    weights = resampled(len(known))
    falses = weights[:, first] * weights[:, second] if len(order) < _MOST_WEIGHED else None

    def measured(rate: float) -> PairRate | Needed:
        if rate * len(ascending) < LEAST_FALSE:
            return _pairs_needed(rate, len(ascending), len(known))
        distance = distance_at(ascending, int(rate * len(ascending) * (1 + 1e-12)))
        if distance is None:
            return Needed(f"FPR {rate:g}", EQUAL)
        low, high = _interval(falses, int(np.searchsorted(ascending, distance, side="right")))
        return PairRate(rate, distance, low, high)

    rates = sorted({*FPRS, *([fpr] if fpr else [])}, reverse=True)
    found, needed = measured_rates(rates, measured, fpr, source)
    shares = tuple(float((same <= np.float32(one.distance)).mean()) for one in found)
    return ThresholdReport(
        Thresholds(
            source=source,
            graph=graph,
            num_people=len(known),
            num_different=len(ascending),
            fpr=fpr or PAIR_FPR,
            rates=found,
            same_camera=True,
        ),
        num_same=0,
        needed=(
            *needed,
            Needed("TPR and FPIR", "people with names over two cameras (reid threshold --data)"),
        ),
        unit_vectors=unit_vectors,
        same_track=(len(same), shares) if len(same) else None,
    )


_MOST_WEIGHED = 20_000
"""Pairs whose weights fit in memory (160 MB); with more there is no interval."""


def _interval(falses: np.ndarray | None, number: int) -> tuple[float | None, float | None]:
    if falses is None:
        return None, None
    shares = falses[:, :number].sum(1) / np.maximum(falses.sum(1), 1)
    low, high = np.percentile(shares, (2.5, 97.5))
    return float(low), float(high)


def _pairs_needed(fpr: float, num_different: int, people: int) -> Needed:
    pairs = math.ceil(LEAST_FALSE / fpr - 1e-6)
    return Needed(
        f"FPR {fpr:g}",
        f"{pairs:,} pairs of two people in one frame, for {LEAST_FALSE} false accepts (found "
        f"{num_different:,} of {people:,} tracks): longer footage, or a shorter --every",
    )
