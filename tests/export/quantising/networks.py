"""A tiny convolutional network as another program writes it, and people to calibrate it on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from reid.data import write_synthetic

HEIGHT, WIDTH, DIM = 32, 16, 24
OUTLIER = 3000.0
"""How much larger than the others one channel is between ``second`` and ``third``."""

LAYERS = ("first/Conv", "second/Conv", "third/Conv", "last/Gemm")


def write_network(path: Path, *, outlier: bool = False, opset: int = 17) -> Path:
    """Three convolutions, the second with a shortcut, and a Gemm.

    With ``outlier`` the third one's input has a channel that is much larger than the others, which
    the third one's weights make up for.
    """
    rng = np.random.default_rng(7)
    sizes = {"first": (8, 3, 3, 3), "second": (8, 8, 3, 3), "third": (16, 8, 3, 3)}
    weights = {
        name: rng.normal(0, (2 / np.prod(size[1:])) ** 0.5, size) for name, size in sizes.items()
    }
    biases = {name: rng.normal(0, 0.1, size[0]) for name, size in sizes.items()}
    if outlier:
        weights["second"][0] *= OUTLIER
        biases["second"][0] *= OUTLIER
        weights["third"][:, 0] /= OUTLIER
    nodes, value = [], "images"
    for name, stride in (("first", 2), ("second", 1), ("third", 2)):
        inputs = [value, f"{name}.weight", f"{name}.bias"]
        nodes.append(
            helper.make_node(
                "Conv",
                inputs,
                [f"{name}.out"],
                f"{name}/Conv",
                strides=[stride, stride],
                pads=[1, 1, 1, 1],
            )
        )
        last, value = f"{name}.out", f"{name}.relu"
        if name == "second":  # the sum is negative in places, so that its Relu matters
            nodes.append(helper.make_node("Add", [last, "first.relu"], ["sum"], "second/Add"))
            last = "sum"
        nodes.append(helper.make_node("Relu", [last], [value], f"{name}/Relu"))
    nodes += [
        helper.make_node(
            "AveragePool", [value], ["pooled"], "pool", kernel_shape=[4, 4], strides=[4, 4]
        ),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "last.weight", "last.bias"], ["output"], "last/Gemm"),
    ]
    arrays = {f"{name}.weight": array for name, array in weights.items()}
    arrays |= {f"{name}.bias": array for name, array in biases.items()}
    arrays["last.weight"] = rng.normal(0, 0.2, (32, DIM))
    arrays["last.bias"] = rng.normal(0, 0.01, DIM)
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", float32, ("N", 3, HEIGHT, WIDTH))],
        [helper.make_tensor_value_info("output", float32, ("N", DIM))],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def write_people(root: Path, train: int = 25, test: int = 6) -> Path:
    """People in Market-1501's layout, six images of each."""
    write_synthetic(
        root,
        num_train_identities=train,
        num_test_identities=test,
        cameras=2,
        images_per_camera=3,
        seed=4,
    )
    return root
