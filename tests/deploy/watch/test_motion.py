"""Four small filters against one textbook Kalman filter of eight states."""

from __future__ import annotations

import numpy as np
import pytest

from reid.deploy.watch import motion
from reid.deploy.watch.motion import GATE, Motion
from reid.types import FloatArray

BOX = np.array([100, 50, 140, 150], np.float32)


def moved(x: float, y: float = 0.0) -> FloatArray:
    return np.asarray(BOX + np.array([x, y, x, y]), np.float32)


def measured(box: FloatArray) -> FloatArray:
    left, top, right, bottom = box
    return np.array([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])


class LiteralKalman:
    """Positions and velocities of all four coordinates, with whole matrices."""

    def __init__(self, box: FloatArray) -> None:
        height = measured(box)[3]
        self.x = np.concatenate([measured(box), np.zeros(4)])
        deviations = [2 * motion.POSITION_NOISE] * 4 + [motion.START_VELOCITY] * 4
        self.p = np.diag(np.square(np.array(deviations) * height))

    def predict(self, step: float) -> None:
        one, none = np.eye(4), np.zeros((4, 4))
        f = np.block([[one, step * one], [none, one]])
        self.x = f @ self.x
        q = (motion.VELOCITY_NOISE * self.x[3]) ** 2
        noise = np.block([[one * step**3 / 3, one * step**2 / 2], [one * step**2 / 2, one * step]])
        self.p = f @ self.p @ f.T + q * noise

    def spread(self) -> FloatArray:
        return self.p[:4, :4] + np.eye(4) * (motion.POSITION_NOISE * self.x[3]) ** 2

    def correct(self, box: FloatArray) -> None:
        gain = self.p[:, :4] @ np.linalg.inv(self.spread())
        self.x = self.x + gain @ (measured(box) - self.x[:4])
        self.p = self.p - gain @ self.p[:4]

    def distance(self, box: FloatArray) -> float:
        surprise = measured(box) - self.x[:4]
        return float(surprise @ np.linalg.inv(self.spread()) @ surprise)


def test_it_is_the_kalman_filter_of_the_textbook() -> None:
    rng = np.random.default_rng(0)
    found, literal = Motion(BOX), LiteralKalman(BOX)
    for frame in range(1, 30):
        step = float(rng.uniform(0.03, 0.4))
        found.predict(step, seen=True)
        literal.predict(step)
        box = (moved(8 * frame, frame) + rng.normal(0, 3, 4)).astype(np.float32)
        assert found.distances(box[None])[0] == pytest.approx(literal.distance(box), rel=1e-4)
        found.correct(box)
        literal.correct(box)
        np.testing.assert_allclose(measured(found.box), literal.x[:4], rtol=1e-4)


def test_who_walked_on_is_expected_further_on() -> None:
    walking = Motion(BOX)
    for frame in range(1, 20):
        walking.predict(0.1, seen=True)
        walking.correct(moved(10 * frame))
    for _ in range(5):
        walking.predict(0.1, seen=False)
    assert walking.box == pytest.approx(moved(240), abs=8)
    assert walking.distances(moved(240)[None])[0] < GATE
    assert walking.distances(moved(0)[None])[0] > GATE


def test_who_is_out_of_sight_keeps_its_size() -> None:
    near = Motion(BOX)
    for frame in range(1, 10):
        near.predict(0.1, seen=True)
        near.correct(BOX + np.array([-3, -6, 3, 6], np.float32) * frame)
    size = measured(near.box)[2:]
    near.predict(0.1, seen=False)
    near.predict(1.0, seen=False)
    assert measured(near.box)[2:] == pytest.approx(size)


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 1e9])
def test_a_clock_that_jumps_does_no_harm(seconds: float) -> None:
    person = Motion(BOX)
    person.predict(0.1, seen=True)
    person.correct(moved(5))
    person.predict(seconds, seen=True)
    person.correct(moved(10))
    assert np.isfinite(person.box).all()
    assert np.abs(person.box - moved(10)).max() < 20
