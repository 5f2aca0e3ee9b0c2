"""Opening a model file and running arrays through it.

A Runner takes named float32 arrays and returns named float32 arrays; PyTorch, ONNX
Runtime, OpenVINO and TensorRT are the same to everything above. A runner never builds,
converts or preprocesses.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from reid.closing import Closeable
from reid.errors import ModelFileError, ReidError
from reid.model_file.manifest import Manifest
from reid.model_file.opening import PARTNERS, ModelFile, Openable
from reid.runtime.places import openvino_place
from reid.types import FloatArray

OPENVINO_RUNNER = "reid.runtime.openvino_runner:OpenVinoRunner"

OPENVINO_SUFFIXES = (".onnx", ".xml")
"""What OpenVINO can open."""

OPENERS = {
    ".onnx": "reid.runtime.onnx_runner:OnnxRunner",
    ".xml": OPENVINO_RUNNER,
    ".engine": "reid.runtime.tensorrt_runner:TensorRtRunner",
    ".plan": "reid.runtime.tensorrt_runner:TensorRtRunner",
    ".pt": "reid.training.checkpoint:runner_from_checkpoint",
}
"""File suffix -> import string of its runner, imported on use: an edge device has no torch."""


class Runner(Closeable, Protocol):
    """An open model file; a context manager that closes it."""

    manifest: Manifest
    backend: str
    """The backend with its version and device, for reports."""
    on_gpu: bool = False
    cuts_batches: bool = False
    """Whether a batch is computed in parts, so that a large one takes little memory."""
    takes_half: bool = False
    """Whether inputs may be float16 too."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Named float32 arrays in, named float32 arrays out; any batch size.

        Raises ModelFileError for a wrong name or shape.
        """
        ...

    def use_cuda_graphs(self, wanted: bool = True) -> bool:
        """Turn CUDA graphs on or off; returns whether they are on.

        Only an engine on a GPU has them; the outputs are the same.
        """
        return False

    def decide(self, inputs: Mapping[str, FloatArray]) -> None:
        """Choose now, on these inputs, among backends that can run the file; most have one.

        Without this call a choice is made once it is worth its time.
        """
        return

    def close(self) -> None:
        """Release the device and the file; may be called twice."""
        ...


def open_runner(
    path: Openable,
    device: str = "auto",
    threads: int = 0,
    *,
    cuda_graphs: bool = False,
    steady: bool = False,
) -> Runner:
    """Open a run folder, checkpoint, ``.onnx``, ``.xml``, ``.engine`` or ``.plan``.

    ``device`` is ``auto``, ``cpu``, ``cuda``, or for an ``.onnx`` or ``.xml`` ``openvino`` (its
    CPU), ``openvino:GPU`` or another OpenVINO device, with ``:bf16`` behind it for bfloat16. With
    ``auto`` an ``.onnx`` on a CPU goes to OpenVINO once that is measured to be faster (see
    ``fastest_runner``), but not with ``steady``: one backend from the first image to the last.
    ``threads`` 0 leaves the count to the backend; ``cuda_graphs`` turns them on if the backend has
    them. Raises ModelFileError, ManifestError, CheckpointError,
    MissingPackageError.
    """
    file = ModelFile.at(path)
    opener = OPENERS.get(file.suffix)
    if opener is None:
        raise ModelFileError(
            f"{file.path}: the suffix {file.path.suffix!r} is not one of {', '.join(OPENERS)}"
        )
    is_onnx = file.suffix == ".onnx"
    if is_onnx and openvino_place(device):
        opener = OPENVINO_RUNNER
    runner: Runner = _loaded(opener)(file, device, threads)
    # The comparison of pairs stays: by tiles ONNX Runtime is the faster one there.
    may_change = is_onnx and device == "auto" and not steady and not runner.cuts_batches
    if may_change and not runner.on_gpu and _has_openvino():
        runner = _loaded("reid.runtime.fastest_runner:FastestRunner")(runner, file, threads)
    if cuda_graphs:
        runner.use_cuda_graphs()
    return runner


def _loaded(opener: str) -> Callable[..., Any]:
    module, _, name = opener.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _has_openvino() -> bool:
    """Whether it is installed, without importing it."""
    return importlib.util.find_spec("openvino") is not None


def open_runners(
    path: Openable,
    device: str = "auto",
    threads: int = 0,
    *,
    cuda_graphs: bool = False,
    steady: bool = False,
) -> dict[str, Runner]:
    """The runners needed for matching with a model: graph's name -> runner.

    A vector network has one. A network that scores pairs has ``describe`` and ``compare``,
    whichever file is named (a checkpoint also has ``pair``); a file of ``pair`` has only that.
    Raises what ``open_runner`` raises, and ModelFileError for two files of different exports.
    """
    file = ModelFile.at(path)
    if file.is_checkpoint:
        module = importlib.import_module("reid.training.checkpoint")
        return dict(module.runners_from_checkpoint(file, device, threads))
    runner = open_runner(file, device, threads, cuda_graphs=cuda_graphs, steady=steady)
    graph = runner.manifest.stage
    try:
        other = file.partner(graph)
        if other is None:
            return {graph: runner}
        partner = _partner(file.path, other, runner.manifest, device, threads, steady)
        if cuda_graphs:
            partner.use_cuda_graphs()
        return {graph: runner, PARTNERS[graph]: partner}
    except ReidError:
        runner.close()
        raise


def _partner(
    file: Path, other: Path, manifest: Manifest, device: str, threads: int, steady: bool
) -> Runner:
    """The other of the two files of a network that scores pairs; both must have the same type."""
    wanted = PARTNERS[manifest.stage]
    if not other.is_file():
        raise ModelFileError(
            f"{file} is the {manifest.stage!r} graph of a network that scores pairs, and the file "
            f"of its {wanted!r} graph, {other.name}, is missing; keep both in one folder, under "
            "the names given by `reid export`"
        )
    runner = open_runner(other, device, threads, steady=steady)
    found = runner.manifest
    if found.stage != wanted:
        problem = f"has the graph {found.stage!r}, expected {wanted!r}"
    elif found.checkpoint_sha256 != manifest.checkpoint_sha256:
        problem = f"comes from another checkpoint than {file.name}"
    elif found.precision != manifest.precision:
        problem = f"is {found.precision}, {file.name} is {manifest.precision}"
    else:
        return runner
    runner.close()
    raise ModelFileError(f"{other.name} {problem}; export both again from one run")
