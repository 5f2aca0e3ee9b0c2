"""Run an exported ONNX file with ONNX Runtime, on the CPU or a CUDA device. No torch."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import ManifestError, ModelFileError
from reid.model_file.manifest import METADATA_KEY, Manifest, manifest_path
from reid.model_file.onnx_seal import SEALED_KEY, damaged, has_intact_seal
from reid.model_file.opening import ModelFile, Openable
from reid.packages import missing
from reid.runtime import Runner
from reid.runtime.inputs import (
    batch_size,
    batches_of,
    check_device,
    checked_inputs,
    empty_outputs,
    padded_inputs,
)
from reid.runtime.tiles import Tiles, compares_one_with_many
from reid.types import ArraySpec, FloatArray

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as _state
except ImportError as error:
    raise missing("onnxruntime", "an .onnx file", "edge") from error

_ERROR_NAMES = (
    "EngineError",
    "EPFail",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "ModelLoadCanceled",
    "ModelRequiresCompilation",
    "NoModel",
    "NoSuchFile",
    "NotFound",
    "NotImplemented",
    "RuntimeException",
)
ORT_ERRORS: tuple[type[Exception], ...] = tuple(
    getattr(_state, name) for name in _ERROR_NAMES if hasattr(_state, name)
)
"""ONNX Runtime's own exceptions: they have no common parent, and some are new in later releases."""

SIZES_ON_GPU = (1, 2, 4, 8, 16, 32)
"""Batch sizes on CUDA, up to the last one: ONNX Runtime and cuDNN prepare anew for each size that
they have not seen, and the number of people changes from frame to frame."""

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_LOG_ERRORS_ONLY = 3


class OnnxRunner(Runner):
    """An ``.onnx`` file of this toolkit, open. Use as a context manager.

    The manifest is the ``.json`` beside the file, whose hash must be the file's, or the
    one inside the file, which then must have the hash that it ends with (files of earlier
    versions have none). ``device`` is ``auto`` (CUDA if this ONNX Runtime has it), ``cpu``
    or ``cuda``; ``threads`` 0 leaves the count to ONNX Runtime. Raises ModelFileError for
    a file or device that cannot be used, ManifestError for one whose manifest is missing
    or of another file.
    """

    def __init__(self, file: Openable, device: str = "auto", threads: int = 0) -> None:
        file = ModelFile.at(file)
        path = file.path
        beside = file.manifest if file.has_manifest_beside else None
        checked = bool(beside and beside.file_sha256) or _has_intact_seal(path)
        self._session: Any = open_session(path, device, threads)
        if not checked:
            _require_no_lost_seal(self._session, path)
        found = beside or _manifest_inside(self._session, path)
        self.manifest: Manifest = file.identified(found)
        _check_graph(self._session, self.manifest, path)
        provider = self._session.get_providers()[0]
        if device == "cuda" and provider != _CUDA:
            raise ModelFileError(
                f"{path}: device is cuda, but ONNX Runtime could not start {_CUDA}; "
                "check the driver, CUDA and cuDNN, or use device cpu"
            )
        self.on_gpu = provider == _CUDA
        self.backend: str = f"onnxruntime {onnxruntime.__version__} {provider}"
        if self.manifest.static_batch:
            self.backend += f", {self.manifest.static_batch} image(s) at a time"
        self._path = path
        self._tiles: Tiles | None = None
        if not self.on_gpu and compares_one_with_many(self.manifest):
            self._session = open_session(path, device, 1)
            self._tiles = Tiles(self._run, self.manifest, threads)
            self.cuts_batches = self.takes_half = True

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Named float32 arrays in, named float32 arrays out, such as {"data": (N, 3, H, W)}.

        A graph that compares one query with many images takes float16 too, on a CPU.
        Raises ModelFileError for a wrong name, type or shape, or after ``close``.
        """
        if self._session is None:
            raise ModelFileError(f"{self._path}: the runner is closed; open the file again")
        arrays = checked_inputs(inputs, self.manifest, half=self.takes_half)
        count = batch_size(arrays, self.manifest)
        if not count:
            return empty_outputs(self.manifest)
        if size := self.manifest.static_batch:
            parts = batches_of(arrays, self.manifest, size)
            outputs = [np.concatenate(rows) for rows in zip(*map(self._run, parts), strict=True)]
        elif self._tiles is not None:
            outputs = self._tiles.run(arrays)
        elif self.on_gpu:
            outputs = self._run(padded_inputs(arrays, self.manifest, SIZES_ON_GPU))
        else:
            outputs = self._run(arrays)
        return {
            spec.name: output[:count] if spec.batched else output
            for spec, output in zip(self.manifest.output_arrays, outputs, strict=True)
        }

    def _run(self, arrays: Mapping[str, FloatArray]) -> list[FloatArray]:
        """The manifest's outputs, in order; the graph may have others. Raises ModelFileError."""
        names = [spec.name for spec in self.manifest.output_arrays]
        try:
            found: list[FloatArray] = self._session.run(names, dict(arrays))
        except ORT_ERRORS as error:
            raise ModelFileError(f"{self._path}: {_first_line(error)}") from error
        return found

    def close(self) -> None:
        """Release the session; may be called twice."""
        if self._tiles is not None:
            self._tiles.close()
        self._session = None


def open_session(path: Path, device: str, threads: int) -> Any:
    """ONNX Runtime's session of any ONNX file. Raises ModelFileError."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.intra_op_num_threads = threads
    providers = _providers(device)
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except ORT_ERRORS as error:
        raise ModelFileError(
            f"{path} is not an ONNX file that ONNX Runtime {onnxruntime.__version__} can open "
            f"({_first_line(error)}); export the model again"
        ) from error


def _providers(device: str) -> list[Any]:
    """CUDA with full float32 products: TF32's 10 bits are less than parity needs.

    cuDNN is asked for its algorithms instead of timing all of them, which takes longer than
    hundreds of batches and happens for each batch size.
    """
    check_device(device)
    if device == "cpu":
        return [_CPU]
    if _CUDA not in onnxruntime.get_available_providers():
        if device == "cuda":
            raise ModelFileError(
                f"ONNX Runtime {onnxruntime.__version__} here has no CUDA; install "
                "onnxruntime-gpu instead of onnxruntime, or use device cpu"
            )
        return [_CPU]
    if hasattr(onnxruntime, "preload_dlls"):  # CUDA's libraries from wheels, since 1.21
        with contextlib.redirect_stdout(sys.stderr):
            onnxruntime.preload_dlls()
    return [(_CUDA, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}), _CPU]


def _has_intact_seal(path: Path) -> bool:
    """As ``has_intact_seal``. Raises ModelFileError."""
    try:
        return has_intact_seal(path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error


def _require_no_lost_seal(session: Any, path: Path) -> None:
    """Raise ModelFileError for a file that says that it ends with its hash and does not."""
    if SEALED_KEY in _metadata(session, path):
        raise damaged(path, "its end is not the hash that was written there")


def _metadata(session: Any, path: Path) -> dict[str, str]:
    """The texts in the file. Raises ModelFileError."""
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise damaged(path, f"its metadata is not UTF-8: {error.reason}") from None


def _manifest_inside(session: Any, path: Path) -> Manifest:
    text = _metadata(session, path).get(METADATA_KEY)
    if text is None:
        raise ManifestError(
            f"{path} was not exported by this toolkit: no {manifest_path(path).name} beside it "
            "and no manifest inside it; export it with `reid export`, or take a network of another "
            "program in with `reid import-onnx`"
        )
    return Manifest.from_json(text, f"the manifest inside {path}")


def _check_graph(session: Any, manifest: Manifest, path: Path) -> None:
    """Check that the graph has the manifest's arrays; it may have other outputs.

    Raises ManifestError.
    """
    inputs, outputs = (
        {value.name: [*value.shape] for value in values}
        for values in (session.get_inputs(), session.get_outputs())
    )
    takes, gives = manifest.input_arrays, manifest.output_arrays
    static = manifest.static_batch
    if (
        {spec.name for spec in takes} == inputs.keys()
        and {spec.name for spec in gives} <= outputs.keys()
        and all(_fits(inputs[spec.name], spec, static) for spec in takes)
        and all(_may_give(outputs[spec.name], spec) for spec in gives)
    ):
        return
    expected = {
        spec.name: (spec.batched and not static, [*spec.shape]) for spec in (*takes, *gives)
    }
    found = {
        name: (not isinstance([*shape, 1][0], int), shape[1:])
        for name, shape in (inputs | outputs).items()
    }
    raise ManifestError(
        f"{path}: the manifest describes {_listed(expected)}, the graph has "
        f"{_listed(found)}; copy the file and its .json together, or export again"
    )


def _fits(shape: list[Any], spec: ArraySpec, static_batch: int = 0) -> bool:
    """Whether a graph's array of this shape, with names for free sizes, can be ``spec``'s."""
    first, sizes = [*shape, 1][0], shape[1:]
    if not isinstance(first, int):
        batch_fits = spec.batched
    else:
        batch_fits = first == static_batch if spec.batched else True
    return (
        batch_fits
        and len(sizes) == len(spec.shape)
        and all(
            size == own or not isinstance(size, int)
            for size, own in zip(sizes, spec.shape, strict=True)
        )
    )


def _may_give(shape: list[Any], spec: ArraySpec) -> bool:
    """The same for an output, whose shape and batch a program may have written down wrongly or not
    at all: what counts there is what a run gives."""
    return not shape or _fits(["N" if spec.batched else shape[0], *shape[1:]], spec)


def _listed(shapes: Mapping[str, tuple[bool, list[int]]]) -> str:
    return " and ".join(
        f"{name} ({', '.join(map(str, ['N' if batched else 1, *dims]))})"
        for name, (batched, dims) in shapes.items()
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
