"""Thresholds from pairs of people in one frame."""

from __future__ import annotations

import numpy as np
import pytest

from reid.errors import DataError
from reid.evaluation import footage_thresholds as measuring
from reid.evaluation.footage_thresholds import footage_thresholds
from reid.evaluation.threshold_report import ThresholdReport
from reid.evaluation.thresholds import resampled
from reid.types import FloatArray, IntArray


def footage(num_pairs: int, num_tracks: int = 12) -> tuple[FloatArray, IntArray, FloatArray]:
    rng = np.random.default_rng(num_pairs)
    different = rng.uniform(0.4, 1.6, num_pairs).astype(np.float32)
    first = rng.integers(0, num_tracks, num_pairs)
    second = (first + rng.integers(1, num_tracks, num_pairs)) % num_tracks
    tracks = 100 + np.stack([first, second], axis=1)
    return different, tracks, rng.uniform(0, 0.8, 300).astype(np.float32)


def measured(num_pairs: int, num_tracks: int = 12, fpr: float | None = None) -> ThresholdReport:
    parts = footage(num_pairs, num_tracks)
    return footage_thresholds(*parts, source="door", graph="embed", fpr=fpr)


def test_rates_are_shares_of_the_pairs_in_one_frame() -> None:
    different, _, same = footage(12_000)
    found = measured(12_000)
    assert [one.fpr for one in found.thresholds.rates] == [1e-2, 1e-3]
    for one in found.thresholds.rates:
        assert (different <= one.distance).mean() == pytest.approx(one.fpr)
    (number, shares) = found.same_track or (0, ())
    expected = [float((same <= one.distance).mean()) for one in found.thresholds.rates]
    assert (number, list(shares)) == (300, expected)


def test_pairs_of_one_track_are_never_a_true_positive_rate() -> None:
    found = measured(12_000)
    assert found.thresholds.same_camera
    for one in found.thresholds.rates:
        assert (one.tpr, one.tpr_low, one.tpr_high) == (None, None, None)
    text = found.to_text()
    assert "same camera" in text
    assert "optimistic" in text
    assert "TPR (%)" not in text.replace("no TPR (%)", "")
    assert "12 tracks of one camera" in found.thresholds.for_pairs().words
    assert found.thresholds.searches == ()


def test_the_interval_is_of_tracks_drawn_again() -> None:
    different, tracks, _ = footage(2_000)
    one = measured(2_000).thresholds.rates[0]
    near = different <= np.float32(one.distance)
    shares = []
    for draw in resampled(12):
        weights = draw[tracks[:, 0] - 100] * draw[tracks[:, 1] - 100]
        shares.append(weights[near].sum() / weights.sum())
    assert (one.fpr_low, one.fpr_high) == pytest.approx(np.percentile(shares, (2.5, 97.5)))


def test_too_many_pairs_to_draw_again_have_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_MOST_WEIGHED", 1_000)
    one = measured(2_000).thresholds.rates[0]
    assert (one.fpr_low, one.fpr_high) == (None, None)
    assert "95 %" not in measured(2_000).to_text()


def test_too_few_people_or_pairs_are_refused_with_the_number_needed() -> None:
    with pytest.raises(DataError, match=r"door .* 9 people .*at least 10"):
        measured(3_000, num_tracks=9)
    with pytest.raises(DataError, match=r"FPR 0\.001 .*10,000 pairs .*2,000"):
        measured(2_000, fpr=1e-3)
    with pytest.raises(DataError, match=r"FPR 0\.01 .*1,000 pairs .* 500"):
        measured(500)
