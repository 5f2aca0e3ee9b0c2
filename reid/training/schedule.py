"""Learning rates, computed as in Caffe's solver."""

from __future__ import annotations

import math
from collections.abc import Callable

from reid.config.settings import StageConfig


def learning_rate(stage: StageConfig, iteration: int, num_iterations: int) -> float:
    """The learning rate of update ``iteration`` (from 0) in a stage of ``num_iterations``.

    The formulas are those of ``solver.cpp`` of Caffe and, for ``stepdecr``, of the DGD fork;
    ``cosine`` is of neither. A warm-up rises linearly from base_lr / warmup_iterations.
    """
    if iteration < stage.warmup_iterations:
        return stage.base_lr * (iteration + 1) / stage.warmup_iterations
    if stage.lr_policy == "fixed":
        return stage.base_lr
    if stage.lr_policy == "cosine":
        return _cosine(stage, iteration, num_iterations)
    share = _SHARES[stage.lr_policy](stage, iteration, num_iterations)
    return max(stage.base_lr * share, stage.min_lr)


def _cosine(stage: StageConfig, iteration: int, num_iterations: int) -> float:
    start = stage.warmup_iterations
    progress = (iteration - start) / max(1, num_iterations - start)
    swing = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return stage.min_lr + (stage.base_lr - stage.min_lr) * swing


def _step(stage: StageConfig, iteration: int, num_iterations: int) -> float:
    return math.pow(stage.gamma, iteration // stage.stepsize)


def _multistep(stage: StageConfig, iteration: int, num_iterations: int) -> float:
    steps = (*(share * num_iterations for share in stage.milestones), *stage.stepvalues)
    return math.pow(stage.gamma, sum(iteration >= step for step in steps))


def _stepdecr(stage: StageConfig, iteration: int, num_iterations: int) -> float:
    return 1 - stage.gamma * (iteration // stage.stepsize)


def _poly(stage: StageConfig, iteration: int, num_iterations: int) -> float:
    return math.pow(1 - iteration / num_iterations, stage.power)


def _inv(stage: StageConfig, iteration: int, num_iterations: int) -> float:
    return math.pow(1 + stage.gamma * iteration, -stage.power)


def _sigmoid(stage: StageConfig, iteration: int, num_iterations: int) -> float:
    exponent = min(-stage.gamma * (iteration - stage.stepsize), _LARGEST_EXPONENT)
    return 1 / (1 + math.exp(exponent))


_SHARES: dict[str, Callable[[StageConfig, int, int], float]] = {
    "step": _step,
    "multistep": _multistep,
    "stepdecr": _stepdecr,
    "poly": _poly,
    "inv": _inv,
    "sigmoid": _sigmoid,
}
"""Policy -> the share of base_lr at an iteration of a stage."""

_LARGEST_EXPONENT = 700.0
"""Its exponential is still a float; the share is then 0 for every purpose, as Caffe's is."""


def stage_iterations(stage: StageConfig, batches_per_epoch: int, iter_size: int) -> int:
    """Updates in a stage: its ``iterations``, or its ``epochs`` in updates, at least one."""
    if stage.iterations > 0:
        return stage.iterations
    return max(1, round(stage.epochs * batches_per_epoch / iter_size))
