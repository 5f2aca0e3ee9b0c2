"""Averaged weights: the formula, what is tested, and resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from reid.config.settings import OptimizerConfig, TrainConfig
from reid.errors import CheckpointError, ConfigError
from reid.training.averaging import AverageWeights
from reid.training.checkpoint import load_checkpoint, save_checkpoint
from reid.training.loop import train
from tests.heard import Interruption
from tests.training.test_loop import equal, tiny, weights_of

ON = "optimizer.average_decay=0.9"


def test_the_mean_of_the_weights_equals_the_formula() -> None:
    torch.manual_seed(0)
    network = nn.BatchNorm1d(2)
    average = AverageWeights(network, decay=0.6)
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    for step in range(12):
        network(torch.randn(5, 2))
        with torch.no_grad():
            network.weight += torch.randn(2)
        average.update(network, step)
        decay = min(0.6, (1 + step) / (10 + step))
        for name in ("weight", "bias", "running_mean", "running_var"):
            expected[name] = decay * expected[name] + (1 - decay) * network.state_dict()[name]
    for name in ("weight", "bias", "running_mean", "running_var"):
        torch.testing.assert_close(average.state[name], expected[name].detach())
    assert int(average.state["num_batches_tracked"]) == 12


def averaged(tiny_overrides: tuple[str, ...]) -> TrainConfig:
    return tiny(tiny_overrides, ON)


def test_the_checkpoint_has_the_mean_for_tests_and_the_last_weights_for_training(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    train(tiny(tiny_overrides), people, tmp_path / "last")
    train(averaged(tiny_overrides), people, tmp_path / "mean")
    checkpoint = load_checkpoint(tmp_path / "mean" / "checkpoint.pt")
    assert equal(checkpoint.training["last_weights"], weights_of(tmp_path / "last"))
    assert not equal(checkpoint.model, weights_of(tmp_path / "last"))


def test_a_stopped_run_resumes_to_the_same_mean(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    train(averaged(tiny_overrides), people, tmp_path / "whole")
    train(averaged(tiny_overrides), people, tmp_path / "parts", reporter=Interruption(4))
    train(averaged(tiny_overrides), people, tmp_path / "parts", resume=True)
    whole, parts = (load_checkpoint(tmp_path / n / "checkpoint.pt") for n in ("whole", "parts"))
    assert equal(whole.model, parts.model)
    assert equal(whole.training["last_weights"], parts.training["last_weights"])


@pytest.mark.parametrize("damage", [3, {}, {"conv1.conv.weight": torch.zeros(2)}], ids=str)
def test_damaged_last_weights_are_one_error(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path, damage: object
) -> None:
    train(averaged(tiny_overrides), people, tmp_path, reporter=Interruption(1))
    path = tmp_path / "checkpoint.pt"
    checkpoint = load_checkpoint(path)
    checkpoint.training["last_weights"] = damage
    save_checkpoint(path, checkpoint)
    with pytest.raises(CheckpointError) as caught:
        train(averaged(tiny_overrides), people, tmp_path, resume=True)
    assert "\n" not in str(caught.value)


def test_a_decay_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.average_decay .*1"):
        OptimizerConfig(average_decay=1.0)
