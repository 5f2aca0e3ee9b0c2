"""Checkpoints: everything needed to resume or test; loaded without running code.

A checkpoint is one file, written to a temporary name and renamed, with its manifest
inside and a copy beside it (``checkpoint.pt.json``).
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid.config.settings import TrainConfig
from reid.config.toml import config_from_toml, config_to_toml
from reid.data.content import HASH_BYTES, TrainedImages
from reid.errors import CheckpointError, ConfigError, ManifestError
from reid.files import write_atomically
from reid.model_file.manifest import Manifest, write_manifest
from reid.model_file.opening import ModelFile, Openable
from reid.models import build_network, graphs_of
from reid.runtime.torch_runner import TorchRunner
from reid.training.torch_files import load_without_code, misfit

FORMAT = "reid-toolkit checkpoint 1"

IMAGES, PEOPLE = "image_hashes", "people_hashes"
"""What the training state calls the hashes of ``TrainedImages``: (N, HASH_BYTES) uint8 each."""

MOST_IDENTITIES = 1_000_000
"""The largest accepted classifier, checked before its memory is allocated."""

DAMAGE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
"""What values of another type or size raise when a checkpoint is used."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A point of a training run.

    ``step`` counts updates over all stages; ``position`` is (stage, iteration in it, batches
    consumed); ``training`` is the solver's state, empty in a file for testing only.
    """

    config: TrainConfig
    manifest: Manifest
    num_identities: int
    model: dict[str, Tensor]
    step: int = 0
    position: tuple[int, int, int] = (0, 0, 0)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def trained_images(self) -> TrainedImages | None:
        """Hashes of the images it was trained on; None in an older file, or one without training.

        Raises CheckpointError for a damaged training state.
        """
        if IMAGES not in self.training:
            return None
        try:
            return TrainedImages(*(_hashes(name, self.training[name]) for name in (IMAGES, PEOPLE)))
        except DAMAGE as error:
            raise CheckpointError(
                f"the hashes of training images in the checkpoint are damaged: {one_line(error)}"
            ) from None


def _hashes(name: str, rows: Any) -> frozenset[bytes]:
    """The rows of a tensor from a file. Raises ValueError unless they are (N, HASH_BYTES) bytes."""
    size = (len(rows) if isinstance(rows, Tensor) and rows.dim() else 0, HASH_BYTES)
    if problem := misfit(name, torch.empty(size, dtype=torch.uint8, device="meta"), rows):
        raise ValueError(problem)
    content = rows.contiguous().numpy().tobytes()
    return frozenset(content[i : i + HASH_BYTES] for i in range(0, len(content), HASH_BYTES))


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write atomically, the manifest beside it. Raises OutputError."""
    body = {
        "format": FORMAT,
        "config": config_to_toml(checkpoint.config),
        "manifest": checkpoint.manifest.to_json(),
        "num_identities": checkpoint.num_identities,
        "model": checkpoint.model,
        "step": checkpoint.step,
        "position": list(checkpoint.position),
        "training": checkpoint.training,
    }
    # Through memory: PyTorch's own writer hides the reason when the disk is full.
    buffer = io.BytesIO()
    torch.save(body, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))
    write_manifest(path, checkpoint.manifest)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint on the CPU, rejecting anything that would run code.

    Raises CheckpointError for a missing, damaged or foreign file.
    """
    body = load_without_code(
        path,
        "checkpoint",
        absent="train first, or name its folder",
        refused="only files written by `reid train` are loaded",
    )
    return checkpoint_from_body(body, path)


def checkpoint_from_body(body: Any, path: Path) -> Checkpoint:
    """The checkpoint that was read from ``path``. Raises CheckpointError."""
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of this toolkit (expected format: {FORMAT})"
        )
    try:
        stage, iteration, batches = (int(number) for number in body["position"])
        step, num_identities = int(body["step"]), int(body["num_identities"])
        if not 1 <= num_identities <= MOST_IDENTITIES:
            raise ValueError(f"{num_identities} identities")
        if min(stage, iteration, batches, step) < 0:
            raise ValueError("a position below 0")
        return Checkpoint(
            config=config_from_toml(body["config"], f"the configuration in {path}"),
            manifest=Manifest.from_json(body["manifest"], f"the manifest in {path}"),
            num_identities=num_identities,
            model=dict(body["model"]),
            step=step,
            position=(stage, iteration, batches),
            training=dict(body["training"]),
        )
    except (*DAMAGE, ConfigError, ManifestError) as error:
        raise CheckpointError(f"{path} is damaged: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """The first line of an error's message, or its class name if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def build_configured_network(config: TrainConfig, num_identities: int) -> nn.Module:
    """The configuration's network, newly initialised."""
    return build_network(num_identities, config.network)


def load_weights(network: nn.Module, checkpoint: Checkpoint, where: Path) -> None:
    """Load a checkpoint's weights into ``network``; every key and shape must match.

    Raises CheckpointError with the first few that do not.
    """
    _refuse_misfits(network, checkpoint, where)
    network.load_state_dict(checkpoint.model)


def _refuse_misfits(network: nn.Module, checkpoint: Checkpoint, where: Path) -> None:
    own = network.state_dict()
    problems = [f"missing {key}" for key in own if key not in checkpoint.model]
    problems += [f"unexpected {key}" for key in checkpoint.model if key not in own]
    problems += [
        problem
        for key, value in checkpoint.model.items()
        if key in own and (problem := misfit(key, own[key], value))
    ]
    if problems:
        shown = "; ".join(problems[:4]) + ("; ..." if len(problems) > 4 else "")
        raise CheckpointError(
            f"{where} does not fit the network {checkpoint.config.network.name}: {shown}"
        )


def network_of(file: ModelFile) -> nn.Module:
    """The trained network of a checkpoint, in evaluation mode, on the CPU.

    Raises CheckpointError.
    """
    checkpoint, path = file.checkpoint, file.path
    try:
        # Sizes from the file are compared before any memory is allocated for them.
        with torch.device("meta"):
            sizes = build_configured_network(checkpoint.config, checkpoint.num_identities)
        _refuse_misfits(sizes, checkpoint, path)
        network = build_configured_network(checkpoint.config, checkpoint.num_identities)
    except (ConfigError, *DAMAGE) as error:
        raise CheckpointError(f"{path}: {one_line(error)}") from None
    if checkpoint.manifest.network != checkpoint.config.network.name:
        raise CheckpointError(
            f"{path} is damaged: its configuration is of {checkpoint.config.network.name}, its "
            f"manifest of {checkpoint.manifest.network}; copy it again"
        )
    load_weights(network, checkpoint, path)
    return network.eval()


def runners_from_checkpoint(
    path: Openable, device: str = "auto", threads: int = 0
) -> dict[str, TorchRunner]:
    """Open a checkpoint for testing: graph's name -> runner, as for its exported files."""
    file = ModelFile.at(path)
    network = network_of(file)
    manifest = dataclasses.replace(file.checkpoint.manifest, checkpoint_sha256=file.sha256)
    return runners_of_network(network, manifest, device, threads)


def runners_of_network(
    network: nn.Module, manifest: Manifest, device: str = "auto", threads: int = 0
) -> dict[str, TorchRunner]:
    """A network's graphs for testing, of which ``manifest`` is the common part."""
    graphs = graphs_of(
        network, manifest.network, manifest.preprocess.input_shape, manifest.normalised
    )
    return {
        graph.name: TorchRunner(
            graph.module,
            manifest.of_graph(graph.name, graph.inputs, graph.outputs),
            device,
            threads,
        )
        for graph in graphs
    }


def runner_from_checkpoint(path: Openable, device: str = "auto", threads: int = 0) -> TorchRunner:
    """The first graph of a checkpoint, the only one of a vector network."""
    return next(iter(runners_from_checkpoint(path, device, threads).values()))
