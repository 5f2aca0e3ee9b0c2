"""Detector files of a few nodes: they give what the test says, whatever they see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from reid.deploy.people.yolox import num_cells


def write_detector(
    path: Path,
    outputs: Mapping[str, np.ndarray[Any, Any]],
    shape: Sequence[int | str] = (1, 3, 64, 32),
    kind: int = onnx.TensorProto.FLOAT,
    metadata: Mapping[str, str] | None = None,
    declared: Mapping[str, Sequence[int | str]] | None = None,
) -> Path:
    """An ONNX file with an input of ``shape`` and constant outputs, of sizes as ``declared``."""
    arrays = {name: numpy_helper.from_array(value, name) for name, value in outputs.items()}
    nodes = [
        helper.make_node("Constant", [], [name], value=array) for name, array in arrays.items()
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", kind, shape)],
        [
            helper.make_tensor_value_info(
                name, array.data_type, (declared or {}).get(name, outputs[name].shape)
            )
            for name, array in arrays.items()
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return path


def write_person_detector(path: Path, height: int, width: int) -> Path:
    """Of YOLOX's form: one person of 20 x 50 at (60, 20), in every frame of this size."""
    output = np.zeros((1, num_cells(height, width), 85), np.float32)
    output[0, 0, :6] = [70 / 8, 45 / 8, np.log(20 / 8), np.log(50 / 8), 0.9, 1.0]
    return write_detector(path, {"output": output}, (1, 3, height, width))


@pytest.fixture
def detector_path(tmp_path: Path) -> Path:
    return tmp_path / "people.onnx"
