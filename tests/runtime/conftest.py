"""A graph with several arrays at both doors, one of them not batched: a pair network's kind.

And a TensorRT that runs it, or any other, without a GPU.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.runtime import tensorrt_runner
from reid.types import ArraySpec, FloatArray
from tests.runtime.tensorrt_fakes import FakeDevice, FakeTensorRt, write_engine

ROW = (2, 3)


class Comparison:
    """One query against N gallery items: their product, and its sum times a weight."""

    manifest = Manifest("csn", "train", Preprocess()).of_graph(
        "compare",
        (
            ArraySpec("query", ROW, batched=False),
            ArraySpec("gallery", ROW),
            ArraySpec("weight", ()),
        ),
        (ArraySpec("score", (1,)), ArraySpec("product", ROW)),
    )

    @staticmethod
    def inputs(count: int) -> dict[str, FloatArray]:
        rng = np.random.default_rng(count)
        sizes = {"weight": (count,), "gallery": (count, *ROW), "query": (1, *ROW)}
        return {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}

    @staticmethod
    def expected(inputs: dict[str, FloatArray]) -> dict[str, FloatArray]:
        product = inputs["query"] * inputs["gallery"]
        score = product.sum(axis=(1, 2)) * inputs["weight"]
        return {"score": score[:, None], "product": product}


@pytest.fixture
def comparison() -> Comparison:
    """See ``Comparison``."""
    return Comparison()


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def trt(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    module = FakeTensorRt(device, "10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    monkeypatch.setattr(tensorrt_runner, "open_device", lambda: device)
    return module


@pytest.fixture
def comparison_engine(comparison: Comparison, tmp_path: Path, trt: FakeTensorRt) -> Path:
    """An engine of ``Comparison``; the fake TensorRT computes it."""
    trt.inputs = {spec.name: spec.shape for spec in comparison.manifest.inputs}
    trt.outputs = {spec.name: spec.shape for spec in comparison.manifest.outputs}
    trt.unbatched = {"query"}
    trt.computes = comparison.expected
    return write_engine(tmp_path, comparison.manifest)
