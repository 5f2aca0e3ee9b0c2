"""Input and output of a detector file: recognised, or as a JSON file beside it describes.

These need no JSON (``forms.py`` recognises them; N is 1 or any, A the number of cells):

    YOLOX                input BGR 0-255, output (N, A, 5 + classes), decoded or not
    Ultralytics          input RGB 0-1, output (N, 4 + classes, A) or (N, n, 6)
    YOLOv5, v7           input RGB 0-1, output (N, 3 A, 5 + classes)
    mmdeploy             outputs dets (1, n, 5) and labels (1, n)
    boxes, scores        and perhaps labels, as below

Input (N, 3, H, W), letterboxed with 114; class 0 a person unless the file names its classes. For
any other a contract, ``<file>.json``, is needed: for ``detector.onnx`` ``detector.onnx.json``:

    {"format": "boxes",            outputs are boxes, and need no decoding
     "height": 640, "width": 640,  of the input, if the file leaves them open
     "channel_order": "RGB",       or BGR
     "mean": [0, 0, 0],            y = (x - mean) / std of values 0-255, in channel_order
     "std": [255, 255, 255],
     "resize": "stretch",          or letterbox: aspect kept, top left, the rest ``pad``
     "pad": 114,
     "boxes": "boxes",             output (n, 4) or (1, n, 4)
     "box": "corners",             left, top, right, bottom; or centre: x, y, width, height
     "relative": false,            in pixels of the input; true: in fractions of it
     "scores": "scores",           output (n,), (1, n), or (1, n, classes); "" if they are the
                                   columns of boxes behind the fourth
     "labels": "labels",           output (n,) or (1, n) of class numbers, "" if there is none
     "person": 0}                  the class that is a person

Every key but ``format`` is optional. The other formats are ``yolox``, ``yolov5``, ``yolov8`` (class
scores without objectness) and ``rows`` (left, top, right, bottom, score, class), for another input
or class than the usual ones; they read the output ``output`` ("" is the first).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from reid.errors import ModelFileError, nearest
from reid.types import FloatArray, Image

from .boxes import People

FORMATS = ("yolox", "boxes", "yolov5", "yolov8", "rows")
AUTO = "auto"
"""The format of a file without a contract, until it is recognised."""

_RGB_0_TO_1: Mapping[str, Any] = {"channel_order": "RGB", "std": (255.0, 255.0, 255.0)}
USUAL: Mapping[str, Mapping[str, Any]] = {
    "yolox": {},
    "boxes": {},
    "yolov5": _RGB_0_TO_1,
    "yolov8": _RGB_0_TO_1,
    "rows": _RGB_0_TO_1,
}
"""Format -> keys that differ from the contract's defaults."""
MAX_INPUT = 1 << 13
"""Largest height and width of the input."""
_LARGEST_NUMBER = 1e6
"""Largest mean and standard deviation of pixels; 1 / this is the smallest deviation."""


@dataclass(frozen=True, slots=True)
class DetectorContract:
    """See the module's text. A height or width of 0 means the file's own."""

    format: str = AUTO
    height: int = 0
    width: int = 0
    channel_order: str = "BGR"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: str = "letterbox"
    pad: int = 114
    output: str = ""
    boxes: str = "boxes"
    box: str = "corners"
    relative: bool = False
    scores: str = "scores"
    labels: str = ""
    person: int = 0

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs to read."""
        listed = (self.boxes, self.scores, self.labels)
        return [name for name in (listed if self.format == "boxes" else (self.output,)) if name]

    def prepare(self, frame: Image) -> FloatArray:
        """(H, W, 3) BGR -> (3, height, width) float32, the detector's input."""
        height, width = frame.shape[:2]
        across, down = self._ratios(height, width)
        size = (max(1, round(width * across)), max(1, round(height * down)))
        resized = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
        canvas = np.full((self.height, self.width, 3), self.pad, np.uint8)
        canvas[: size[1], : size[0]] = resized
        if self.channel_order == "RGB":
            canvas = canvas[:, :, ::-1]
        values: FloatArray = canvas.transpose(2, 0, 1).astype(np.float32, order="C")
        for plane, mean, std in zip(values, self.mean, self.std, strict=True):
            if (mean, std) != (0.0, 1.0):
                plane -= np.float32(mean)
                plane /= np.float32(std)
        return values

    def restore(self, people: People, height: int, width: int) -> People:
        """Boxes in pixels of the input -> in pixels of the (height, width) frame."""
        ratios = np.array(self._ratios(height, width) * 2, np.float32)
        return People(people.boxes / ratios, people.scores)

    def _ratios(self, height: int, width: int) -> tuple[float, float]:
        """Pixels of the input per pixel of the frame, across and down."""
        across, down = self.width / width, self.height / height
        if self.resize == "letterbox":
            across = down = min(across, down)
        return across, down


def read_contract(detector: Path) -> DetectorContract:
    """The contract beside a detector file; format AUTO without one. Raises ModelFileError."""
    path = detector.with_name(f"{detector.name}.json")
    if not path.exists():
        return DetectorContract()
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(body, dict):
            raise TypeError("it is not a JSON object")
        _check(body)
        for key in ("mean", "std"):
            if key in body:
                body[key] = tuple(float(value) for value in body[key])
        return DetectorContract(**{**USUAL[body["format"]], **body})
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelFileError(
            f"{path} does not describe a detector ({error}); deploy/README.md, Detectors, has "
            "its keys"
        ) from None


def _check(body: dict[str, Any]) -> None:
    """Raises ValueError for an unknown key, a value of the wrong type or out of range."""
    if "format" not in body:
        raise ValueError(f"it needs a format: {' or '.join(FORMATS)}")
    for key, value in body.items():
        if key not in _CHECKS:
            raise ValueError(f"unknown key {key!r}{nearest(key, _CHECKS)}")
        if not _CHECKS[key](value):
            raise ValueError(f"{key} cannot be {value!r}")


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_INPUT


def _three_numbers(value: Any) -> bool:
    """Finite, and in the range of float32."""
    return (
        isinstance(value, list)
        and [type(x) in (int, float) for x in value] == [True] * 3
        and all(abs(x) <= _LARGEST_NUMBER for x in value)
    )


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "format": lambda value: value in FORMATS,
    "height": _whole,
    "width": _whole,
    "channel_order": lambda value: value in ("BGR", "RGB"),
    "mean": _three_numbers,
    "std": lambda value: _three_numbers(value) and min(value) >= 1 / _LARGEST_NUMBER,
    "resize": lambda value: value in ("letterbox", "stretch"),
    "pad": lambda value: _whole(value) and value <= 255,
    "output": lambda value: isinstance(value, str),
    "boxes": lambda value: isinstance(value, str) and value != "",
    "box": lambda value: value in ("corners", "centre"),
    "relative": lambda value: isinstance(value, bool),
    "scores": lambda value: isinstance(value, str),
    "labels": lambda value: isinstance(value, str),
    "person": _whole,
}
