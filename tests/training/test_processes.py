"""Joining the group that torchrun describes."""

from __future__ import annotations

import pytest
import torch

from reid.errors import ConfigError
from reid.training.processes import Processes, joined_processes


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_processes("cpu") as processes:
        assert processes == Processes(0, 1, 0)
        assert processes.of_first("mine") == "mine"


def test_more_processes_than_gpus_are_refused_before_they_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(ConfigError, match=r"found 1 GPU\(s\) for process 2.*start fewer"),
        joined_processes("cuda"),
    ):
        pass
