"""Matchers that see colours only, people of one colour, and frames of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from reid.deploy.people.boxes import People, no_people
from reid.deploy.watch.appearance import AppearanceModel, PersonAppearance
from reid.matching import unit_vectors
from reid.model_file.manifest import Manifest, write_manifest
from reid.model_file.preprocess import Preprocess
from reid.types import BoolArray, FloatArray, Image

Colour = tuple[int, int, int]
RED, GREEN, BLUE, WHITE = (20, 20, 220), (20, 220, 20), (220, 20, 20), (230, 230, 230)
BLACK: Colour = (0, 0, 0)


class ColourMatcher:
    """A crop's mean colour as a unit vector. ``batches`` are the sizes that it was asked for."""

    backend = "colours"
    manifest = Manifest("colours", "embed", Preprocess(), output_dim=3)
    identity: Mapping[str, str] = {"network": "colours"}

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.closed = False

    def describe(self, images: Iterable[Image], progress: Any = None) -> FloatArray:
        means = [np.asarray(image, np.float32).mean(axis=(0, 1)) for image in images]
        self.batches.append(len(means))
        return unit_vectors(np.array(means, np.float32).reshape(-1, 3))

    def finite(self, descriptions: FloatArray) -> BoolArray:
        return np.asarray(np.isfinite(descriptions).all(axis=1), np.bool_)

    def seconds(self, query: FloatArray, gallery: FloatArray) -> float:
        return 0.0

    def tiles(
        self, query: FloatArray, gallery: FloatArray, progress: Any = None, best: int = 0
    ) -> Any:
        assert best == 0
        return lambda rows: np.linalg.norm(query[rows, None] - gallery[None], axis=2)

    def refuse_shortlist(self, best: int, num_gallery: int) -> None:
        assert best == 0

    def means(self, descriptions: FloatArray, groups: Any) -> FloatArray:
        raise NotImplementedError

    def pieces(self, descriptions: FloatArray) -> list[dict[str, Any]]:
        return [{"vector": descriptions}]

    def from_pieces(self, pieces: Sequence[Mapping[str, Any]]) -> FloatArray:
        return np.concatenate([piece["vector"] for piece in pieces])

    def close(self) -> None:
        self.closed = True


class ColourDetector:
    """Every patch of one of the known colours, where it lies in the frame."""

    name = "colours"
    note = ""

    def detect(self, frames: Sequence[Image]) -> list[People]:
        return [self._detect(frame) for frame in frames]

    def close(self) -> None:
        """Nothing is open."""

    @staticmethod
    def _detect(frame: Image) -> People:
        found = []
        for colour in (RED, GREEN, BLUE, WHITE):
            rows, columns = np.nonzero((frame == colour).all(axis=2))
            if len(rows):
                found.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        if not found:
            return no_people()
        return People(np.array(found, np.float32), np.full(len(found), 0.9, np.float32))


def write_model(folder: Path) -> Path:
    """An exported file of the smallest kind: each image's mean of each channel."""
    manifest = Manifest("msp_cnn", "embed", Preprocess(), output_dim=3, normalised=False)
    images = helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, ["N", 3, 144, 56])
    means = helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["N", 3])
    mean = helper.make_node("ReduceMean", ["data"], ["embedding"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph([mean], "mean_colour", [images], [means])
    path = folder / "mean.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    write_manifest(path, manifest)
    return path


def frame_of(people: Mapping[Colour, int], width: int = 160, height: int = 80) -> Image:
    """People of 20 x 50 pixels, colour -> left edge, nearest last."""
    image = np.zeros((height, width, 3), np.uint8)
    for colour, left in people.items():
        image[20:70, max(0, left) : max(0, left + 20)] = colour
    return image


def appearance_of(*values: float, score: float = 0.9) -> PersonAppearance:
    """The appearance of one vector, of length 1."""
    return PersonAppearance({"vector": unit_vectors(np.array([values], np.float32))}, score)


@pytest.fixture
def model() -> AppearanceModel:
    return AppearanceModel(ColourMatcher())
