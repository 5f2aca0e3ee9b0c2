"""Joining the group that torchrun describes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
import torch

from reid.errors import ConfigError, DataError, TrainingError
from reid.training.processes import (
    GROUP_TIMEOUT,
    LeavingAfterErrors,
    Processes,
    joined_processes,
    keep_to_own_cores,
)


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_processes("cpu") as processes:
        assert processes == Processes(0, 1, 0)
        assert processes.of_first("mine") == "mine"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no way to choose cores here")
@pytest.mark.parametrize(
    ("cores", "count", "shares"),
    [
        ({0, 1}, 2, [{0}, {1}]),
        ({3, 4, 5, 8, 9}, 2, [{3, 4}, {5, 8, 9}]),
        ({0, 1, 2, 3}, 1, [None]),
        ({0}, 2, [None, None]),
    ],
)
def test_processes_of_a_machine_share_its_cores(
    cores: set[int],
    count: int,
    shares: list[set[int] | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: dict[int, set[int] | None] = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda who: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(count))
    for number in range(count):
        found[number] = None
        monkeypatch.setenv("LOCAL_RANK", str(number))
        monkeypatch.setattr(
            os, "sched_setaffinity", lambda who, own, n=number: found.update({n: set(own)})
        )
        keep_to_own_cores()
    assert list(found.values()) == shares


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


def test_a_process_that_fails_ends_the_others_within_seconds_and_its_error_is_shown() -> None:
    script = (
        "import time\n"
        "from reid.errors import DataError\n"
        "from reid.training.processes import joined_processes, LeavingAfterErrors\n"
        "with LeavingAfterErrors(), joined_processes('cpu') as processes:\n"
        "    assert processes.first_text('' if processes.is_first else 'me') == 'me'\n"
        "    print(time.time(), flush=True)\n"
        "    if not processes.is_first:\n"
        "        raise DataError('door.jpg is no image')\n"
        "    processes.any_true(True)\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, **group, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (joined, waiting), (_, failed) = (process.communicate(timeout=120) for process in both)
    assert time.time() - float(joined) < 20
    assert [process.returncode for process in both] == [1, 1]
    assert failed == "reid: error: door.jpg is no image\n"
    assert "process 1 of 2" in waiting
    assert "Traceback" not in waiting


def test_a_group_is_ended_after_success_only_and_waits_for_a_limited_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []
    group = "reid.training.processes.dist."
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(group + "init_process_group", lambda *a, **named: calls.append(named))
    monkeypatch.setattr(group + "get_rank", lambda: 1)
    monkeypatch.setattr(group + "destroy_process_group", lambda: calls.append("ended"))
    with pytest.raises(DataError), joined_processes("cpu"):
        raise DataError("door.jpg")
    assert calls == [{"timeout": GROUP_TIMEOUT}]
    with joined_processes("cpu"):
        pass
    assert calls[2:] == ["ended"]


def test_processes_that_do_not_meet_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(TrainingError, match=r"the 2 of WORLD_SIZE.*MASTER_ADDR"):  # noqa: SIM117
        with joined_processes("cpu"):
            pass


def test_a_group_that_cannot_end_and_a_late_error_of_the_network_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise torch.distributed.DistBackendError("NCCL: remote process exited\nand 40 frames")

    group = "reid.training.processes.dist."
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(group + "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(group + "get_rank", lambda: 1)
    monkeypatch.setattr(group + "destroy_process_group", lost)
    with (
        pytest.raises(TrainingError, match=r"process 2 of 2.*NCCL: remote"),
        joined_processes("cpu"),
    ):
        pass
    ended: list[int] = []
    monkeypatch.setattr(group + "is_initialized", lambda: True)
    monkeypatch.setattr(group + "get_world_size", lambda: 2)
    monkeypatch.setattr("os._exit", ended.append)
    with pytest.raises(RuntimeError), LeavingAfterErrors():
        lost()
    assert ended == [1]
    said = capfd.readouterr().err
    assert said.startswith("reid: error: process 2 of 2")
    assert said.count("\n") == 1


def test_a_process_alone_raises_its_error() -> None:
    with pytest.raises(DataError), LeavingAfterErrors():
        raise DataError("door.jpg")
