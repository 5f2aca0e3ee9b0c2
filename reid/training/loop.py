"""The training loop: from a configuration to a run folder.

    run folder: config.toml  checkpoint.pt(.json)  log.csv  events.*  curves.png

Everything random is a function of (seed, step), so a run that was killed at any moment
and resumed from its checkpoint ends with the same weights as one that was not. On CUDA this
holds with ``run.deterministic`` only (``reid.training.determinism``).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reid.config.settings import StageConfig, TrainConfig
from reid.config.toml import config_to_toml
from reid.data.readers.joint import load_training
from reid.errors import ConfigError, TrainingError, few_of, output_errors
from reid.files import write_text
from reid.locks import locked
from reid.losses.batch import Batch
from reid.progress import SILENT, Reporter
from reid.training.arithmetic import choose_device
from reid.training.curves import write_curves
from reid.training.determinism import cuda_order
from reid.training.freed_memory import keep_freed_memory
from reid.training.held_out import COLUMNS, HeldOut
from reid.training.objectives import active_losses
from reid.training.processes import (
    LeavingAfterErrors,
    is_first_process,
    joined_processes,
    keep_to_own_cores,
)
from reid.training.resume import checkpoint_to_resume
from reid.training.run import TrainingRun, start_run
from reid.training.run_log import CSV_NAME, RunLog
from reid.training.schedule import learning_rate
from reid.training.solver import limit_gradients
from reid.training.stopping import StopRequest
from reid.training.trained_images import hashes_to_keep

LOCK_NAME = ".training.lock"
"""Held by the one training that writes into a run folder."""

MIN_SCALE = 1.0
"""fp16: training stops when the scale of the loss falls below this. It begins at 65536, and each
step with gradients too large for fp16 is skipped and halves it."""

MAX_STEPS_LOST = 8
"""fp16: training stops when the loss itself is not finite in so many steps in a row. Fewer are
skipped like overflowing gradients: a lower scale or other images may mend them."""

_NAMED_IMAGES = 4


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A run's result. ``interrupted`` runs continue with ``resume``.

    ``seconds`` and ``images_per_s`` are of this process, which began after ``steps_before`` steps.
    """

    folder: Path
    step: int
    num_steps: int
    interrupted: bool
    seconds: float
    images_per_s: float
    loss: float
    steps_before: int = 0


def train(
    config: TrainConfig,
    data_root: Path,
    out: Path,
    *,
    resume: bool = False,
    reporter: Reporter = SILENT,
) -> TrainResult:
    """Train by ``config`` on the dataset below ``data_root``; write everything into ``out``.

    ``resume`` continues from the checkpoint in ``out`` (or starts, if there is none).
    Raises ConfigError, DataError, OutputError, CheckpointError, and TrainingError when a
    loss is not finite. One of several processes that have joined ends at an error instead, after
    its message, so that the others do not wait for it.
    """
    device = choose_device(config.run.device)
    if device == "cpu":
        keep_freed_memory(config.run.keep_freed_memory)
        if config.run.own_cores:
            keep_to_own_cores()
    with LeavingAfterErrors(), ExitStack() as open_things:
        if is_first_process():
            open_things.enter_context(_only_writer(out))
        open_things.enter_context(cuda_order(config, device))
        checkpoint, changes = checkpoint_to_resume(config, out, resume)
        data = load_training(config.data, data_root)
        processes = open_things.enter_context(joined_processes(device))
        held_out = HeldOut(config, data.records) if config.data.held_out_identities else None
        data = data if held_out is None else dataclasses.replace(data, records=held_out.trained)
        run, words = start_run(config, data.records, processes, checkpoint)
        open_things.callback(run.close)
        log = None
        if processes.is_first:
            for line in (data.words, words, *changes):
                reporter.say(line)
            write_text(out / "config.toml", config_to_toml(config))
            columns = (*run.loss_names, *(COLUMNS if held_out else ()))
            log = RunLog(out, columns, kept_steps=run.step)
            if log.num_damaged:
                reporter.say(f"{log.path}: {log.num_damaged:,} damaged rows are left out")
            open_things.callback(log.close)
            run.trained_images = hashes_to_keep(data, checkpoint, run.pretrained, reporter)
        if checkpoint is None:
            # What was measured at the start is kept, so that a restart goes on with the same.
            run.save(out)
        stop = open_things.enter_context(StopRequest())
        result = _train_stages(run, out, log, stop, reporter, held_out)
    if processes.is_first:
        write_curves(out / CSV_NAME, out / "curves.png")
    return result


@contextmanager
def _only_writer(out: Path) -> Iterator[None]:
    """Hold the run folder's lock; a run that is refused before its first file leaves no folder.

    Raises OutputError where another training writes into the folder.
    """
    made = not out.exists()
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with locked(out / LOCK_NAME, patience_s=0):
        try:
            yield
        finally:
            if made and [path.name for path in out.iterdir()] == [LOCK_NAME]:
                (out / LOCK_NAME).unlink()
                out.rmdir()


def _train_stages(
    run: TrainingRun,
    out: Path,
    log: RunLog | None,
    stop: StopRequest,
    reporter: Reporter,
    held_out: HeldOut | None,
) -> TrainResult:
    """Run every stage to its end or to a stop request; then write the checkpoint."""
    config, processes = run.config, run.processes
    totals = run.stage_totals()
    started = saved = logged = time.perf_counter()
    images = images_at_log = 0
    stopping, steps_before = False, run.step
    advance = reporter.begin("training", sum(totals))
    advance(run.step)
    while run.stage < len(config.stages) and not stopping:
        stage, total = config.stages[run.stage], totals[run.stage]
        run.loaded.freeze(stage.freeze_loaded)
        batches = run.endless_batches(stage)
        while run.iteration < total and not stopping:
            rate = learning_rate(stage, run.iteration, total)
            images += _update(run, stage, rate, batches)
            now = time.perf_counter()
            advance(1, _words(run, stage, images / (now - started)))
            found = _checked(run, total, held_out, reporter)
            due = found or run.step % config.run.log_every == 0 or run.step == 1
            if log is not None and due:
                speed = (images - images_at_log) / (now - logged)
                values = {"lr": rate, **run.losses, **found, "images_per_s": speed}
                log.write(run.step, stage.name, run.batches / run.loader.num_batches, values)
                logged, images_at_log = time.perf_counter(), images
            stopping = processes.any_true(stop.requested)
            if processes.first_decides(now - saved > config.run.checkpoint_every_s):
                run.save(out)
                saved = time.perf_counter()
        if run.iteration >= total:
            run.stage, run.iteration = run.stage + 1, 0
    run.save(out)
    seconds = time.perf_counter() - started
    return TrainResult(
        folder=out,
        step=run.step,
        num_steps=sum(totals),
        interrupted=run.stage < len(config.stages),
        seconds=seconds,
        images_per_s=images / seconds,
        steps_before=steps_before,
        loss=run.losses.get("loss", math.nan),
    )


def _checked(
    run: TrainingRun, total: int, held_out: HeldOut | None, reporter: Reporter
) -> dict[str, float]:
    """The figures of the held-out people, in the first process, if they are due after this step."""
    due = run.step % run.config.run.check_every == 0 or run.iteration == total
    if held_out is None or not due or not run.processes.is_first:
        return {}
    device = run.arithmetic.device.split(":")[0]
    stage = run.config.stages[run.stage]
    weights, manifest = run.tested_weights(), run.manifest()
    found = held_out.figures(weights, manifest, run.num_identities, device, stage)
    rank1, mean = (100 * found[name] for name in COLUMNS)
    reporter.say(f"step {run.step}: held-out people, rank-1 {rank1:.1f} %, mAP {mean:.1f} %")
    return found


def _update(run: TrainingRun, stage: StageConfig, rate: float, batches: Iterator[Batch]) -> int:
    """One step of the solver over ``iter_size`` passes; return the images seen by all."""
    iter_size = run.config.optimizer.iter_size
    run.seed_step()
    run.solver.set_rate(rate)
    run.solver.zero_grad(set_to_none=True)
    passes: list[tuple[Batch, dict[str, Tensor]]] = []
    # A forward pass that overflows in fp16 spoils them, though its step is skipped.
    statistics = [b.clone() for b in run.network.buffers()] if run.scaler.is_enabled() else []
    for _ in range(iter_size):
        batch = run.on_device(next(batches))
        with run.arithmetic.autocast():
            losses = run.objective(run.network, batch, run.config.losses, active_losses(stage))
        losses = {name: loss.float() for name, loss in losses.items()}
        losses["loss"] = torch.stack([w * losses[n] for n, w in _weights(stage)]).sum()
        _refuse_frozen_loss(stage, losses["loss"])
        torch.autograd.backward(run.scaler.scale(losses["loss"] / iter_size))
        passes.append((batch, {name: loss.detach() for name, loss in losses.items()}))
        run.batches += 1
    if _losses_are_finite(run, stage, passes):
        # Averaged before the scale is removed, so that all processes see an overflow in one of them
        # and all skip this step.
        run.processes.average_gradients(run.network)
        run.scaler.unscale_(run.solver)
        limit_gradients(run.solver, run.config.optimizer)
        run.scaler.step(run.solver)
        run.scaler.update()
        run.processes.average_statistics(run.network)
        if run.average is not None:
            run.average.update(run.network, run.step)
    else:
        run.scaler.update(run.scaler.get_scale() * run.scaler.get_backoff_factor())
        for buffer, before in zip(run.network.buffers(), statistics, strict=True):
            buffer.copy_(before)
    run.iteration += 1
    run.step += 1
    return sum(len(batch.images) for batch, _ in passes) * run.processes.world_size


def _losses_are_finite(
    run: TrainingRun, stage: StageConfig, passes: list[tuple[Batch, dict[str, Tensor]]]
) -> bool:
    """Read the step's losses, in one copy from the device, into ``run.losses``.

    Returns whether the step can be taken: False, in all processes, if a loss of one of them is not
    finite and fp16 may be the reason. Raises TrainingError, in all processes, if it is not.
    """
    names = list(passes[0][1])
    table = torch.stack([torch.stack([found[name] for name in names]) for _, found in passes])
    values = [dict(zip(names, row, strict=True)) for row in table.tolist()]
    run.losses = dict.fromkeys(names, 0.0)
    for row in values:
        run.losses = {name: run.losses[name] + row[name] / len(values) for name in names}
    bad = [index for index, row in enumerate(values) if not math.isfinite(row["loss"])]
    finite = not run.processes.any_true(bool(bad))
    run.steps_lost = 0 if finite else run.steps_lost + 1
    scaled = run.scaler.is_enabled()
    if scaled and run.scaler.get_scale() < MIN_SCALE:
        raise _scale_too_small(run, stage)
    if finite or (scaled and run.steps_lost < MAX_STEPS_LOST):
        return finite
    own = _not_finite(run, stage, values[bad[0]], passes[bad[0]][0]) if bad else ""
    # All say the same: whichever ends first, torchrun may kill the others before they say anything.
    raise TrainingError(run.processes.first_text(own))


def _refuse_frozen_loss(stage: StageConfig, loss: Tensor) -> None:
    """Raise ConfigError where no weight that may change has a part in the loss."""
    if stage.freeze_loaded and not loss.requires_grad:
        raise ConfigError(
            f"stage {stage.name!r}: freeze_loaded leaves nothing that its losses could train "
            f"({', '.join(active_losses(stage))}); give a loss of the new weights, such as the "
            "classifier's, a weight above 0, or leave freeze_loaded out"
        )


def _weights(stage: StageConfig) -> list[tuple[str, float]]:
    return [(name, stage.loss_weights[name]) for name in active_losses(stage)]


def _not_finite(
    run: TrainingRun, stage: StageConfig, values: dict[str, float], batch: Batch
) -> str:
    """The message about a loss that is NaN or infinite: the step, the losses, the images."""
    shown = ", ".join(f"{name}={value:g}" for name, value in values.items())
    broken = [
        name
        for name, image in zip(batch.names, batch.images, strict=True)
        if not bool(torch.isfinite(image).all())
    ]
    named = broken or list(batch.names)
    return (
        f"the loss of step {run.step + 1} (stage {stage.name}) is not finite: {shown}; images: "
        f"{few_of(named, _NAMED_IMAGES)}. The last checkpoint is kept; lower base_lr "
        "or check these images, and resume"
    )


def _scale_too_small(run: TrainingRun, stage: StageConfig) -> TrainingError:
    return TrainingError(
        f"the gradients of step {run.step} (stage {stage.name}) do not fit into fp16, even times "
        f"{run.scaler.get_scale():g}, where {MIN_SCALE:g} is the least. The last checkpoint is "
        "kept; lower base_lr and resume, or train with run.precision bf16 or fp32"
    )


def _words(run: TrainingRun, stage: StageConfig, images_per_s: float) -> str:
    loss = run.losses.get("loss", math.nan)
    return f"{stage.name} loss {loss:.3f}, {images_per_s:.1f} images/s"
