"""How a run is put together where there are several processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from reid.config.settings import TrainConfig
from reid.config.toml import resolve_config
from reid.data import load_split
from reid.training import run as training_run
from reid.training.arithmetic import Arithmetic
from reid.training.checkpoint import Checkpoint
from reid.training.processes import Processes
from reid.training.run import TrainingRun, start_run


class FirstDecides(Processes):
    """The second of two processes, which the first one tells what it found."""

    def of_first(self, value: Any) -> Any:
        _, words = value
        return Arithmetic("cpu", "bf16", True), words


def tiny(overrides: tuple[str, ...], *more: str) -> TrainConfig:
    return resolve_config("msp_cnn_synthetic", None, [*overrides, *more])


def saved(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    kept: list[Checkpoint] = []
    monkeypatch.setattr(training_run, "save_checkpoint", lambda path, one: kept.append(one))
    run.save(Path())
    return kept[0]


def test_every_process_trains_in_the_arithmetic_that_the_first_found_quickest(
    people: Path, tiny_overrides: tuple[str, ...]
) -> None:
    config = tiny(tiny_overrides, "run.device=cpu")
    run, _ = start_run(config, load_split("synthetic", people).train, FirstDecides(), None)
    assert run.arithmetic == Arithmetic("cpu", "bf16", True)


def test_a_process_resumes_on_its_own_gpu_not_on_that_of_the_first(
    people: Path, tiny_overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = load_split("synthetic", people).train
    config = tiny(tiny_overrides)
    first, _ = start_run(config, records, Processes(), None)
    checkpoint = saved(first, monkeypatch)
    as_first = dataclasses.asdict(Arithmetic("cuda:0", "fp32", False))
    of_two = {**checkpoint.training, "arithmetic": as_first, "world_size": 2}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(Arithmetic, "place", lambda self, network: network)
    second, words = start_run(
        config, records, Processes(1, 2, 1), dataclasses.replace(checkpoint, training=of_two)
    )
    assert second.arithmetic.device == "cuda:1"
    assert "cuda:1" in words
