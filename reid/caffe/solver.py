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

Schedule = dict[str, str | float | int | tuple[int, ...]]
"""Settings of a training stage's learning rate, by key."""

_USED = (
    *("base_lr", "max_iter", "lr_policy", "gamma", "power", "stepsize", "stepvalue", "min_lr"),
    *("momentum", "weight_decay", "iter_size", "type", "solver_type", "regularization_type"),
    "clip_gradients",
)

_ADAM_ONLY = ("momentum2", "delta")


@dataclass(frozen=True, slots=True)
class SolverSettings:
    """Settings for ``optimizer`` and for one stage, and the solver fields that are not used."""

    optimizer: dict[str, str | float | int | bool]
    stage: Schedule
    unused: tuple[str, ...]

    def summary(self) -> str:
        """All settings, in one line."""
        taken = {**self.stage, **self.optimizer}
        return ", ".join(f"{key} {value}" for key, value in taken.items() if value != ())


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
    """Learning rate, policy, length, kind, momentum, decay, accumulation and limit of a solver.

    Missing fields have Caffe's defaults: no momentum, no weight decay, iter_size 1, no limit on
    the gradients. ``exp`` is converted to ``step``, which gives the same learning rates. Raises
    CaffeError if the solver lacks a parameter of its policy, has an invalid value or one without
    an equivalent here.
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
    optimizer = _optimizer(solver, where)
    stage: Schedule = {
        "iterations": max_iter,
        "epochs": 0.0,
        "base_lr": base_lr,
        "warmup_iterations": 0,
        "min_lr": 0.0,
        **_POLICIES[policy](solver, where),
    }
    used = (*_USED, *_ADAM_ONLY) if optimizer["kind"] == "caffe_adam" else _USED
    return SolverSettings(optimizer, stage, _unused(solver, used))


def _optimizer(solver: SolverParameter, where: Path | str) -> dict[str, str | float | int | bool]:
    """Settings of the section ``optimizer``."""
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
    clip = _number(solver, "clip_gradients", where)
    if clip == 0:
        raise CaffeError(
            f"{where}: clip_gradients 0 sets all gradients to 0; expected a limit above 0, or none"
        )
    return {
        **_kind(solver, where),
        "momentum": momentum,
        "weight_decay": decay,
        "iter_size": int(solver.iter_size),
        "clip_gradients": max(0.0, clip),
    }


def _kind(solver: SolverParameter, where: Path | str) -> dict[str, str | float | int | bool]:
    """The kind of solver and its own settings; ``solver_type`` is the old field for ``type``."""
    kind = solver.type
    if solver.HasField("solver_type"):
        kind = name_of("SolverType", solver.solver_type)
    if kind.lower() in ("sgd", "nesterov"):
        return {"kind": "sgd", "nesterov": kind.lower() == "nesterov"}
    if kind.lower() != "adam":
        raise CaffeError(
            f"{where}: expected a solver of type SGD, Nesterov or Adam, found {kind!r}"
        )
    momentum2, delta = _number(solver, "momentum2", where), _number(solver, "delta", where)
    if not 0 <= momentum2 < 1 or delta <= 0:
        raise CaffeError(
            f"{where}: expected momentum2 in [0, 1) and delta above 0 for Adam, found "
            f"{momentum2:g} and {delta:g}"
        )
    return {"kind": "caffe_adam", "nesterov": False, "momentum2": momentum2, "delta": delta}


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
    """base_lr * gamma^(number of stepvalues passed)."""
    steps = [int(step) for step in solver.stepvalue]
    if not steps:
        raise CaffeError(f"{where}: multistep needs stepvalues, found none")
    if min(steps) < 0 or any(map(operator.ge, steps, steps[1:])):
        raise CaffeError(
            f"{where}: multistep needs ascending stepvalues of 0 or more, found "
            f"{', '.join(map(str, steps[:8]))}"
        )
    if len(steps) > _MAX_STEPVALUES:
        raise CaffeError(
            f"{where}: expected at most {_MAX_STEPVALUES} stepvalues, found {len(steps)}"
        )
    gamma = _gamma(solver, where)
    return {"lr_policy": "multistep", "gamma": gamma, "stepvalues": tuple(steps), "milestones": ()}


def _poly(solver: SolverParameter, where: Path | str) -> Schedule:
    """base_lr * (1 - i / max_iter)^power."""
    return {"lr_policy": "poly", "power": _power(solver, where)}


def _inv(solver: SolverParameter, where: Path | str) -> Schedule:
    """base_lr * (1 + gamma * i)^-power."""
    gamma, power = _gamma(solver, where), _power(solver, where)
    return {"lr_policy": "inv", "gamma": gamma, "power": power}


def _sigmoid(solver: SolverParameter, where: Path | str) -> Schedule:
    """base_lr / (1 + exp(-gamma * (i - stepsize)))."""
    return _stepped("sigmoid", _gamma(solver, where), _stepsize(solver, where))


_POLICIES: dict[str, Callable[[SolverParameter, Path | str], Schedule]] = {
    "fixed": _fixed,
    "step": _step,
    "stepdecr": _stepdecr,
    "exp": _exp,
    "multistep": _multistep,
    "poly": _poly,
    "inv": _inv,
    "sigmoid": _sigmoid,
}

_MAX_STEPVALUES = 1000
"""Each iteration counts those that it has passed; a real solver has a handful."""


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


def _power(solver: SolverParameter, where: Path | str) -> float:
    power = _number(solver, "power", where)
    if not solver.HasField("power") or power < 0:
        found = f"{power:g}" if solver.HasField("power") else "none"
        raise CaffeError(f"{where}: {solver.lr_policy} needs a power of 0 or more, found {found}")
    return power


def _number(solver: SolverParameter, name: str, where: Path | str) -> float:
    """The number as written in the file: 0.1, not the float32 nearest to it."""
    value = float(str(np.float32(getattr(solver, name))))
    if not math.isfinite(value):
        raise CaffeError(f"{where}: expected a finite {name}, found {value}")
    return value


def _unused(solver: SolverParameter, used: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the solver fields that no setting uses."""
    known = [field.name for field, _ in solver.ListFields()]
    unknown = [re.split(r"\W", text, maxsplit=1)[0] for text in solver.unknown_text]
    names = (*known, *unknown)
    return tuple(dict.fromkeys(n for n in names if n not in used and n != UNKNOWN_TEXT))
