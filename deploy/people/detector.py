"""People detectors, and opening one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from reid.errors import ModelFileError
from reid.types import Image

from .boxes import People
from .hog import MIN_HEIGHT, HogDetector
from .onnx_detector import OnnxDetector


class PeopleDetector(Protocol):
    """Detects people in frames."""

    name: str
    """Its name in reports."""
    note: str
    """What a user should know of how its file was read; often empty."""

    def detect(self, frames: Sequence[Image]) -> list[People]:
        """The people of each frame, (H, W, 3) uint8 BGR, in its pixels; highest score first.

        Includes low scores, down to about 0.1, for the tracker. Boxes may extend over the
        frame's border.
        """
        ...

    def close(self) -> None:
        """Release the file and the device; may be called twice."""
        ...


def open_detector(
    path: Path | None, device: str = "auto", threads: int = 0, min_height: int | None = None
) -> PeopleDetector:
    """Open an ``.onnx`` detector, or for None OpenCV's HOG for people from ``min_height`` pixels.

    Raises ModelFileError for any other file.
    """
    if path is None:
        return HogDetector(min_height or MIN_HEIGHT)
    if path.suffix.lower() != ".onnx" or not path.is_file():
        problem = "no such file" if not path.exists() else "not an .onnx file"
        raise ModelFileError(
            f"{path}: {problem}; expected an ONNX file with YOLOX's, Ultralytics' or "
            "mmdeploy's outputs, or a contract beside it; without --detector OpenCV's HOG is used"
        )
    return OnnxDetector(path, device, threads)
