"""An OpenVINO IR of another program: what the files say, and its batch made free if that is sound.

Apart from ``graph``, because only an IR needs OpenVINO.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import ModelFileError
from reid.runtime.openvino_library import OV_ERRORS, core, last_line, openvino
from reid.runtime.openvino_runner import names_of, read_model, sizes_of
from reid.types import FloatArray

from .content import ARITHMETIC, LEAVES_VALUES, Content
from .graph import BATCH_ERROR, Array, ForeignGraph, graph_of

_ARITHMETIC = dict(zip(("Subtract", "Add", "Multiply", "Divide"), ARITHMETIC, strict=True))
"""OpenVINO's names -> ONNX's."""
_LEAVES_VALUES = ("Convert", *LEAVES_VALUES)
_QUANTISED = ("FakeQuantize", "FakeConvert")
_FAILURES: tuple[type[Exception], ...] = (ModelFileError, *OV_ERRORS)


def open_ir(path: Path) -> ForeignGraph:
    """Open an ``.xml`` with its ``.bin``. Raises ModelFileError for one that takes no image."""
    return _graph(path, read_model(path))


def _graph(path: Path, model: Any) -> ForeignGraph:
    try:
        compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except OV_ERRORS as error:
        raise ModelFileError(f"{path} cannot be compiled: {last_line(error)}") from error
    inputs = [
        Array(names_of(port)[0], sizes_of(port), port.get_element_type().get_type_name())
        for port in model.inputs
    ]
    names = [names_of(port)[0] for port in model.outputs]

    def compute(images: FloatArray) -> dict[str, FloatArray]:
        try:
            found = compiled.create_infer_request().infer([images])
            return {name: np.array(found[index]) for index, name in enumerate(names)}
        except OV_ERRORS as error:
            raise ModelFileError(f"{path} cannot be run on images: {last_line(error)}") from error

    graph = graph_of(path, inputs, "f32", compute)
    content = Content(0, _precision(model), _first(model.inputs[0]))
    graph = replace(graph, content=content)
    return replace(graph, free=partial(_freed, graph))


def _precision(model: Any) -> str:
    """As ``content_of`` finds it of an ONNX file."""
    operators = model.get_ops()
    if any(one.get_type_name() in _QUANTISED for one in operators):
        return "int8"
    constants = (one for one in operators if one.get_type_name() == "Constant")
    types = {one.get_output_element_type(0).get_type_name() for one in constants}
    return "fp16" if "f16" in types else "fp32"


def _first(port: Any) -> tuple[str, ...]:
    """The arithmetic on the input, while one operator at a time takes it."""
    found: list[str] = []
    while len(takers := port.get_target_inputs()) == 1:
        operator = next(iter(takers)).get_node()
        kind = operator.get_type_name()
        if kind not in (*_ARITHMETIC, *_LEAVES_VALUES):
            break
        if kind in _ARITHMETIC:
            found.append(_ARITHMETIC[kind])
        port = operator.output(0)
    return tuple(found)


def _freed(graph: ForeignGraph, images: FloatArray) -> ForeignGraph:
    """The graph for any number of images, if it then gives ``images`` (n, 3, H, W) the same
    answers; if not, itself.

    A batch size that is written into the graph in further places makes OpenVINO refuse, or mixes
    the images.
    """
    if not graph.batch:
        return graph
    model = read_model(graph.path)
    try:
        model.reshape({model.inputs[0]: [-1, *sizes_of(model.inputs[0])[1:]]})
        found = _graph(graph.path, model)
        together = found.compute(images)
        each = [graph.compute(np.repeat(image[None], graph.batch, axis=0)) for image in images]
    except _FAILURES:
        return graph
    for name, array in together.items():
        expected = np.stack([one[name][0] if one[name].ndim else one[name] for one in each])
        largest = np.abs(expected).max(initial=0)
        if array.shape != expected.shape or not (
            np.abs(array - expected).max(initial=0) <= BATCH_ERROR * largest
        ):
            return graph
    return replace(found, save=partial(_save, model))


def _save(model: Any, target: Path) -> None:
    """``target`` and its ``.bin``, with the weights as they are."""
    openvino.save_model(model, str(target), compress_to_fp16=False)
