"""Run an ONNX file or an OpenVINO IR with OpenVINO, on a CPU or GPU of Intel or another. No torch.

FP32 stays FP32: OpenVINO's own default is bfloat16 or float16 where the device has it, so the
precision is always asked for and read back.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import ManifestError, ModelFileError
from reid.model_file.manifest import METADATA_KEY, Manifest
from reid.model_file.onnx_seal import SEALED_KEY, damaged
from reid.model_file.opening import ModelFile, Openable
from reid.model_file.parts import IR_SUFFIX, parts_of
from reid.runtime import Runner
from reid.runtime.graph_check import check_arrays, has_seal, not_ours
from reid.runtime.inputs import batch_size, batches_of, checked_inputs, empty_outputs
from reid.runtime.openvino_int8 import IN_FLOAT, why_in_float
from reid.runtime.openvino_library import (
    OV_ERRORS,
    VERSION,
    core,
    frontend,
    last_line,
)
from reid.runtime.places import BF16, OpenVinoPlace, check_device, openvino_place
from reid.types import FloatArray

_HINT = "INFERENCE_PRECISION_HINT"
_WORDS = {"f32": "FP32", "f16": "FP16", "bf16": "BF16"}
_HEAD_BYTES = 4096
_INT8 = "int8"


class OpenVinoRunner(Runner):
    """An ``.onnx`` file of this toolkit or an OpenVINO ``.xml`` with its ``.bin``, open.

    The manifest is the ``.json`` beside the file, or the one inside an ``.onnx``, checked as
    ``OnnxRunner`` does. ``device`` is ``openvino`` (the CPU), ``openvino:`` and an OpenVINO
    device, ``auto`` or ``cpu``; with ``:bf16`` behind it all that is not 8-bit is computed in
    bfloat16, and the manifest's ``precision`` says so. Otherwise FP32 is computed in FP32; an FP16
    file in FP32 on a CPU, in FP16 elsewhere. ``threads`` 0 leaves the count to OpenVINO. Raises
    ModelFileError for a file or device that cannot be used, ManifestError for one whose manifest
    is missing or of another file.
    """

    def __init__(self, file: Openable, device: str = "auto", threads: int = 0) -> None:
        file = ModelFile.at(file)
        path = file.path
        place = _place(device, path)
        parts_of(path)
        beside = file.manifest if file.has_manifest_beside else None
        checked = bool(beside and beside.file_sha256)
        if path.suffix.lower() == IR_SUFFIX:
            if beside is None:
                raise not_ours(path)
            model, found = read_model(path), beside
        else:
            checked = checked or has_seal(path)
            model = read_model(path)
            if not checked and _text_inside(model, SEALED_KEY) is not None:
                raise damaged(path, "its end is not the hash that was written there")
            found = beside or _manifest_inside(model, path)
        manifest = file.identified(found)
        inputs = {_name_in(port, manifest): sizes_of(port) for port in model.inputs}
        check_arrays(inputs, _shapes(model.outputs), manifest, path)
        if place.bf16:
            manifest = _in_bf16(manifest, path)
        self.manifest: Manifest = manifest
        self._path = path
        self._order = _indices(model.outputs)
        hint = _hint(place, found.precision)
        compiled = partial(_compiled, model, place, hint, threads, path)
        in_float = ""
        if found.precision == _INT8 and place.name == "CPU":
            in_float = why_in_float(model, manifest, compiled)
        settings = IN_FLOAT if in_float else {}
        self._request: Any = compiled(settings).create_infer_request()
        self._lock = threading.Lock()
        self.backend: str = f"openvino {VERSION} {place.name} {_words(manifest, hint, in_float)}"

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Named float32 arrays in, named float32 arrays out, such as {"data": (N, 3, H, W)}.

        Raises ModelFileError for a wrong name, type or shape, or after ``close``.
        """
        arrays = checked_inputs(inputs, self.manifest)
        count = batch_size(arrays, self.manifest)
        if not count:
            return empty_outputs(self.manifest)
        if size := self.manifest.static_batch:
            parts = batches_of(arrays, self.manifest, size)
            outputs = [np.concatenate(rows) for rows in zip(*map(self._run, parts), strict=True)]
        else:
            outputs = self._run(arrays)
        return {
            spec.name: output[:count] if spec.batched else output
            for spec, output in zip(self.manifest.output_arrays, outputs, strict=True)
        }

    def _run(self, arrays: Mapping[str, FloatArray]) -> list[FloatArray]:
        """The manifest's outputs, in order. Raises ModelFileError.

        A request takes one batch at a time, and servers call from several threads.
        """
        with self._lock:
            if self._request is None:
                raise ModelFileError(f"{self._path}: the runner is closed; open the file again")
            try:
                found = self._request.infer(dict(arrays))
                return [
                    np.asarray(found[self._order[spec.name]], np.float32)
                    for spec in self.manifest.output_arrays
                ]
            except OV_ERRORS as error:
                raise ModelFileError(f"{self._path}: {last_line(error)}") from error

    def close(self) -> None:
        """Release the graph; may be called twice."""
        with self._lock:
            self._request = None


def read_model(path: Path) -> Any:
    """OpenVINO's graph of any ONNX file or IR. Raises ModelFileError.

    Each kind goes to its own reader: given the choice, OpenVINO tries those of six other programs
    on a damaged file.
    """
    is_ir = path.suffix.lower() == IR_SUFFIX
    try:
        if not is_ir:
            reader = frontend.FrontEndManager().load_by_framework("onnx")
            model = reader.convert(reader.load(str(path)))
        elif _begins_as_ir(path):
            model = core().read_model(*map(str, parts_of(path)))
        else:
            raise ValueError("its first element is not <net>")
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except OV_ERRORS as error:
        kind = "OpenVINO IR" if is_ir else "ONNX file"
        raise ModelFileError(
            f"{path} is not an {kind} that OpenVINO {VERSION} can open ({last_line(error)}); "
            "copy or export the model again"
        ) from error
    if not model.outputs:
        raise ModelFileError(f"{path} has no output; copy or export the model again")
    return model


def _begins_as_ir(path: Path) -> bool:
    with open(path, "rb") as file:
        return b"<net" in file.read(_HEAD_BYTES)


def names_of(port: Any) -> list[str]:
    """The names of a graph's input or output; a file may have none for it but its operator's."""
    return sorted(port.get_names()) or [port.get_node().get_friendly_name()]


def sizes_of(port: Any) -> list[Any]:
    """Sizes of a graph's array, a text for a free one; empty if unknown."""
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return []
    return [size.get_length() if size.is_static else str(size) for size in shape]


def _name_in(port: Any, manifest: Manifest) -> str:
    """Of an input's names the manifest's, or else the first."""
    known = {spec.name for spec in manifest.input_arrays}
    names = names_of(port)
    return next((name for name in names if name in known), names[0])


def _shapes(outputs: Any) -> dict[str, list[Any]]:
    return {name: sizes_of(port) for port in outputs for name in names_of(port)}


def _indices(outputs: Any) -> dict[str, int]:
    return {name: index for index, port in enumerate(outputs) for name in names_of(port)}


def _place(device: str, path: Path) -> OpenVinoPlace:
    """Raises ModelFileError for a device that is not OpenVINO's."""
    if place := openvino_place(device):
        return place
    check_device(device)
    if device == "cuda":
        raise ModelFileError(
            f"{path} runs with OpenVINO, which has no device cuda; use auto, openvino or "
            "openvino:GPU"
        )
    return OpenVinoPlace("CPU")


def _hint(place: OpenVinoPlace, precision: str) -> str:
    """In what OpenVINO shall compute whatever is not 8-bit."""
    if place.bf16:
        return "bf16"
    return "f16" if precision == "fp16" and place.name != "CPU" else "f32"


def _in_bf16(manifest: Manifest, path: Path) -> Manifest:
    """The manifest of the same graph in bfloat16. Raises ModelFileError."""
    if manifest.stage in ("compare", "describe", "pair"):
        raise ModelFileError(
            f"{path}: {BF16} is for networks that give vectors; {manifest.network} compares pairs, "
            "and its scores lose too much: leave --precision out"
        )
    kept = f"{_INT8}-" if manifest.precision == _INT8 else ""
    return dataclasses.replace(manifest, precision=kept + BF16)


def _compiled(
    model: Any,
    place: OpenVinoPlace,
    hint: str,
    threads: int,
    path: Path,
    more: Mapping[str, Any],
) -> Any:
    """Raises ModelFileError for a device that is not there or computes in another precision."""
    settings: dict[str, Any] = {_HINT: hint, "PERFORMANCE_HINT": "LATENCY", **more}
    if threads and place.name == "CPU":
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        compiled = core().compile_model(model, place.name, settings)
    except OV_ERRORS as error:
        found = ", ".join(core().available_devices) or "none"
        raise ModelFileError(
            f"{path}: OpenVINO {VERSION} cannot compile it for device {place.name} "
            f"({last_line(error)}); its devices here: {found}"
        ) from error
    computes = _precision_of(compiled)
    if computes not in (hint, ""):
        raise ModelFileError(
            f"{path}: {_WORDS[hint]} was asked of OpenVINO's device {place.name}, which computes "
            f"in {_WORDS.get(computes, computes)}; use another device"
            + (", or leave --precision out" if place.bf16 else "")
        )
    return compiled


def _precision_of(compiled: Any) -> str:
    """``f32``, ``bf16``, ...; empty for a device that does not say."""
    try:
        return str(compiled.get_property(_HINT).to_string())
    except OV_ERRORS:
        return ""


def _words(manifest: Manifest, hint: str, in_float: str = "") -> str:
    """How the graph is computed, for ``backend``; ``in_float`` is why not by 8-bit kernels."""
    words = _WORDS[hint]
    if manifest.precision == "fp16" and hint == "f32":
        words += " (of FP16 weights)"
    if manifest.precision.startswith(_INT8):
        words = (
            f"INT8 computed in {words}, at its speed: {in_float}"
            if in_float
            else f"INT8 and {words}"
        )
    if manifest.static_batch:
        words += f", {manifest.static_batch} image(s) at a time"
    return words


def _text_inside(model: Any, key: str) -> str | None:
    """A text of an ONNX file's metadata; None if it has none of that name. Raises ValueError."""
    if not model.has_rt_info(["framework", key]):
        return None
    return str(model.get_rt_info(["framework", key]).astype(str))


def _manifest_inside(model: Any, path: Path) -> Manifest:
    """Raises ManifestError."""
    try:
        text = _text_inside(model, METADATA_KEY)
    except OV_ERRORS as error:
        raise ManifestError(f"{path}: its manifest cannot be read: {last_line(error)}") from error
    if text is None:
        raise not_ours(path)
    return Manifest.from_json(text, f"the manifest inside {path}")
