"""Vectors without a network, and a network that compares pairs, made of numpy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from reid.deploy.gallery import GalleryEntry, GalleryStore
from reid.deploy.gallery.opening import open_gallery
from reid.matching import PairMatcher, VectorMatcher, unit_vectors
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.runtime import Runner
from reid.types import FloatArray
from tests.matching.conftest import CompareRunner, DescribeRunner

DIM = 16
PREPROCESS = Preprocess(resize_height=8, resize_width=4, crop_height=8, crop_width=4)


class PixelRunner(Runner):
    """The mean of an image's rows: a description that anyone can compute."""

    backend = "numpy"

    def __init__(self, precision: str = "fp32", checkpoint: str = "ab" * 32) -> None:
        self.manifest = Manifest(
            "msp_cnn",
            "embed",
            PREPROCESS,
            output_dim=24,
            normalised=False,
            precision=precision,
            checkpoint_sha256=checkpoint,
        )
        self.described = 0

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        images = inputs["data"]
        self.described += len(images)
        return {"embedding": np.ascontiguousarray(images.mean(axis=3).reshape(len(images), -1))}

    def close(self) -> None:
        pass


class NoRunner(PixelRunner):
    """For vectors that come from elsewhere."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.manifest = Manifest("msp_cnn", "embed", PREPROCESS, output_dim=dim)


def vector_matcher(dim: int = DIM) -> VectorMatcher:
    """A matcher of ready vectors."""
    return VectorMatcher(NoRunner(dim))


def people_vectors(people: int, each: int, dim: int = DIM, seed: int = 0) -> FloatArray:
    """(people * each, dim) unit vectors in as many clusters as there are people."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((people, 1, dim))
    noise = 0.3 * rng.standard_normal((people, each, dim))
    return unit_vectors((centres + noise).reshape(-1, dim).astype(np.float32))


def entries_of(count: int, first: int = 0) -> list[GalleryEntry]:
    """Person i // 10, camera i % 3, minute i."""
    return [
        GalleryEntry(
            source=f"/images/{i}.jpg",
            person=f"p{i // 10}",
            camera=f"c{i % 3}",
            time_s=60.0 * i,
            content=str(i),
        )
        for i in range(first, first + count)
    ]


@pytest.fixture
def matcher() -> VectorMatcher:
    return vector_matcher()


@pytest.fixture
def pair_matcher() -> PairMatcher:
    return PairMatcher(DescribeRunner(), CompareRunner(), batch_size=4)


@pytest.fixture
def gallery(tmp_path: Path, matcher: VectorMatcher) -> GalleryStore:
    return open_gallery(str(tmp_path / "gallery"), matcher, create=True)
