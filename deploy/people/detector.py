"""What finds people in frames, whatever it is made of."""

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
    """Frames in, people out."""

    name: str
    """What it is, for reports."""

    def detect(self, frames: Sequence[Image]) -> list[People]:
        """The people of each frame, (H, W, 3) uint8 BGR, in its pixels; highest score first.

        Weak ones belong to it too, down to a score of about 0.1: a tracker knows what to do
        with them. Boxes may reach over the frame's border.
        """
        ...

    def close(self) -> None:
        """Let go of the file and the device; may be called twice."""
        ...


def open_detector(
    path: Path | None, device: str = "auto", threads: int = 0, min_height: int | None = None
) -> PeopleDetector:
    """An ``.onnx`` detector, or for None OpenCV's HOG, for people of ``min_height`` pixels.

    Raises ModelFileError for any other file.
    """
    if path is None:
        return HogDetector(min_height or MIN_HEIGHT)
    if path.suffix.lower() != ".onnx" or not path.is_file():
        problem = "no such file" if not path.exists() else "not an .onnx file"
        raise ModelFileError(
            f"{path}: {problem}; a detector is an ONNX of YOLOX's form or with a "
            "contract beside it, or leave it out for OpenCV's own"
        )
    return OnnxDetector(path, device, threads)
