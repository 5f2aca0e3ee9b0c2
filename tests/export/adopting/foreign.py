"""Tiny ONNX files as other programs write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH = 16, 8
BANDS = 8
DIM = 3 * BANDS
"""The colours of eight bands: what the file of ``write_foreign`` gives."""

Batch = int | str


def node(operator: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def band_weights() -> np.ndarray:
    """(3 * HEIGHT * WIDTH, DIM): the middle of each band, less the mean of all bands."""
    mean = np.zeros((HEIGHT, WIDTH, BANDS), np.float32)
    for row in range(HEIGHT):
        mean[row, 2:6, row * BANDS // HEIGHT] = 1 / 8
    mean -= mean.mean(axis=2, keepdims=True)
    return np.kron(np.eye(3, dtype=np.float32), mean.reshape(-1, BANDS))


def bands(images: str = "images") -> list[onnx.NodeProto]:
    """The nodes from ``images`` to ``features`` (N, DIM)."""
    return [node("Flatten", images, "flat"), node("MatMul", "flat bands", "features")]


def write_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[tuple[str, Sequence[Batch]]],
    *,
    inputs: Sequence[tuple[str, Sequence[Batch]]] = (("images", ("N", 3, HEIGHT, WIDTH)),),
    weights: Sequence[onnx.TensorProto] = (),
    kind: int = TensorProto.FLOAT,
) -> Path:
    """An ONNX file of these nodes, without a manifest."""
    graph = helper.make_graph(
        list(nodes),
        "foreign",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(band_weights(), "bands"), *weights],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def write_foreign(path: Path, batch: Batch = "N", scale: float = 1.0, unit: bool = False) -> Path:
    """The colours of an image's bands, times ``scale``; with ``unit`` of length 1."""
    weight = numpy_helper.from_array(np.full(1, scale, np.float32), "scale")
    length = node("LpNormalization", "scaled", "output", axis=1)
    last = length if unit else node("Identity", "scaled", "output")
    nodes = [*bands(), node("Mul", "features scale", "scaled"), last]
    images = [("images", (batch, 3, HEIGHT, WIDTH))]
    return write_graph(path, nodes, [("output", (batch, DIM))], inputs=images, weights=[weight])
