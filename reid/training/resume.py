"""Resuming a stopped run: checks that its checkpoint fits."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reid.config.settings import TrainConfig
from reid.errors import CheckpointError, ConfigError, OutputError
from reid.model_file.opening import CHECKPOINT_NAME
from reid.training.arithmetic import Arithmetic
from reid.training.checkpoint import DAMAGE, Checkpoint, load_checkpoint, load_weights, one_line
from reid.training.processes import Processes
from reid.training.solver import Solver
from reid.training.torch_files import misfit

LAST_WEIGHTS = "last_weights"
"""What the training state calls the last weights of a run that tests their mean."""

_FREE_SETTINGS = (
    "run.checkpoint_every_s",
    "run.keep_freed_memory",
    "run.own_cores",
    "run.log_every",
    "run.check_every",
    "data.num_workers",
    "network.probability_weight",
)
"""Settings that may change on resume, because they do not change the weights."""

_RATE_SETTINGS = re.compile(
    r"stages\.\d+\.(lr_policy|base_lr|gamma|stepsize|power|milestones|stepvalues|min_lr|"
    r"warmup_iterations)"
)
"""What may change on resume too: how to go on where the loss grew or stands still."""


def checkpoint_to_resume(
    config: TrainConfig, folder: Path, resume: bool
) -> tuple[Checkpoint | None, list[str]]:
    """The checkpoint in ``folder`` if it is to be resumed and there is one.

    With it come lines about learning rates that are other than they were. Raises OutputError
    when the folder holds a run and ``resume`` is off, ConfigError when the settings differ from
    that run's.
    """
    path = folder / CHECKPOINT_NAME
    if not path.exists():
        return None, []
    if not resume:
        raise OutputError(
            f"{folder} already contains a run; continue with --resume, or choose another folder"
        )
    checkpoint = load_checkpoint(path)
    found = _differences(dataclasses.asdict(checkpoint.config), dataclasses.asdict(config), "")
    differences = [one for one in found if one.key not in _FREE_SETTINGS]
    refused = [one for one in differences if not _RATE_SETTINGS.fullmatch(one.key)]
    if refused:
        raise ConfigError(
            f"{folder} was trained with other settings: {refused[0].text}; resume with the same, "
            "or choose another folder"
        )
    return checkpoint, [f"resumed with another rate: {one.text}" for one in differences]


def arithmetic_before(checkpoint: Checkpoint, processes: Processes) -> Arithmetic:
    """A checkpoint's arithmetic, on this process's device instead of the first process's."""
    with _reading_training_state():
        before = Arithmetic(**checkpoint.training["arithmetic"])
        kind = before.device.split(":")[0]
        if kind not in ("cpu", "cuda") or before.precision not in ("fp32", "bf16", "fp16"):
            raise ValueError(f"unknown arithmetic: {before.words()}")
        return dataclasses.replace(before, device=processes.device(kind))


def loaded_before(checkpoint: Checkpoint, network: nn.Module) -> frozenset[str]:
    """The names of the arrays that the run loaded at its start; none in an older checkpoint.

    Raises CheckpointError for names that the network does not have.
    """
    with _reading_training_state():
        names = frozenset(checkpoint.training.get("loaded", ()))
        if unknown := names - network.state_dict().keys():
            raise ValueError(f"loaded arrays that the network does not have: {len(unknown)}")
    return names


def load_last_weights(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Load the weights that training goes on with, where the checkpoint's model is their mean.

    Raises CheckpointError.
    """
    with _reading_training_state():
        last = dict(checkpoint.training[LAST_WEIGHTS])
    load_weights(network, dataclasses.replace(checkpoint, model=last), Path(CHECKPOINT_NAME))


def restore_training(
    checkpoint: Checkpoint,
    solver: Solver,
    scaler: torch.amp.GradScaler,
    *,
    world_size: int,
    num_images: int,
) -> dict[str, float]:
    """Restore solver and scaler from the checkpoint; returns the last losses.

    Raises CheckpointError for a checkpoint without a training state or with a damaged one, and
    for another number of processes or training images.
    """
    training = checkpoint.training
    if not training:
        raise CheckpointError("the checkpoint is for testing only and cannot be resumed")
    with _reading_training_state():
        processes_before = int(training["world_size"])
        images_before = int(training.get("num_images", num_images))  # older files lack it
    if processes_before != world_size:
        raise CheckpointError(
            f"the run had {processes_before} processes, now there are {world_size}; resume with "
            "the same number"
        )
    if images_before != num_images:
        raise CheckpointError(
            f"the checkpoint was trained on {images_before} images, the data has {num_images}; "
            "resume on the same data"
        )
    with _reading_training_state():
        solver.load_state_dict(training["solver"])
        _check_solver_state(solver)
        scaler.load_state_dict(training["scaler"])
        return {str(name): float(value) for name, value in training["losses"].items()}


def _check_solver_state(solver: Solver) -> None:
    """Raise ValueError if a parameter's history does not fit it."""
    for parameter, state in solver.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.dim():  # Adam's step count is a scalar
                problem = misfit(name, parameter, value)
                if problem:
                    raise ValueError(problem)


@contextmanager
def _reading_training_state() -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise CheckpointError(
            f"the checkpoint's training state is damaged ({type(error).__name__}: "
            f"{one_line(error)}); it can be tested, not resumed"
        ) from None


class _Difference(NamedTuple):
    """A setting that differs, and how."""

    key: str
    text: str


def _differences(before: Any, now: Any, where: str) -> Iterator[_Difference]:
    """Every setting that differs, as ``key was x, is y``; a list of plain values is one setting."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        parts = [(f"{where}.{key}".lstrip("."), before.get(key), now.get(key)) for key in keys]
    elif _tables(before) and _tables(now) and len(before) == len(now):
        parts = [(f"{where}.{i}", *pair) for i, pair in enumerate(zip(before, now, strict=True))]
    elif _tables(before) and _tables(now):
        yield _Difference(where, f"{where} had {len(before)} entries, has {len(now)}")
        return
    else:
        if before != now:
            yield _Difference(where, f"{where} was {before}, is {now}")
        return
    for path, old, new in parts:
        yield from _differences(old, new, path)


def _tables(value: Any) -> bool:
    """Whether a setting is a list of tables, as ``stages`` is."""
    return isinstance(value, list | tuple) and all(isinstance(one, dict) for one in value)
