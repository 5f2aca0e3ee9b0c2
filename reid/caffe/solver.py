"""Convert a Caffe solver into settings of a training run."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid.caffe.files import read_solver
from reid.caffe.schema import UNKNOWN_TEXT, SolverParameter, name_of
from reid.errors import CaffeError, nearest

Schedule = dict[str, str | float | int]
"""Settings of a training stage's learning rate, by key."""

_USED = (
    *("base_lr", "max_iter", "lr_policy", "gamma", "power", "stepsize", "stepvalue", "min_lr"),
    *("momentum", "weight_decay", "iter_size", "type", "solver_type", "regularization_type"),
)


@dataclass(frozen=True, slots=True)
class SolverSettings:
    """Settings for ``optimizer`` and for one stage, and the solver fields that are not used."""

    optimizer: dict[str, float | int | bool]
    stage: Schedule
    unused: tuple[str, ...]

    def summary(self) -> str:
        """All settings, in one line."""
        taken = {**self.stage, **self.optimizer}
        return ", ".join(f"{key} {value}" for key, value in taken.items())


def settings_from_solver_file(
    path: Path, say: Callable[[str], None]
) -> dict[str, Mapping[str, Any]]:
    """``optimizer`` and ``first_stage`` of a configuration, from a solver's prototxt.

    Prints one line with the settings, and one with unused fields. Raises CaffeError.
    """
    found = settings_from_solver(read_solver(path), path)
    say(f"{path}, for the first stage: {found.summary()}")
    if found.unused:
        say(f"{path}: not used: {', '.join(found.unused)}")
    return {"optimizer": found.optimizer, "first_stage": found.stage}


def settings_from_solver(solver: SolverParameter, where: Path | str) -> SolverSettings:
    """Learning rate, policy, length, momentum, weight decay and accumulation of a solver.

    Missing fields have Caffe's defaults: no momentum, no weight decay, iter_size 1. ``exp``,
    ``poly`` with power 1 and ``multistep`` with evenly spaced steps are converted to the
    policy here with the same learning rates. Raises CaffeError if the solver has an invalid
    value or one without an equivalent here.
    """
    base_lr, max_iter = _number(solver, "base_lr", where), int(solver.max_iter)
    if not base_lr > 0 or max_iter < 1:
        raise CaffeError(
            f"{where}: expected base_lr and max_iter above 0, found {base_lr:g} and {max_iter}"
        )
    policy = solver.lr_policy
    if policy not in _POLICIES:
        raise CaffeError(
            f"{where}: expected lr_policy to be one of {', '.join(_POLICIES)}, "
            f"found {policy!r}{nearest(policy, _POLICIES)}"
        )
    momentum = _number(solver, "momentum", where)
    decay = _number(solver, "weight_decay", where)
    if not 0 <= momentum < 1 or decay < 0 or solver.iter_size < 1:
        raise CaffeError(
            f"{where}: expected momentum in [0, 1), weight_decay of 0 or more and iter_size of 1 "
            f"or more; found {momentum:g}, {decay:g}, {solver.iter_size}"
        )
    if decay and solver.regularization_type != "L2":
        raise CaffeError(
            f"{where}: expected regularization_type L2, found {solver.regularization_type!r}"
        )
    return SolverSettings(
        optimizer={
            "momentum": momentum,
            "weight_decay": decay,
            "nesterov": _is_nesterov(solver, where),
            "iter_size": int(solver.iter_size),
        },
        stage={
            "iterations": max_iter,
            "epochs": 0.0,
            "base_lr": base_lr,
            "warmup_iterations": 0,
            "min_lr": 0.0,
            **_POLICIES[policy](solver, where),
        },
        unused=_unused(solver),
    )


def _is_nesterov(solver: SolverParameter, where: Path | str) -> bool:
    """Whether the solver uses Nesterov momentum; ``solver_type`` is the old field for it."""
    kind = solver.type
    if solver.HasField("solver_type"):
        kind = name_of("SolverType", solver.solver_type)
    if kind.lower() not in ("sgd", "nesterov"):
        raise CaffeError(f"{where}: expected a solver of type SGD or Nesterov, found {kind!r}")
    return bool(kind.lower() == "nesterov")


def _fixed(solver: SolverParameter, where: Path | str) -> Schedule:
    return {"lr_policy": "fixed"}


def _step(solver: SolverParameter, where: Path | str) -> Schedule:
    """``step``: base_lr * gamma^floor(i / stepsize)."""
    return _stepped("step", _gamma(solver, where), _stepsize(solver, where))


def _stepdecr(solver: SolverParameter, where: Path | str) -> Schedule:
    """DGD fork's ``stepdecr``: base_lr * (1 - gamma * floor(i / stepsize)), at least min_lr."""
    schedule = _stepped("stepdecr", _gamma(solver, where), _stepsize(solver, where))
    return {**schedule, "min_lr": max(0.0, _number(solver, "min_lr", where))}


def _exp(solver: SolverParameter, where: Path | str) -> Schedule:
    """base_lr * gamma^i: a step at every iteration."""
    return _stepped("step", _gamma(solver, where), 1)


def _multistep(solver: SolverParameter, where: Path | str) -> Schedule:
    """``multistep`` with evenly spaced stepvalues, as ``step``."""
    steps = [int(step) for step in solver.stepvalue if step < solver.max_iter]
    if not steps:
        return _fixed(solver, where)
    even = range(steps[0], int(solver.max_iter), max(1, steps[0]))
    if steps[0] < 1 or len(steps) != len(even) or any(map(operator.ne, steps, even)):
        raise CaffeError(
            f"{where}: expected evenly spaced stepvalues up to max_iter for multistep, found "
            f"{', '.join(map(str, steps[:8]))}; write one stage per step in a --config file"
        )
    return _stepped("step", _gamma(solver, where), steps[0])


def _poly(solver: SolverParameter, where: Path | str) -> Schedule:
    """base_lr * (1 - i / max_iter)^power; with power 1 it is ``stepdecr`` with stepsize 1."""
    power = _number(solver, "power", where)
    if power != 1:
        raise CaffeError(f"{where}: expected power 1 for lr_policy poly, found {power:g}")
    return _stepped("stepdecr", 1 / int(solver.max_iter), 1)


_POLICIES: dict[str, Callable[[SolverParameter, Path | str], Schedule]] = {
    "fixed": _fixed,
    "step": _step,
    "stepdecr": _stepdecr,
    "exp": _exp,
    "multistep": _multistep,
    "poly": _poly,
}


def _stepped(policy: str, gamma: float, stepsize: int) -> Schedule:
    return {"lr_policy": policy, "gamma": gamma, "stepsize": stepsize}


def _gamma(solver: SolverParameter, where: Path | str) -> float:
    gamma = _number(solver, "gamma", where)
    if gamma <= 0:
        raise CaffeError(f"{where}: {solver.lr_policy} needs gamma above 0, found {gamma:g}")
    return gamma


def _stepsize(solver: SolverParameter, where: Path | str) -> int:
    if solver.stepsize < 1:
        raise CaffeError(
            f"{where}: {solver.lr_policy} needs stepsize above 0, found {solver.stepsize}"
        )
    return int(solver.stepsize)


def _number(solver: SolverParameter, name: str, where: Path | str) -> float:
    """The number as written in the file: 0.1, not the float32 nearest to it."""
    value = float(str(np.float32(getattr(solver, name))))
    if not math.isfinite(value):
        raise CaffeError(f"{where}: expected a finite {name}, found {value}")
    return value


def _unused(solver: SolverParameter) -> tuple[str, ...]:
    """Names of the solver fields that no setting uses."""
    known = [field.name for field, _ in solver.ListFields()]
    unknown = [re.split(r"\W", text, maxsplit=1)[0] for text in solver.unknown_text]
    names = (*known, *unknown)
    return tuple(dict.fromkeys(n for n in names if n not in _USED and n != UNKNOWN_TEXT))
