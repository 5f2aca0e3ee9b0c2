"""Training as one call, and the run folder it writes."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.api.model import Model, load
from reid.config.settings import DataConfig, TrainConfig
from reid.config.toml import resolve_config
from reid.errors import ConfigError, InputError
from reid.packages import named_packages
from reid.progress import Reporter, reporting

if TYPE_CHECKING:
    from reid.training.loop import TrainResult

Overrides = Mapping[str, object] | Sequence[str]
"""``{"run.seed": 1}``, or lines as ``--set`` takes them: ``["run.seed=1"]``."""

_LOOP = "reid.training.loop"
"""Loads torch, so it is imported only for training."""


@dataclass(frozen=True, slots=True)
class Run:
    """The run folder of a training: checkpoint, log, curves, configuration.

    >>> trained = reid.train("msp_cnn_synthetic", people, folder / "run", overrides=tiny)
    >>> trained.result.step, trained.result.interrupted
    (10, False)
    >>> with trained.load(device="cpu") as network:
    ...     len(network.embed(people / "query")) > 0
    True
    """

    folder: Path
    root: Path
    """The folder of the dataset."""
    config: TrainConfig
    result: TrainResult
    """Steps, seconds, the last loss, and whether it was interrupted."""

    def load(self, device: str = "auto", threads: int = 0) -> Model:
        """Open the trained network; see ``reid.load``."""
        return load(self.folder, device, threads)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``reid train --json`` prints them."""
        result = self.result
        return {
            "run": str(self.folder),
            "step": result.step,
            "num_steps": result.num_steps,
            "interrupted": result.interrupted,
            "seconds": round(result.seconds, 1),
            "images_per_s": round(result.images_per_s, 2),
            # Resuming a finished run takes no step: its loss is NaN, which JSON lacks.
            "loss": result.loss if math.isfinite(result.loss) else None,
        }

    def to_text(self) -> str:
        """The result, and the next command."""
        result = self.result
        if result.interrupted:
            return f"stopped at step {result.step} of {result.num_steps}; continue with --resume"
        loss = f", loss {result.loss:.3f}" if math.isfinite(result.loss) else ""
        own = f", the last {result.step - result.steps_before}" if result.steps_before else ""
        return (
            f"{self.folder}: {result.step} steps{own} in {result.seconds:.0f} s, "
            f"{result.images_per_s:.1f} images/s{loss}\nnext: reid eval {self.folder} "
            f"{' '.join(f'--data {name}' for name in self.config.data.datasets)} "
            f"--data-root {self.root}{_own_options(self.config.data)}"
        )


def train(
    recipe: str,
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    overrides: Overrides = (),
    config_file: str | os.PathLike[str] | None = None,
    solver: str | os.PathLike[str] | None = None,
    start_from: str | os.PathLike[str] | None = None,
    freeze_steps: int = 0,
    resume: bool = False,
    progress: bool | Reporter = False,
) -> Run:
    """Train a recipe on the dataset below ``root`` into the run folder ``out``.

    With the setting ``data.names`` it is several datasets, each in the folder ``root``/NAME.

    ``recipe`` is one of ``reid.recipes()``. ``solver`` (a Caffe solver prototxt) overrides it,
    ``config_file`` (TOML) overrides both, ``overrides`` override all. ``start_from`` begins with
    the weights of a run folder, a checkpoint or a file of weights (the setting ``run.start_from``);
    for the first ``freeze_steps`` steps only what it does not hold learns, at the first stage's
    ``base_lr``: a stage before the others. ``resume`` continues from
    the checkpoint in ``out``. Ctrl-C saves a checkpoint and returns with ``result.interrupted``
    set.

    Raises ConfigError for an unknown recipe or setting, DataError for a missing dataset,
    OutputError, CheckpointError, TrainingError when a loss is not finite.

    >>> run = reid.train("msp_cnn_synthetic", people, folder / "again", overrides=tiny)
    >>> (run.folder / "checkpoint.pt").is_file()
    True
    >>> tuned = reid.train(
    ...     "msp_cnn_synthetic", people, folder / "tuned", start_from=run.folder,
    ...     freeze_steps=2, overrides=[*tiny, "run.new_classifier=true"]
    ... )
    >>> tuned.result.step, tuned.config.stages[0].name
    (12, 'frozen')
    """
    if not isinstance(recipe, str):
        raise InputError(f"recipe must be one of the names in reid.recipes(); found {recipe!r}")
    if not isinstance(start_from, str | os.PathLike | None):
        raise InputError(f"start_from must be a path, found {start_from!r}")
    if type(freeze_steps) is not int or freeze_steps < 0:
        raise InputError(f"freeze_steps must be a whole number, 0 or above; found {freeze_steps!r}")
    with reporting(progress) as reporter, named_packages():
        from_solver: dict[str, Mapping[str, Any]] = {}
        if solver is not None:
            module = importlib.import_module("reid.caffe.solver")
            from_solver = module.settings_from_solver_file(Path(solver), reporter.say)
        config = resolve_config(
            recipe,
            None if config_file is None else Path(config_file),
            override_lines(overrides),
            **from_solver,
        )
        config = _fine_tuned(config, start_from, freeze_steps)
        result: TrainResult = importlib.import_module(_LOOP).train(
            config, Path(root), Path(out), resume=resume, reporter=reporter
        )
    return Run(Path(out), Path(root), config, result)


def _fine_tuned(
    config: TrainConfig, start_from: str | os.PathLike[str] | None, freeze_steps: int
) -> TrainConfig:
    """The configuration with a start, and with a stage before the others that freezes it."""
    if start_from is not None:
        start = str(Path(start_from))
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, start_from=start))
    if not freeze_steps or not config.stages:
        return config
    frozen = dataclasses.replace(
        config.stages[0],
        name="frozen",
        iterations=freeze_steps,
        epochs=0.0,
        lr_policy="fixed",
        warmup_iterations=0,
        freeze_loaded=True,
    )
    return dataclasses.replace(config, stages=(frozen, *config.stages))


def override_lines(overrides: Overrides) -> list[str]:
    """``key=value`` lines, values in TOML. Raises InputError, ConfigError."""
    if isinstance(overrides, str):
        raise InputError(
            f"overrides must be a mapping or a list of lines, found the text {overrides!r}; write "
            f"[{overrides!r}]"
        )
    if isinstance(overrides, Mapping):
        return [f"{key}={_toml(value, key)}" for key, value in overrides.items()]
    return list(overrides)


def _toml(value: object, key: str) -> str:
    """A value on one line of TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(str(name))} = {_toml(one, key)}" for name, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, Sequence):
        return f"[{', '.join(_toml(one, key) for one in value)}]"
    raise ConfigError(
        f"the override {key} is a {type(value).__name__}; expected text, a number, true or false, "
        "a list or a table"
    )


def _own_options(data: DataConfig) -> str:
    """The options by which `reid eval` reads a user's own images as training did."""
    words = [word for name in data.junk for word in ("--junk", name)]
    words += [word for name in data.distractors for word in ("--distractors", name)]
    words += ["--layout", data.layout] if data.layout else []
    return f" {shlex.join(words)}" if words else ""
