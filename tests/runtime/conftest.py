"""A graph with several arrays at both doors, one of them not batched: a pair network's kind."""

from __future__ import annotations

import numpy as np
import pytest

from reid.manifest import Manifest
from reid.preprocess import Preprocess
from reid.types import ArraySpec, FloatArray

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
