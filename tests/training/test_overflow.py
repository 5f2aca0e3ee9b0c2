"""Losses and gradients that are not finite: in fp16 a step is skipped, at last the run stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reid.config.settings import TrainConfig
from reid.config.toml import resolve_config
from reid.errors import TrainingError
from reid.losses.batch import Batch
from reid.training.loop import MIN_SCALE, train
from reid.training.processes import Processes
from reid.training.run import TrainingRun, start_run


def tiny(overrides: tuple[str, ...], *more: str) -> TrainConfig:
    return resolve_config("msp_cnn_synthetic", None, [*overrides, *more])


class AnotherProcess(Processes):
    """Beside this process another one, one of whose gradients overflowed."""

    def average_gradients(self, network: nn.Module) -> None:
        next(p.grad for p in network.parameters() if p.grad is not None).view(-1)[0] = torch.inf


def test_a_step_whose_gradients_overflow_in_another_process_is_left_out_in_this_one(
    people: Path,
    tiny_overrides: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = scaled(monkeypatch, 8.0, AnotherProcess())
    train(tiny(tiny_overrides, "stages.0.iterations=1", "stages.1.iterations=1"), people, tmp_path)
    ((run, before),) = seen
    assert all(map(torch.equal, run.network.parameters(), before))
    assert run.scaler.get_scale() == 2.0


def scaled(
    monkeypatch: pytest.MonkeyPatch,
    scale: float,
    processes: Processes,
    broken_steps: range = range(0),
) -> list[tuple[TrainingRun, list[torch.Tensor]]]:
    """Runs that scale their loss as in fp16 and overflow in the forward pass of some steps; each
    with its weights at the start."""
    seen: list[tuple[TrainingRun, list[torch.Tensor]]] = []

    def start(*args: Any) -> tuple[TrainingRun, str]:
        run, words = start_run(*args)
        objective = run.objective

        def overflowing(network: nn.Module, batch: Batch, *rest: Any) -> dict[str, torch.Tensor]:
            if run.step in broken_steps:
                batch = batch._replace(images=batch.images * torch.inf)
            return objective(network, batch, *rest)

        run.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        run.objective = overflowing
        run.processes = processes
        seen.append((run, [p.detach().clone() for p in run.network.parameters()]))
        return run, words

    monkeypatch.setattr("reid.training.loop.start_run", start)
    return seen


def test_a_step_whose_loss_overflows_in_fp16_is_skipped_and_leaves_no_trace(
    people: Path,
    tiny_overrides: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = scaled(monkeypatch, 8.0, Processes(), range(2))
    train(tiny(tiny_overrides, "stages.0.iterations=1", "stages.1.iterations=1"), people, tmp_path)
    ((run, before),) = seen
    assert run.scaler.get_scale() == 2.0
    assert all(map(torch.equal, run.network.parameters(), before))
    assert all(bool(torch.isfinite(buffer).all()) for buffer in run.network.buffers())


def test_a_loss_that_stays_infinite_stops_a_run_in_fp16(
    people: Path,
    tiny_overrides: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reid.training.loop.MAX_STEPS_LOST", 2)
    scaled(monkeypatch, 8.0, Processes(), range(1, 9))
    with pytest.raises(TrainingError, match=r"step 3 .*not finite.*\.jpg"):
        train(tiny(tiny_overrides), people, tmp_path)


def test_gradients_that_overflow_at_every_scale_stop_a_run_in_fp16(
    people: Path,
    tiny_overrides: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scaled(monkeypatch, 2 * MIN_SCALE, AnotherProcess())
    with pytest.raises(TrainingError, match=r"step 2 .*fp16.*run\.precision"):
        train(tiny(tiny_overrides), people, tmp_path)


class LosingProcess(Processes):
    """Beside this process another one, whose loss is not finite."""

    def any_true(self, flag: bool) -> bool:
        return True

    def first_text(self, text: str) -> str:
        return text or "door.jpg of another process"


def test_a_loss_that_is_not_finite_in_one_process_stops_all(
    people: Path,
    tiny_overrides: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(*args: Any) -> tuple[TrainingRun, str]:
        run, words = start_run(*args)
        run.processes = LosingProcess(rank=1, world_size=2)
        return run, words

    monkeypatch.setattr("reid.training.loop.start_run", start)
    with pytest.raises(TrainingError, match="of another process"):
        train(tiny(tiny_overrides), people, tmp_path)
