"""Learning rates, computed as in Caffe's solver."""

from __future__ import annotations

import math

from reid.config.settings import StageConfig


def learning_rate(stage: StageConfig, iteration: int, num_iterations: int) -> float:
    """The learning rate of update ``iteration`` (from 0) in a stage of ``num_iterations``.

    ``step`` and ``stepdecr`` are the formulas of ``solver.cpp`` of Caffe and of the DGD
    fork. A warm-up rises linearly from base_lr / warmup_iterations.
    """
    if iteration < stage.warmup_iterations:
        return stage.base_lr * (iteration + 1) / stage.warmup_iterations
    if stage.lr_policy == "step":
        rate = stage.base_lr * math.pow(stage.gamma, iteration // stage.stepsize)
        return max(rate, stage.min_lr)
    if stage.lr_policy == "multistep":
        passed = sum(iteration >= share * num_iterations for share in stage.milestones)
        return max(stage.base_lr * math.pow(stage.gamma, passed), stage.min_lr)
    if stage.lr_policy == "stepdecr":
        rate = stage.base_lr * (1 - stage.gamma * (iteration // stage.stepsize))
        return max(rate, stage.min_lr)
    if stage.lr_policy == "cosine":
        start = stage.warmup_iterations
        progress = (iteration - start) / max(1, num_iterations - start)
        swing = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return stage.min_lr + (stage.base_lr - stage.min_lr) * swing
    return stage.base_lr


def stage_iterations(stage: StageConfig, batches_per_epoch: int, iter_size: int) -> int:
    """Updates in a stage: its ``iterations``, or its ``epochs`` in updates, at least one."""
    if stage.iterations > 0:
        return stage.iterations
    return max(1, round(stage.epochs * batches_per_epoch / iter_size))
