"""The parts of a training run: set up, saved and restored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from reid import __version__
from reid.config.settings import StageConfig, TrainConfig
from reid.data.batch import normalised
from reid.data.loader import TrainLoader
from reid.data.readers.joint import JOINT
from reid.data.sampling.samplers import sampler_from_config
from reid.errors import CheckpointError, ConfigError, TrainingError
from reid.losses.batch import Batch
from reid.model_file.manifest import Manifest
from reid.model_file.opening import CHECKPOINT_NAME
from reid.models import network_named
from reid.models.description import Objective
from reid.training.arithmetic import Arithmetic, choose_arithmetic
from reid.training.averaging import AverageWeights
from reid.training.checkpoint import (
    Checkpoint,
    build_configured_network,
    load_weights,
    save_checkpoint,
)
from reid.training.objectives import active_losses, objective_of
from reid.training.processes import Processes
from reid.training.resume import (
    LAST_WEIGHTS,
    arithmetic_before,
    load_last_weights,
    loaded_before,
    restore_training,
)
from reid.training.schedule import stage_iterations
from reid.training.solver import Solver, solver_of
from reid.training.start import LoadedWeights, begin, file_of_start, refuse_unused
from reid.types import ImageRecord


@dataclass
class TrainingRun:
    """The parts of a run, and its position: stage, iteration in it, batches, updates."""

    config: TrainConfig
    processes: Processes
    arithmetic: Arithmetic
    network: nn.Module
    solver: Solver
    scaler: torch.amp.GradScaler
    loader: TrainLoader
    objective: Objective
    loss_names: tuple[str, ...]
    num_identities: int
    num_images: int
    loaded: LoadedWeights
    stage: int = 0
    iteration: int = 0
    batches: int = 0
    step: int = 0
    steps_lost: int = 0
    """Steps in a row, up to the last one, in which a loss was not finite."""
    losses: dict[str, float] = field(default_factory=dict)
    trained_images: dict[str, Tensor] = field(default_factory=dict)
    """The hashes that the checkpoint keeps."""
    average: AverageWeights | None = None
    """The mean of the weights, if it is what is tested."""

    @property
    def pretrained(self) -> Path | None:
        """The file that the weights began with, if any."""
        return file_of_start(self.config, self.network)

    def stage_totals(self) -> list[int]:
        """Updates of each stage."""
        iter_size = self.config.optimizer.iter_size
        per_epoch = self.loader.num_batches
        return [stage_iterations(stage, per_epoch, iter_size) for stage in self.config.stages]

    def endless_batches(self, stage: StageConfig) -> Iterator[Batch]:
        """Batches from the run's position on, epoch after epoch, at the stage's image size."""
        while True:
            epoch, start = divmod(self.batches, self.loader.num_batches)
            yield from self.loader.batches(epoch, start, stage.image_size)

    def on_device(self, batch: Batch) -> Batch:
        """The batch on the device, its images normalised and in the memory layout."""
        batch = batch.to(self.arithmetic.device)
        images = normalised(batch.images, self.config.preprocess)
        return batch._replace(images=self.arithmetic.layout(images))

    def seed_step(self) -> None:
        """Set the random state of the next update (dropout) from (seed, step, process)."""
        entropy = [self.config.run.seed, self.step, self.processes.rank]
        state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0] >> np.uint64(1)))

    def manifest(self) -> Manifest:
        """The manifest of the network being trained."""
        config = self.config
        return Manifest(
            network=config.network.name,
            stage="train",
            preprocess=config.preprocess,
            output_meaning=config.network.output_meaning,
            usual_score=config.network.usual_score,
            dataset=JOINT.join(config.data.datasets),
            num_test_identities=config.data.num_test_identities,
            split_seed=config.data.split_seed,
            toolkit_version=__version__,
        )

    def tested_weights(self) -> dict[str, Tensor]:
        """The weights that are tested and exported, on the CPU: the last ones, or their mean."""
        return _on_cpu(self.network.state_dict() if self.average is None else self.average.state)

    def close(self) -> None:
        """End the loader's workers."""
        self.loader.close()

    def _check_weights(self, folder: Path) -> None:
        for name, value in self.network.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise TrainingError(
                    f"after step {self.step} the weights of {name} are not finite. They are not "
                    f"saved: the checkpoint in {folder} is the last good one. Resume from it with "
                    "a lower rate: --resume --set stages.N.base_lr=VALUE"
                )

    def save(self, folder: Path) -> None:
        """Write the checkpoint, if this is the first process.

        Raises TrainingError for weights that are not finite, which every process finds: the
        checkpoint before stays.
        """
        self._check_weights(folder)
        if not self.processes.is_first:
            return
        training = {
            "solver": self.solver.state_dict(),
            "scaler": self.scaler.state_dict(),
            "arithmetic": dataclasses.asdict(self.arithmetic),
            "world_size": self.processes.world_size,
            "num_images": self.num_images,
            "losses": dict(self.losses),
            "loaded": sorted(self.loaded.names),
            **self.trained_images,
        }
        if self.average is not None:
            training[LAST_WEIGHTS] = _on_cpu(self.network.state_dict())
        checkpoint = Checkpoint(
            config=self.config,
            manifest=self.manifest(),
            num_identities=self.num_identities,
            model=self.tested_weights(),
            step=self.step,
            position=(self.stage, self.iteration, self.batches),
            training=training,
        )
        save_checkpoint(folder / CHECKPOINT_NAME, checkpoint)


def start_run(
    config: TrainConfig,
    records: tuple[ImageRecord, ...],
    processes: Processes,
    checkpoint: Checkpoint | None,
) -> tuple[TrainingRun, str]:
    """A run at its beginning or at ``checkpoint``, and the line about its arithmetic."""
    objective, loss_names = objective_of(config.network, config.stages)
    _check_sizes(config)
    sampler = sampler_from_config(
        records, config.sampler, config.run.seed, processes.rank, processes.world_size
    )
    num_identities = len({record.person_id for record in records})
    arithmetic, words = _arithmetic(config, num_identities, processes, checkpoint)
    torch.manual_seed(config.run.seed)
    network = build_configured_network(config, num_identities)
    if checkpoint is None:
        start = begin(config, network, num_identities)
        loaded, words = start.names, "\n".join([words, *start.words])
    else:
        if checkpoint.num_identities != num_identities:
            raise CheckpointError(
                f"the checkpoint was trained on {checkpoint.num_identities} identities, the data "
                f"has {num_identities}; resume on the same data"
            )
        load_weights(network, checkpoint, Path(CHECKPOINT_NAME))
        loaded = loaded_before(checkpoint, network)
    network = arithmetic.place(network).train()
    from_file = LoadedWeights(network, loaded)
    refuse_unused(config, from_file)
    decay = config.optimizer.average_decay
    average = AverageWeights(network, decay) if decay else None
    if checkpoint is not None and average is not None:
        load_last_weights(network, checkpoint)
    run = TrainingRun(
        config=config,
        processes=processes,
        arithmetic=arithmetic,
        network=network,
        solver=solver_of(network, config.optimizer, loaded),
        scaler=torch.amp.GradScaler(
            arithmetic.device.split(":")[0], enabled=arithmetic.precision == "fp16"
        ),
        loader=TrainLoader(
            records,
            config.preprocess,
            config.augment,
            sampler,
            config.data.num_workers,
            for_gpu=arithmetic.device.startswith("cuda"),
        ),
        objective=objective,
        loss_names=loss_names,
        num_identities=num_identities,
        num_images=len(records),
        loaded=from_file,
        average=average,
    )
    if checkpoint is not None:
        run.losses = restore_training(
            checkpoint,
            run.solver,
            run.scaler,
            world_size=processes.world_size,
            num_images=run.num_images,
        )
        run.stage, run.iteration, run.batches = checkpoint.position
        run.step = checkpoint.step
    return run, words


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def _arithmetic(
    config: TrainConfig, num_identities: int, processes: Processes, checkpoint: Checkpoint | None
) -> tuple[Arithmetic, str]:
    """At the start the first process measures for all; a resumed run keeps the arithmetic, so that
    its results do not change."""
    if checkpoint is not None and checkpoint.training:
        before = arithmetic_before(checkpoint, processes)
        if before.device == "cpu" or torch.cuda.is_available():
            return before, f"arithmetic: {before.words()} (as before the interruption)"
    arithmetic, words = processes.of_first(
        choose_arithmetic(
            config.run,
            lambda: build_configured_network(config, num_identities),
            partial(_trial_loss, config),
            config.preprocess.input_shape,
        )
    )
    return dataclasses.replace(arithmetic, device=processes.device(arithmetic.device)), words


def _trial_loss(config: TrainConfig, network: nn.Module, images: Tensor) -> Tensor:
    """The sum of the first stage's losses, each image being the first one's negative."""
    slots = torch.arange(len(images))
    batch = Batch(
        images=images,
        labels=torch.zeros_like(slots),
        cameras=torch.zeros_like(slots),
        anchors=slots,
        pair_first=slots[1:],
        pair_second=torch.zeros_like(slots[1:]),
        pair_same=torch.zeros(len(images) - 1, dtype=torch.bool),
        names=("",) * len(images),
    )
    stage = config.stages[0]
    objective, _ = objective_of(config.network, config.stages)
    losses = objective(network, batch, config.losses, active_losses(stage))
    return torch.stack([loss.float() for loss in losses.values()]).sum()


def _check_sizes(config: TrainConfig) -> None:
    """Raise ConfigError for a stage with an image size that the network cannot take."""
    preprocess = config.preprocess
    for stage in config.stages:
        size = stage.image_size or (preprocess.crop_height, preprocess.crop_width)
        problem = network_named(config.network.name).size_problem(*size)
        if problem:
            raise ConfigError(f"stage {stage.name!r}: {problem}")
