"""Where a box goes: four Kalman filters of constant velocity, one for each coordinate.

Coordinates are the centre, the width and the height. They are filtered apart, which a Kalman
filter with diagonal noise does anyway, so a 2 x 2 covariance stands for each. Noise grows with
the person's height, as DeepSORT has it (Wojke, Bewley and Paulus, ICIP 2017), but per second, not
per frame: live cameras drop frames.
"""

from __future__ import annotations

import numpy as np

from reid.types import FloatArray

POSITION_NOISE = 0.15
"""Standard deviation of a detected coordinate, in heights of the person.

[inferred] DeepSORT has 1/20, for a larger detector; boxes of a small one are less steady, and
tests/benchmarks/bench_watch.py had a third fewer identity switches.
"""

VELOCITY_NOISE = 0.8
"""How far a velocity wanders, in heights / s within a second.

DeepSORT's 1/160 of a height a frame, each frame: at 25 frames a second 25/160 heights / s, and
after 25 of them five times as much.
"""

START_VELOCITY = 1.0
"""Standard deviation of a velocity that is not known yet, in heights / s
[inferred]."""

GATE = 9.4877
"""95 % of chi-square with four degrees of freedom: beyond it a box is somebody else's."""

LONGEST_STEP_S = 1.0
"""What is taken for the time between two frames at most."""


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
        """(4,) left, top, right, bottom, as far as is known."""
        centre, half = self._mean[:2], self._mean[2:] / 2
        return np.concatenate([centre - half, centre + half]).astype(np.float32)

    def predict(self, seconds: float, seen: bool) -> None:
        """Go on for ``seconds``; one who was not ``seen`` in the last frame keeps its size."""
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
        """Take in where the person was found."""
        gain_p = self._pp / self._spread()
        gain_v = self._pv / self._spread()
        surprise = _centred(box) - self._mean
        self._mean += gain_p * surprise
        self._velocity += gain_v * surprise
        self._vv -= gain_v * self._pv
        self._pv *= 1 - gain_p
        self._pp *= 1 - gain_p

    def distances(self, boxes: FloatArray) -> FloatArray:
        """(n, 4) boxes -> (n,) squared Mahalanobis distances, to be held against GATE."""
        surprises = np.array([_centred(box) for box in boxes]).reshape(-1, 4) - self._mean
        return np.asarray((surprises**2 / self._spread()).sum(axis=1), np.float32)

    def _spread(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return np.asarray(self._pp + (POSITION_NOISE * self._mean[3]) ** 2)


def _centred(box: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    left, top, right, bottom = (float(edge) for edge in box)
    return np.array([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
