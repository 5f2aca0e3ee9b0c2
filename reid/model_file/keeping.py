"""Keeping measured thresholds in the manifest beside a model file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from reid.errors import ModelFileError
from reid.model_file.manifest import Manifest, manifest_path, write_manifest
from reid.model_file.opening import ModelFile
from reid.model_file.parts import sha256_of_model
from reid.model_file.thresholds import Thresholds


def keep_thresholds(file: ModelFile, manifest: Manifest, thresholds: Thresholds) -> list[Path]:
    """Write the thresholds into the manifest beside the file; returns the manifests written.

    ``manifest`` is the open file's, for a file that has its own only inside. Both files of a
    network that compares pairs get them. The model file itself does not change. Raises
    ModelFileError if it did since it was opened, ManifestError, OutputError.
    """
    if sha256_of_model(file.path) != file.sha256:
        raise ModelFileError(
            f"{file.path} was written again while its distances were measured; measure it again"
        )
    written = []
    for one, own in _files(file, manifest):
        write_manifest(one.path, dataclasses.replace(own, thresholds=thresholds))
        written.append(manifest_path(one.path))
    return written


def _files(file: ModelFile, manifest: Manifest) -> list[tuple[ModelFile, Manifest]]:
    """The file, and the other file of a network that compares pairs, each with its manifest."""
    if file.is_checkpoint:
        return [(file, file.manifest if file.has_manifest_beside else file.checkpoint.manifest)]
    own = ModelFile(file.path)  # a manifest may have been written since
    if not own.has_manifest_beside:
        return [(own, manifest)]
    other = own.partner(own.manifest.stage)
    both = [own] if other is None or not other.is_file() else [own, ModelFile(other)]
    return [(one, one.manifest) for one in both if one.has_manifest_beside]
