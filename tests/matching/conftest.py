"""A network that compares pairs, made of numpy: small maps, small parts, a literal score."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from reid.matching import PairMatcher
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.runtime import Runner
from reid.types import ArraySpec, FloatArray, Image

PREPROCESS = Preprocess(resize_height=8, resize_width=4, crop_height=8, crop_width=4)
DESCRIBED = (ArraySpec("maps2", (3, 2)), ArraySpec("parts2", (2,)), ArraySpec("vector", (2,)))
TRAINED = Manifest("csn", "train", PREPROCESS, output_meaning="score", checkpoint_sha256="ab" * 32)


class DescribeRunner(Runner):
    """Sums and means of an image; ``scale`` makes them large."""

    backend = "numpy"

    def __init__(self, scale: float = 1.0) -> None:
        self.manifest = TRAINED.of_graph(
            "describe", (ArraySpec("data", PREPROCESS.input_shape),), DESCRIBED
        )
        self.scale = scale
        self.closed = 0

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        data = inputs["data"] / 255 * self.scale
        vector = data.mean(axis=(2, 3))[:, :2]
        length = np.linalg.norm(vector, axis=1, keepdims=True)
        return {
            "maps2": np.ascontiguousarray(data.mean(axis=2)[:, :, :2]),
            "parts2": np.ascontiguousarray(data.std(axis=(2, 3))[:, :2]),
            "vector": np.asarray(vector / length, np.float32),
        }

    def close(self) -> None:
        self.closed += 1


class CompareRunner(Runner):
    """A score that is not symmetric, so that the two sides cannot be swapped unseen."""

    backend = "numpy"

    def __init__(self) -> None:
        self.manifest = TRAINED.of_graph(
            "compare",
            tuple(
                ArraySpec(side + spec.name, spec.shape, batched=side == "gallery_")
                for side in ("query_", "gallery_")
                for spec in DESCRIBED
            ),
            (ArraySpec("score", ()),),
        )
        self.compared = 0
        self.closed = 0

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        self.compared += len(inputs["gallery_vector"])
        score = np.abs(inputs["query_maps2"] - 2 * inputs["gallery_maps2"]).sum(axis=(1, 2))
        score += (inputs["query_parts2"] * inputs["gallery_parts2"]).sum(axis=1)
        return {"score": np.asarray(1 / (1 + score), np.float32)}

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def matcher() -> PairMatcher:
    return PairMatcher(DescribeRunner(), CompareRunner(), batch_size=4)


@pytest.fixture
def images() -> list[Image]:
    rng = np.random.default_rng(0)
    return [
        (rng.integers(0, 200) + rng.integers(0, 56, (8, 4, 3))).astype(np.uint8) for _ in range(11)
    ]
