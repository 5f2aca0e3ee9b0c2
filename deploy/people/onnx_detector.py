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
from reid.runtime.inputs import check_device
from reid.runtime.onnx_runner import ORT_ERRORS
from reid.types import FloatArray, Image

from .boxes import People, suppress
from .contract import MAX_INPUT, DetectorContract, read_contract
from .yolox import num_cells, people_from_yolox

MIN_SCORE = 0.1
"""The lowest score in the output."""

MAX_OVERLAP = 0.45
"""The threshold of non-maximum suppression in YOLOX's demo."""

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_LOG_ERRORS_ONLY = 3
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
        self._contract = dataclasses.replace(contract, height=height, width=width)
        self._outputs = self._checked_outputs()

    def detect(self, frames: Sequence[Image]) -> list[People]:
        """See ``PeopleDetector``. A YOLOX file that takes several frames gets all in one run.

        Boxes with NaN are kept: ``tidy`` drops them.
        """
        prepared = [self._contract.prepare(frame) for frame in frames]
        step = len(frames) if self._batched and self._contract.format == "yolox" else 1
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
            outputs = self._session.run(self._outputs, {self._input: batch})
        except ORT_ERRORS as error:
            raise ModelFileError(f"{self._path}: {_first_line(error)}") from error
        arrays = [np.asarray(output, np.float32) for output in outputs]
        if self._contract.format == "boxes":
            return [self._listed(*arrays)]
        height, width = self._contract.height, self._contract.width
        person = self._contract.person
        (output,) = arrays
        expected = (len(batch), num_cells(height, width))
        if output.ndim != 3 or output.shape[:2] != expected or output.shape[2] < 6 + person:
            raise self._refusal(f"it gives {output.shape}")
        return [people_from_yolox(one, height, width, person, MIN_SCORE) for one in output]

    def _listed(self, boxes: FloatArray, scores: FloatArray, *labels: FloatArray) -> People:
        """People from the outputs of the format ``boxes``."""
        person = self._contract.person
        shapes = f"it gives boxes {boxes.shape} and scores {scores.shape}"
        if scores.ndim == 3 and person < scores.shape[2]:
            scores = scores[..., person]
        columns = [scores.ravel(), *(label.ravel() for label in labels)]
        if boxes.shape[-1:] != (4,) or {len(column) for column in columns} != {boxes.size // 4}:
            raise self._refusal(shapes)
        likely = columns[0] >= MIN_SCORE
        for label in columns[1:]:
            likely &= label == person
        return People(boxes.reshape(-1, 4)[likely], columns[0][likely])

    def _checked_input(self, contract: DetectorContract) -> tuple[str, bool, list[int]]:
        """The input's name, whether it takes several frames, and its height and width."""
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) != 4 or shape[1] != 3 or inputs[0].type != "tensor(float)":
            raise self._refusal(f"its inputs are {_listing(inputs)}")
        size = [contract.height or shape[2], contract.width or shape[3]]
        fits = all(
            isinstance(one, int) and 0 < one <= MAX_INPUT and own in (one, None, str(own))
            for one, own in zip(size, shape[2:], strict=True)
        )
        if not fits or (isinstance(shape[0], int) and shape[0] != 1):
            raise self._refusal(
                f"its inputs are {_listing(inputs)}, its height and width are {size}"
            )
        return inputs[0].name, not isinstance(shape[0], int), size

    def _checked_outputs(self) -> list[str]:
        """Names of the outputs to read; the shapes that the file declares must fit."""
        outputs = self._session.get_outputs()
        contract = self._contract
        if contract.format == "boxes":
            names = [name for name in (contract.boxes, contract.scores, contract.labels) if name]
            if not {*names} <= {output.name for output in outputs if output.type in _NUMBERS}:
                raise self._refusal(f"it gives {_listing(outputs)}")
            return names
        shape = outputs[0].shape
        cells = num_cells(contract.height, contract.width)
        fits = len(outputs) == 1 and len(shape) == 3 and outputs[0].type in _NUMBERS
        if not fits or (isinstance(shape[1], int) and shape[1] != cells):
            raise self._refusal(f"it gives {_listing(outputs)}")
        return [outputs[0].name]

    def _refusal(self, found: str) -> ModelFileError:
        return ModelFileError(
            f"{self._path} is not a known people detector: {found}; expected YOLOX's format, or a "
            f"contract beside it in {self._path.name}.json (see deploy/people/contract.py)"
        )


def _session(path: Path, device: str, threads: int) -> Any:
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


def _first_line(error: Exception) -> str:
    """ONNX Runtime's message without its stack trace."""
    return str(error).strip().partition("\n")[0]


def _listing(arrays: Sequence[Any]) -> str:
    return ", ".join(f"{one.name} {one.shape} {one.type}" for one in arrays) or "nothing"
