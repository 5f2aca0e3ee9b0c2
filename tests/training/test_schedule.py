"""Learning rates against the formulas of Caffe's solver, written out by hand."""

from __future__ import annotations

import math

import pytest

from reid.config.settings import StageConfig
from reid.training.schedule import learning_rate, stage_iterations


def test_step_divides_by_ten_at_each_stepsize() -> None:
    stage = StageConfig(iterations=50000, lr_policy="step", base_lr=0.1, stepsize=20000)
    rates = [learning_rate(stage, i, 50000) for i in (0, 19999, 20000, 40000, 49999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001])


def test_stepdecr_falls_linearly_and_stops_at_its_floor() -> None:
    # The DGD fork's CUHK01 solver: base 0.1, gamma 0.04, stepsize 200, floor 5e-4.
    stage = StageConfig(
        iterations=5500, lr_policy="stepdecr", base_lr=0.1, gamma=0.04, stepsize=200, min_lr=5e-4
    )
    for i in (0, 199, 200, 1234, 4999, 5000, 5499):
        expected = max(5e-4, 0.1 * (1 - 0.04 * math.floor(i / 200)))
        assert learning_rate(stage, i, 5500) == pytest.approx(expected)
    assert learning_rate(stage, 5499, 5500) == 5e-4


def test_cosine_starts_at_the_base_rate_and_ends_at_the_least() -> None:
    stage = StageConfig(iterations=100, lr_policy="cosine", base_lr=0.4, min_lr=0.1)
    assert learning_rate(stage, 0, 100) == pytest.approx(0.4)
    assert learning_rate(stage, 50, 100) == pytest.approx(0.25)
    assert learning_rate(stage, 100, 100) == pytest.approx(0.1)


def test_a_warm_up_rises_linearly_to_the_base_rate() -> None:
    stage = StageConfig(iterations=100, lr_policy="fixed", base_lr=0.4, warmup_iterations=4)
    rates = [learning_rate(stage, i, 100) for i in range(6)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_epochs_become_updates_of_iter_size_passes() -> None:
    assert stage_iterations(StageConfig(epochs=2.5), batches_per_epoch=10, iter_size=1) == 25
    assert stage_iterations(StageConfig(epochs=2.5), batches_per_epoch=10, iter_size=5) == 5
    assert stage_iterations(StageConfig(epochs=0.01), batches_per_epoch=10, iter_size=1) == 1
    assert stage_iterations(StageConfig(iterations=7), batches_per_epoch=10, iter_size=2) == 7


def test_multistep_multiplies_by_gamma_at_each_milestone() -> None:
    stage = StageConfig(
        iterations=90, lr_policy="multistep", base_lr=0.1, gamma=0.1, milestones=(0.5, 0.8)
    )
    rates = [learning_rate(stage, i, 90) for i in (0, 44, 45, 71, 72, 89)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
