"""A model file, opened once: its path, hash, manifest, and network on demand."""

from __future__ import annotations

import dataclasses
import importlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from reid.errors import ManifestError, ModelFileError
from reid.model_file.manifest import Manifest, manifest_path, read_manifest
from reid.model_file.parts import IR_SUFFIX, sha256_of_model
from reid.model_file.thresholds import Thresholds

if TYPE_CHECKING:
    from torch import nn

    from reid.training.checkpoint import Checkpoint

CHECKPOINT_NAME = "checkpoint.pt"
"""The checkpoint in a run folder."""

CHECKPOINT_SUFFIX = ".pt"
SUFFIXES = (CHECKPOINT_SUFFIX, ".onnx", IR_SUFFIX, ".engine", ".plan")
"""Suffixes of model files that can be opened and run."""

_CHECKPOINTS = "reid.training.checkpoint"
"""The module that reads checkpoints, imported on first use: an edge device has no torch."""

PARTNERS = {"describe": "compare", "compare": "describe"}
"""The two graphs of a network that compares pairs; each is in its own file."""


class ModelFile:
    """One model file. Every attribute is read once, on first use.

    >>> file = ModelFile.at("runs/market")            # doctest: +SKIP
    >>> file.path.name, file.manifest.network         # doctest: +SKIP
    ('checkpoint.pt', 'msp_cnn')
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def at(cls, path: Openable) -> ModelFile:
        """The file at ``path``, or the checkpoint if ``path`` is a run folder.

        Raises ModelFileError if there is no such file.
        """
        if isinstance(path, ModelFile):
            return path
        path = Path(path)
        file = path / CHECKPOINT_NAME if path.is_dir() else path
        if not file.is_file():
            what = f"no {CHECKPOINT_NAME} in the folder" if path.is_dir() else "no such file"
            raise ModelFileError(
                f"{path}: {what}; expected a run folder, or a file "
                f"that ends in {', '.join(SUFFIXES)}"
            )
        return cls(file)

    def __repr__(self) -> str:
        return f"ModelFile({str(self.path)!r})"

    @property
    def suffix(self) -> str:
        """``.pt``, ``.onnx``, ``.xml``, ``.engine`` or ``.plan``, in lower case."""
        return self.path.suffix.lower()

    @property
    def is_checkpoint(self) -> bool:
        """Whether the file is a PyTorch checkpoint."""
        return self.suffix == CHECKPOINT_SUFFIX

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the file, as ``sha256_of_model``."""
        return sha256_of_model(self.path)

    def identified(self, manifest: Manifest) -> Manifest:
        """This file's manifest, with the file's hash if no hash says which model it is.

        So two files whose manifests were written by hand are two models. Raises ModelFileError.
        """
        if manifest.model_sha256:
            return manifest
        try:
            return dataclasses.replace(manifest, file_sha256=self.sha256)
        except OSError as error:
            raise ModelFileError(
                f"{self.path} cannot be read: {error.strerror or error}"
            ) from error

    def hashes(self) -> dict[str, str]:
        """File name -> SHA-256: of this file, and of the other graph of a network of pairs."""
        found = {self.path.name: self.sha256}
        for stage, wanted in PARTNERS.items():
            name = self.path.name.replace(f".{stage}.", f".{wanted}.")
            if name not in found and self.path.with_name(name).is_file():
                found[name] = sha256_of_model(self.path.with_name(name))
        return found

    @cached_property
    def has_manifest_beside(self) -> bool:
        """Whether there is a manifest beside the file."""
        return manifest_path(self.path).is_file()

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest beside the file, with the hash checked. Raises ManifestError."""
        return read_manifest(self.path)

    @cached_property
    def unchecked_manifest(self) -> Manifest:
        """The manifest beside the file, without checking the hash. Raises ManifestError."""
        return read_manifest(self.path, check_hash=False)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint's contents, on the CPU. Raises CheckpointError.

        Thresholds are in the manifest beside it alone: they are measured after it is written.
        """
        checkpoint: Checkpoint = importlib.import_module(_CHECKPOINTS).load_checkpoint(self.path)
        thresholds = self._thresholds_beside
        if thresholds is None:
            return checkpoint
        manifest = dataclasses.replace(checkpoint.manifest, thresholds=thresholds)
        return dataclasses.replace(checkpoint, manifest=manifest)

    @property
    def _thresholds_beside(self) -> Thresholds | None:
        """None if there are none for this file: a process may have been killed between two
        renames, and training writes the manifest anew."""
        try:
            return self.manifest.thresholds if self.unchecked_manifest.thresholds else None
        except ManifestError:
            return None

    def network(self) -> nn.Module:
        """A checkpoint's network in evaluation mode, on the CPU; each call builds a new one.

        Raises CheckpointError.
        """
        network: nn.Module = importlib.import_module(_CHECKPOINTS).network_of(self)
        return network

    def partner(self, graph: str) -> Path | None:
        """The path of the other graph of a network that compares pairs, from this file's name.

        ``graph`` is this file's. None if it has no partner. Raises ModelFileError if the
        file name does not contain the graph's name.
        """
        if graph not in PARTNERS:
            return None
        wanted = PARTNERS[graph]
        other = self.path.with_name(self.path.name.replace(f".{graph}.", f".{wanted}."))
        if other == self.path:
            raise ModelFileError(
                f"{self.path} is the {graph!r} graph of a network that compares pairs; expected "
                f".{graph}. in its name, to find the {wanted!r} graph; keep the names that "
                "`reid export` gave"
            )
        return other


Openable = str | Path | ModelFile
"""A model, given by its path or already opened."""
