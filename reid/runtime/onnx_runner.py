"""Run an exported ONNX file with ONNX Runtime, on the CPU or a CUDA device. No torch."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import ModelFileError
from reid.model_file.manifest import METADATA_KEY, Manifest
from reid.model_file.onnx_seal import SEALED_KEY, damaged
from reid.model_file.opening import ModelFile, Openable
from reid.packages import missing
from reid.runtime import Runner
from reid.runtime.graph_check import check_arrays, first_line, has_seal, not_ours
from reid.runtime.inputs import (
    batch_size,
    batches_of,
    checked_inputs,
    empty_outputs,
    padded_inputs,
)
from reid.runtime.places import check_device
from reid.runtime.tiles import Tiles, compares_one_with_many
from reid.types import FloatArray

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
        checked = bool(beside and beside.file_sha256) or has_seal(path)
        self._session: Any = open_session(path, device, threads)
        if not checked:
            _require_no_lost_seal(self._session, path)
        found = beside or _manifest_inside(self._session, path)
        self.manifest: Manifest = file.identified(found)
        check_arrays(
            _shapes(self._session.get_inputs()),
            _shapes(self._session.get_outputs()),
            self.manifest,
            path,
        )
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
            raise ModelFileError(f"{self._path}: {first_line(error)}") from error
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
            f"({first_line(error)}); export the model again"
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
        raise not_ours(path)
    return Manifest.from_json(text, f"the manifest inside {path}")


def _shapes(values: Any) -> dict[str, list[Any]]:
    return {value.name: [*value.shape] for value in values}
