"""A file of a model, opened once: where it is, its hash, its manifest, its network on demand."""

from __future__ import annotations

import importlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from reid.errors import ModelFileError
from reid.files import sha256_of_file
from reid.model_file.manifest import Manifest, manifest_path, read_manifest

if TYPE_CHECKING:
    from torch import nn

    from reid.training.checkpoint import Checkpoint

CHECKPOINT_NAME = "checkpoint.pt"
"""The file that stands for a run folder."""

CHECKPOINT_SUFFIX = ".pt"
SUFFIXES = (CHECKPOINT_SUFFIX, ".onnx", ".engine", ".plan")
"""Files that can be opened and run."""

_CHECKPOINTS = "reid.training.checkpoint"
"""What reads checkpoints, loaded on use: a machine beside a camera has no torch."""

PARTNERS = {"describe": "compare", "compare": "describe"}
"""The two graphs of a network that compares pairs, each in a file of its own."""


class ModelFile:
    """One file of a model. Every attribute is read once, when it is first asked for.

    >>> file = ModelFile.at("runs/market")            # doctest: +SKIP
    >>> file.path.name, file.manifest.network         # doctest: +SKIP
    ('checkpoint.pt', 'msp_cnn')
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def at(cls, path: Openable) -> ModelFile:
        """The file meant by ``path``: itself, or the checkpoint of a run folder.

        Raises ModelFileError where there is none.
        """
        if isinstance(path, ModelFile):
            return path
        path = Path(path)
        file = path / CHECKPOINT_NAME if path.is_dir() else path
        if not file.is_file():
            what = f"no {CHECKPOINT_NAME} in the folder" if path.is_dir() else "no such file"
            raise ModelFileError(
                f"{path}: {what}; expected a run folder, a .pt checkpoint, an .onnx or an .engine"
            )
        return cls(file)

    def __repr__(self) -> str:
        return f"ModelFile({str(self.path)!r})"

    @property
    def suffix(self) -> str:
        """``.pt``, ``.onnx``, ``.engine`` or ``.plan``, in lower case."""
        return self.path.suffix.lower()

    @property
    def is_checkpoint(self) -> bool:
        """Whether PyTorch opens it."""
        return self.suffix == CHECKPOINT_SUFFIX

    @cached_property
    def sha256(self) -> str:
        """The hash of its bytes."""
        return sha256_of_file(self.path)

    @cached_property
    def has_manifest_beside(self) -> bool:
        """Whether a manifest lies beside the file."""
        return manifest_path(self.path).is_file()

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest beside the file, checked to be this file's. Raises ManifestError."""
        return read_manifest(self.path)

    @cached_property
    def unchecked_manifest(self) -> Manifest:
        """The manifest beside the file, whatever the file holds. Raises ManifestError."""
        return read_manifest(self.path, check_hash=False)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """What a checkpoint holds, on the CPU. Raises CheckpointError."""
        checkpoint: Checkpoint = importlib.import_module(_CHECKPOINTS).load_checkpoint(self.path)
        return checkpoint

    def network(self) -> nn.Module:
        """A checkpoint's network in evaluation mode, on the CPU; built anew at each call.

        Raises CheckpointError.
        """
        network: nn.Module = importlib.import_module(_CHECKPOINTS).network_of(self)
        return network

    def partner(self, graph: str) -> Path | None:
        """Where the other graph of a network that compares pairs lies, by its name.

        ``graph`` is this file's. None where a graph has no partner. Raises ModelFileError
        for a name without the graph in it.
        """
        if graph not in PARTNERS:
            return None
        wanted = PARTNERS[graph]
        other = self.path.with_name(self.path.name.replace(f".{graph}.", f".{wanted}."))
        if other == self.path:
            raise ModelFileError(
                f"{self.path} is the {graph!r} graph of a network that compares pairs, and its "
                f"name does not say so (expected .{graph}. in it): the {wanted!r} graph cannot be "
                "found; keep the names that `reid export` gave"
            )
        return other


Openable = str | Path | ModelFile
"""What names a model wherever one is asked for."""
