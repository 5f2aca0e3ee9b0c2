"""A people detector in an ONNX file, run by ONNX Runtime."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from reid.errors import ModelFileError
from reid.runtime.onnx_runner import ORT_ERRORS
from reid.runtime.places import check_device, openvino_place
from reid.types import FloatArray, Image

from .boxes import People, suppress
from .contract import AUTO, MAX_INPUT, DetectorContract, read_contract
from .forms import Output, input_size, people_of, recognise
from .yolox import cell_counts, is_decoded

MAX_OVERLAP = 0.45
"""The threshold of non-maximum suppression in YOLOX's demo."""

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_LOG_ERRORS_ONLY = 3
_INPUTS: dict[str, Any] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
"""Input types that can be fed."""
_NUMBERS = {
    "tensor(float)",
    "tensor(float16)",
    "tensor(double)",
    *(f"tensor({sign}int{bits})" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
"""Output types that can be read."""


class OnnxDetector:
    """An open detector file; see ``contract.py`` for its inputs and outputs.

    Raises ModelFileError for a file that is not ONNX or has other inputs or outputs.
    """

    def __init__(self, path: Path, device: str = "auto", threads: int = 0) -> None:
        self.name = path.name
        self._path = path
        self._session: Any = _session(path, device, threads)
        contract = read_contract(path)
        self._input, self._batched, (height, width) = self._checked_input(contract)
        self._type = _INPUTS[self._session.get_inputs()[0].type]
        self._decoded = False
        self._contract = self._checked_outputs(
            dataclasses.replace(contract, height=height, width=width)
        )
        if self._contract.format != "boxes":
            self._look_at_values(known=contract.format != AUTO)
        self.note = self._note() if contract.format == AUTO else ""
        """What was recognised and what was taken for granted, for the user; empty for YOLOX."""

    def detect(self, frames: Sequence[Image]) -> list[People]:
        """See ``PeopleDetector``. A file that takes several frames gets all in one run.

        Boxes with NaN are kept: ``tidy`` drops them.
        """
        prepared = [self._contract.prepare(frame) for frame in frames]
        step = len(frames) if self._batched and self._contract.format != "boxes" else 1
        found: list[People] = []
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, len(frames), max(step, 1)):
                found += self._people(np.stack(prepared[start : start + step]))
            return [
                suppress(self._contract.restore(people, *frame.shape[:2]), MAX_OVERLAP)
                for people, frame in zip(found, frames, strict=True)
            ]

    def close(self) -> None:
        """Release the session."""
        self._session = None

    def _people(self, batch: FloatArray) -> list[People]:
        """(N, 3, height, width) -> people in pixels of the input."""
        try:
            return people_of(self._run(batch), self._contract, len(batch), self._decoded)
        except ValueError as error:
            raise self._refusal(str(error)) from None

    def _run(self, batch: FloatArray) -> list[FloatArray]:
        feed = {self._input: batch.astype(self._type, copy=False)}
        try:
            outputs = self._session.run(self._contract.outputs, feed)
        except ORT_ERRORS as error:
            raise ModelFileError(f"{self._path}: {_first_line(error)}") from error
        return [np.asarray(output, np.float32) for output in outputs]

    def _look_at_values(self, known: bool) -> None:
        """Run a grey frame: sizes that the file leaves open, and whether boxes are decoded."""
        contract = self._contract
        grey = np.full((contract.height, contract.width, 3), contract.pad, np.uint8)
        (output,) = self._run(contract.prepare(grey)[None])
        if not known:
            self._contract = contract = self._recognised(
                [Output(contract.output, (-1, *output.shape[1:]))], contract
            )
        cells = cell_counts(contract.height, contract.width)
        if contract.format == "yolox" and output.ndim == 3 and output.shape[1] in cells:
            self._decoded = is_decoded(output[0], contract.height, contract.width)

    def _note(self) -> str:
        contract = self._contract
        if contract.format == "yolox":
            return f"{self.name}: YOLOX with decoding inside" if self._decoded else ""
        values = "0-1" if contract.std == (255.0,) * 3 else "0-255"
        outputs = " and ".join(contract.outputs)
        return (
            f"{self.name}: outputs {outputs} are read as {contract.format}, class "
            f"{contract.person} as a person, and it gets {contract.channel_order} of {values}; if "
            f"that is wrong, describe it in {self.name}.json (deploy/README.md, Detectors)"
        )

    def _checked_input(self, contract: DetectorContract) -> tuple[str, bool, list[int]]:
        """The input's name, whether it takes several frames, and its height and width."""
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) != 4 or shape[1] != 3 or inputs[0].type not in _INPUTS:
            raise self._refusal(f"its inputs are {_listing(inputs)}")
        written = input_size(self._session.get_modelmeta().custom_metadata_map)
        own_size = [
            own if isinstance(own, int) else one or own
            for own, one in zip(shape[2:], written, strict=True)
        ]
        size = [contract.height or own_size[0], contract.width or own_size[1]]
        fits = all(
            isinstance(one, int) and 0 < one <= MAX_INPUT and own in (one, None, str(own))
            for one, own in zip(size, shape[2:], strict=True)
        )
        if not fits or (isinstance(shape[0], int) and shape[0] != 1):
            raise self._refusal(
                f"its inputs are {_listing(inputs)}, its height and width are {size}"
            )
        return inputs[0].name, not isinstance(shape[0], int), size

    def _checked_outputs(self, contract: DetectorContract) -> DetectorContract:
        """The contract with its form and outputs; the shapes that the file declares must fit."""
        outputs = [one for one in self._session.get_outputs() if one.type in _NUMBERS]
        if contract.format == AUTO:
            contract = self._recognised([_declared(one) for one in outputs], contract)
        elif contract.format != "boxes" and not contract.output and outputs:
            contract = dataclasses.replace(contract, output=outputs[0].name)
        if not {*contract.outputs} <= {one.name for one in outputs} or not contract.outputs:
            raise self._refusal(f"it gives {_listing(self._session.get_outputs())}")
        return contract

    def _recognised(
        self, outputs: Sequence[Output], contract: DetectorContract
    ) -> DetectorContract:
        metadata = self._session.get_modelmeta().custom_metadata_map
        try:
            found = recognise(outputs, contract, metadata)
        except ValueError as error:
            raise self._refusal(str(error)) from None
        if found is None:
            raise self._refusal(f"it gives {_listing(self._session.get_outputs())}")
        return found

    def _refusal(self, found: str) -> ModelFileError:
        return ModelFileError(
            f"{self._path} is not a known people detector: {found}; expected YOLOX's, "
            f"Ultralytics' or mmdeploy's outputs, or a contract beside it in "
            f"{self._path.name}.json (see deploy/README.md, Detectors)"
        )


def _session(path: Path, device: str, threads: int) -> Any:
    if openvino_place(device):  # that is for the network; a detector stays with ONNX Runtime
        device = "cpu"
    check_device(device)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.intra_op_num_threads = threads
    # A spinning thread of this session would take a core from the network that runs next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = [_CPU] if device == "cpu" else [_CUDA, _CPU]
    providers = [one for one in wanted if one in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except ORT_ERRORS as error:
        raise ModelFileError(
            f"{path} is not an ONNX file that ONNX Runtime {onnxruntime.__version__} can open "
            f"({_first_line(error)}); name another detector, or none for OpenCV's HOG"
        ) from error


def _declared(output: Any) -> Output:
    sizes = (size if isinstance(size, int) else -1 for size in output.shape)
    return Output(output.name, tuple(sizes))


def _first_line(error: Exception) -> str:
    """ONNX Runtime's message without its stack trace."""
    return str(error).strip().partition("\n")[0]


def _listing(arrays: Sequence[Any]) -> str:
    return ", ".join(f"{one.name} {one.shape} {one.type}" for one in arrays) or "nothing"
