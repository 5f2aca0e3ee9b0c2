"""PyTorch's settings for CUDA; they exist without a GPU."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from reid.config.settings import TrainConfig
from reid.config.toml import load_recipe, resolve_config
from reid.errors import ConfigError
from reid.models import NETWORKS
from reid.training.determinism import CUBLAS_SETTING, cuda_order
from reid.training.loop import train

DETERMINISTIC = "run.deterministic=true"


def state() -> tuple[bool, bool, bool]:
    """Everything deterministic, convolutions deterministic, convolutions timed."""
    cudnn = torch.backends.cudnn
    return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark


def recipe(name: str, *more: str) -> TrainConfig:
    return resolve_config(name, None, more)


def test_a_deterministic_run_has_its_settings_on_cuda_and_leaves_them_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, value = CUBLAS_SETTING
    monkeypatch.delenv(name, raising=False)
    before = state()
    config = recipe("msp_cnn_synthetic", DETERMINISTIC, "sampler.kind=identities")
    with cuda_order(config, "cuda"):
        assert state() == (True, True, False)
        assert os.environ[name] == value
    assert state() == before == (False, False, False)
    with cuda_order(config, "cpu"):
        assert state() == before


@pytest.mark.parametrize(("kind", "timed"), [("identities", True), ("pairs", False)])
def test_convolutions_are_timed_where_all_batches_have_one_size(kind: str, timed: bool) -> None:
    with cuda_order(recipe("msp_cnn_synthetic", f"sampler.kind={kind}"), "cuda"):
        assert state() == (False, False, timed)
    assert state() == (False, False, False)


@pytest.mark.parametrize("name", ["csn_cuhk01", "sisnet_market1501"])
def test_a_network_without_a_deterministic_form_is_refused_on_cuda_before_the_folder_is_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid.training.loop.choose_device", lambda wanted: "cuda")
    with pytest.raises(ConfigError, match=r"run\.deterministic.*run\.device=cpu"):
        train(recipe(name, DETERMINISTIC), tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert state() == (False, False, False)
    with cuda_order(recipe(name, DETERMINISTIC), "cpu"):
        pass


def test_every_operation_that_is_named_is_of_a_network_that_has_one() -> None:
    assert {name for name, network in NETWORKS.items() if network.no_fixed_order} == {
        "csn",
        "sisnet",
    }
    config = load_recipe("msp_cnn_synthetic")
    assert not dataclasses.asdict(config)["run"]["deterministic"]
