"""Which ranges, and which layers in floating point: chosen by crops that nothing else has seen.

The measure is the mean cosine of embeddings with those of the float graph, on crops that were
held out of the calibration. The test images have no say in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime

from reid.errors import BuildError
from reid.progress import SILENT, Reporter
from reid.types import FloatArray

from .quantiser import METHODS, Method, Quantiser, Variant

FLOAT_SHARES = (0.0, 1 / 16, 1 / 8, 1 / 4)
"""Shares of the layers that stay in floating point, tried in order until the gate passes
[inferred]. With more than a quarter little of INT8's speed is left."""

MOST_BLOCKS = 96
"""Blocks of neighbouring layers whose loss is measured; in graphs with fewer layers it is each one
[inferred, so that it takes minutes]."""

FEW = 32
"""Held-out crops for the loss of one block."""

PREPARED_ERROR = 1e-4
"""The most that converting and folding may change an entry of an embedding of length 1."""

_BATCH = 16
_LOG_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class Ranged:
    """The best method for a variant: its ranges, and the mean row cosine of every method."""

    method: Method
    ranges: Any
    cosines: dict[str, float]


class Search:
    """Measures variants of a graph on held-out ``images`` (N, 3, H, W). Raises BuildError for a
    graph that its preparation has changed."""

    def __init__(
        self, quantiser: Quantiser, original: onnx.ModelProto, output: str, images: FloatArray
    ) -> None:
        self.quantiser = quantiser
        self._output, self._images = output, images
        self._expected = self._embeddings(original, images)
        change = np.abs(self._embeddings(quantiser.model, images) - self._expected).max()
        if not change <= PREPARED_ERROR:
            raise BuildError(
                f"preparing the graph for INT8 (opset {quantiser.opset}, constants folded) changed "
                f"its embeddings by {change:.2g}, allowed {PREPARED_ERROR:.0e}; export the network "
                "with opset 17"
            )

    def calibrate(
        self, crops: FloatArray, variants: Sequence[Variant], reporter: Reporter = SILENT
    ) -> dict[Variant, Ranged]:
        """The ranges that keep the held-out embeddings nearest, for each variant."""
        advance = reporter.begin("calibrating", len(METHODS))
        ranges, cosines = {}, {}
        for method, found_ranges in self.quantiser.ranges(crops):
            ranges[method.words] = found_ranges
            for variant in variants:
                model = self.quantiser.quantised(found_ranges, variant)
                cosines[variant, method.words] = self.agreement(model)
            advance(1, method.words)
        found = {}
        for variant in variants:
            best = max(METHODS, key=lambda method: cosines[variant, method.words])
            each = {method.words: cosines[variant, method.words] for method in METHODS}
            found[variant] = Ranged(best, ranges[best.words], each)
        return found

    def agreement(self, model: onnx.ModelProto, count: int | None = None) -> float:
        """The mean row cosine with the float graph, on ``count`` of the images; 0 if not finite."""
        embeddings = self._embeddings(model, self._images[:count])
        cosine = float((embeddings * self._expected[:count]).sum(axis=1).mean())
        return cosine if np.isfinite(cosine) else 0.0

    def by_loss(
        self, variant: Variant, ranged: Ranged, reporter: Reporter = SILENT
    ) -> tuple[tuple[str, ...], ...]:
        """The layers in blocks, those that lose most by quantisation first.

        Each block is quantised alone, everything else in float.
        """
        layers = self.quantiser.layers
        size = -(-len(layers) // MOST_BLOCKS)
        blocks = [sum(layers[start : start + size], ()) for start in range(0, len(layers), size)]
        advance = reporter.begin("loss of each layer", len(blocks))
        losses = []
        for block in blocks:
            model = self.quantiser.quantised(ranged.ranges, variant, only=block)
            losses.append(1 - self.agreement(model, FEW))
            advance(1, block[0])
        order = sorted(range(len(blocks)), key=lambda index: -losses[index])
        return tuple(blocks[index] for index in order)

    def _embeddings(self, model: onnx.ModelProto, images: FloatArray) -> FloatArray:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _LOG_ERRORS_ONLY
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (taken,) = session.get_inputs()
        size = taken.shape[0] if isinstance(taken.shape[0], int) else _BATCH
        starts = range(0, len(images) - len(images) % size, size)
        rows = np.concatenate(
            [
                session.run([self._output], {taken.name: images[start : start + size]})[0]
                for start in starts
            ]
        )
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
