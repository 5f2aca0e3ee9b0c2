"""Motion of a box: four Kalman filters of constant velocity, one for each coordinate.

Coordinates are the centre, the width and the height. They are filtered separately, as any Kalman
filter with diagonal noise does, so each has a 2 x 2 covariance. Noise is proportional to the
person's height, as in DeepSORT (Wojke, Bewley and Paulus, ICIP 2017), but per second, not per
frame: live cameras drop frames.
"""

from __future__ import annotations

import numpy as np

from reid.types import FloatArray

POSITION_NOISE = 0.15
"""Standard deviation of a detected coordinate, in heights of the person.

[inferred] DeepSORT has 1/20, for a larger detector; boxes of a small one are less steady, and
tests/benchmarks/bench_watch.py had fewer identity switches.
"""

VELOCITY_NOISE = 0.8
"""Standard deviation of a velocity's change in one second, in heights / s.

DeepSORT has 1/160 of a height per frame: at 25 frames/s 25/160 heights / s, and after 25 frames
five times that.
"""

START_VELOCITY = 1.0
"""Standard deviation of an unknown velocity, in heights / s [inferred]."""

GATE = 9.4877
"""95 % of chi-square with four degrees of freedom: a box beyond it is someone else's."""

LONGEST_STEP_S = 1.0
"""Longest time between two frames that is used."""


class Motion:
    """One person's box over time."""

    def __init__(self, box: FloatArray) -> None:
        self._mean = _centred(box)
        self._velocity = np.zeros(4)
        height = self._mean[3]
        self._pp = np.full(4, (2 * POSITION_NOISE * height) ** 2)
        self._pv = np.zeros(4)
        self._vv = np.full(4, (START_VELOCITY * height) ** 2)

    @property
    def box(self) -> FloatArray:
        """(4,) left, top, right, bottom: the current estimate."""
        centre, half = self._mean[:2], self._mean[2:] / 2
        return np.concatenate([centre - half, centre + half]).astype(np.float32)

    def predict(self, seconds: float, seen: bool) -> None:
        """Predict ``seconds`` ahead; a box not ``seen`` in the last frame keeps its size."""
        step = min(max(seconds, 1e-3), LONGEST_STEP_S)
        if not seen:
            self._velocity[2:] = 0
        self._mean += step * self._velocity
        self._mean[2:] = np.maximum(self._mean[2:], 1)
        wander = (VELOCITY_NOISE * self._mean[3]) ** 2
        self._pp += 2 * step * self._pv + step**2 * self._vv + wander * step**3 / 3
        self._pv += step * self._vv + wander * step**2 / 2
        self._vv += wander * step

    def correct(self, box: FloatArray) -> None:
        """Update with the detected box."""
        gain_p = self._pp / self._spread()
        gain_v = self._pv / self._spread()
        surprise = _centred(box) - self._mean
        self._mean += gain_p * surprise
        self._velocity += gain_v * surprise
        self._vv -= gain_v * self._pv
        self._pv *= 1 - gain_p
        self._pp *= 1 - gain_p

    def distances(self, boxes: FloatArray) -> FloatArray:
        """(n, 4) boxes -> (n,) squared Mahalanobis distances, to compare with GATE."""
        surprises = np.array([_centred(box) for box in boxes]).reshape(-1, 4) - self._mean
        return np.asarray((surprises**2 / self._spread()).sum(axis=1), np.float32)

    def _spread(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return np.asarray(self._pp + (POSITION_NOISE * self._mean[3]) ** 2)


def _centred(box: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    left, top, right, bottom = (float(edge) for edge in box)
    return np.array([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
