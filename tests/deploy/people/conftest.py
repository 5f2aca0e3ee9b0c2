"""Detector files of a few nodes: they give what the test says, whatever they see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper


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


@pytest.fixture
def detector_path(tmp_path: Path) -> Path:
    return tmp_path / "people.onnx"
