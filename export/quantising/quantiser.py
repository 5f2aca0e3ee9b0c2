"""``onnxruntime.quantization`` at work: ranges of activations, and the graph with Q/DQ nodes.

Weights are int8, symmetric, for each channel. Only the inputs of products (convolutions, matrix
products) are quantised for TensorRT: it fuses the rest itself, and sums of residual blocks keep
their precision.
"""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import logging
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from reid.errors import BuildError
from reid.packages import missing
from reid.runtime.onnx_runner import ORT_ERRORS
from reid.types import FloatArray

from ..precision import COMPUTE, DEQUANTISE

try:
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import save_and_reload_model_with_shape_infer
except ImportError as error:
    raise missing((error.name or "onnxruntime").partition(".")[0], "INT8 export", "cpu") from error

OPSET = 17
"""What a graph of an older opset than ``PER_CHANNEL_OPSET`` is converted to."""

PER_CHANNEL_OPSET = 13
"""The first whose QuantizeLinear and DequantizeLinear take a scale for each channel."""

PRODUCTS = tuple(sorted(COMPUTE))
_MOVES = ("Add", "AveragePool", "Concat", "MaxPool", "Relu")

_LOG_ERRORS_ONLY = 3
_CHUNK = 32
"""Crops whose intermediate results are kept at once."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A kind of INT8 file. ``suffix`` is the precision in its name.

    ``operators`` get quantised inputs, and all but ``unquantised`` ones quantised results.
    """

    suffix: str
    activations: str
    operators: tuple[str, ...]
    unquantised: tuple[str, ...]


SYMMETRIC = Variant("int8", "int8", PRODUCTS, PRODUCTS)
"""For TensorRT, which takes no other kind. OpenVINO takes it, but for concatenations."""

X86 = Variant("int8.x86", "uint8", (*PRODUCTS, *_MOVES), ("Gemm", "MatMul"))
"""For ONNX Runtime on x86, whose fast products take uint8, and for OpenVINO there. What lies
between two convolutions is quantised too: ONNX Runtime fuses no layer with a float in between."""

VARIANTS = (SYMMETRIC, X86)


@dataclass(frozen=True, slots=True)
class Method:
    """How a range is chosen from the values of an activation."""

    words: str
    kind: Any
    options: dict[str, Any]


METHODS = (
    Method("min-max", CalibrationMethod.MinMax, {}),
    Method("percentile 99.99", CalibrationMethod.Percentile, {"percentile": 99.99}),
    Method("percentile 99.999", CalibrationMethod.Percentile, {"percentile": 99.999}),
    Method("entropy", CalibrationMethod.Entropy, {"symmetric": True}),
)


class Quantiser:
    """A float graph that is ready to be quantised: opset 13 or later, named nodes, constants and
    batch norms folded. ``layers`` are its products. Raises BuildError for one that cannot be read
    so."""

    def __init__(self, model: onnx.ModelProto, input_name: str) -> None:
        self.input_name = input_name
        self.model = _prepared(model)
        self.layers = _layers(self.model)
        if not self.layers:
            raise BuildError("the graph has no convolution or matrix product to quantise")

    @property
    def opset(self) -> int:
        """The opset of the graph and of all that are made of it."""
        return _opset(self.model)

    def in_order(self, chosen: Collection[str]) -> tuple[str, ...]:
        """Those of the products, in the graph's order."""
        products = [node.name for node in self.model.graph.node if node.op_type in COMPUTE]
        return tuple(name for name in products if name in chosen)

    def ranges(
        self, images: FloatArray, methods: Sequence[Method] = METHODS
    ) -> Iterator[tuple[Method, TensorsData]]:
        """The range of every activation for ``images`` (N, 3, H, W), as the network takes them, by
        each method in turn."""
        for _, alike in itertools.groupby(methods, key=lambda method: method.kind):
            same = tuple(alike)
            with _quiet():
                calibrator = self._collected(images, same[0])
            for method in same:
                with _quiet():
                    # Percentiles are read from one histogram, whose collection takes most time.
                    if percentile := method.options.get("percentile"):
                        calibrator.collector.percentile = percentile
                    found = calibrator.compute_data()
                yield method, found

    def _collected(self, images: FloatArray, method: Method) -> Any:
        """A calibrator that has seen the images."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "float.onnx")
            onnx.save(self.model, path)
            calibrator = create_calibrator(
                path,
                X86.operators,
                str(Path(folder, "augmented.onnx")),
                method.kind,
                extra_options=method.options,
            )
            for start in range(0, len(images), _CHUNK):
                calibrator.collect_data(_Batches(self.input_name, images[start : start + _CHUNK]))
        return calibrator

    def quantised(
        self,
        ranges: TensorsData,
        variant: Variant,
        float_layers: Sequence[str] = (),
        only: Sequence[str] = (),
    ) -> onnx.ModelProto:
        """The graph with Q/DQ nodes, but for ``float_layers``; of ``only`` these layers, if any."""
        whole = not (float_layers or only)
        options = {
            "ActivationSymmetric": variant.activations == "int8",
            "WeightSymmetric": True,
            # Beside a layer in float a Relu must stay: its quantisation no longer stands for it.
            "OpTypesToExcludeOutputQuantization": list(variant.unquantised if whole else PRODUCTS),
            "QDQKeepRemovableActivations": not whole,
            # TensorRT takes biases in float only; ONNX Runtime's fast products take int32.
            "QuantizeBias": variant is X86,
        }
        kind = QuantType.QInt8 if variant.activations == "int8" else QuantType.QUInt8
        with _quiet():
            quantizer = QDQQuantizer(
                save_and_reload_model_with_shape_infer(copy.deepcopy(self.model)),
                True,
                False,
                QuantType.QInt8,
                kind,
                ranges,
                list(only),
                [*float_layers, *_moves_before(self.model, float_layers)],
                list(variant.operators),
                options,
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        model: onnx.ModelProto = quantizer.model.model
        _release(model, float_layers)
        return model


class _Batches(CalibrationDataReader):  # type: ignore[misc,unused-ignore]
    """Images in batches, as the calibrators read them."""

    def __init__(self, name: str, images: FloatArray) -> None:
        starts = range(0, len(images), 8)
        self._batches = iter([{name: images[start : start + 8]} for start in starts])

    def get_next(self) -> dict[str, FloatArray] | None:
        return next(self._batches, None)


def _prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Converted, folded by ONNX Runtime, with a name for every node. Raises BuildError."""
    if _opset(model) < PER_CHANNEL_OPSET:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except (RuntimeError, onnx.version_converter.ConvertError) as error:
            raise BuildError(
                f"the graph has opset {_opset(model)}, INT8 needs {PER_CHANNEL_OPSET}, and onnx "
                f"cannot convert it: {str(error).strip().partition(chr(10))[0]}; export the "
                "network with a later opset"
            ) from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "folded.onnx")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _LOG_ERRORS_ONLY
        # Constants and batch norms are folded; the next level would use operators of its own.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        try:
            content = model.SerializeToString()
            onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except ORT_ERRORS as error:
            reason = str(error).strip().partition("\n")[0]
            raise BuildError(f"ONNX Runtime cannot fold the graph: {reason}") from error
        folded = onnx.load(path)
    _name_nodes(folded)
    return folded


def _moves_before(model: onnx.ModelProto, float_layers: Sequence[str]) -> set[str]:
    """The nodes between these layers and the products before them, not beyond a sum."""
    makers = {name: node for node in model.graph.node for name in node.output}
    waiting = [node.input[0] for node in model.graph.node if node.name in float_layers]
    found: set[str] = set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.op_type in _MOVES and node.name not in found:
            found.add(node.name)
            waiting += node.input if node.op_type != "Add" else ()
    return found


def _release(model: onnx.ModelProto, float_layers: Sequence[str]) -> None:
    """Give these layers the activations from before their quantisation, which others may share."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        dequantise = makers.get(node.input[0]) if node.name in float_layers else None
        quantise = makers.get(dequantise.input[0]) if dequantise is not None else None
        if quantise is not None and quantise.op_type == "QuantizeLinear":
            node.input[0] = quantise.input[0]
    results = {value.name for value in graph.output}
    for kind in (DEQUANTISE, "QuantizeLinear"):
        used = {name for node in graph.node for name in node.input} | results
        kept = [node for node in graph.node if node.op_type != kind or node.output[0] in used]
        del graph.node[:]
        graph.node.extend(kept)


def _layers(model: onnx.ModelProto) -> tuple[tuple[str, ...], ...]:
    """The names of the products, in the graph's order; those with one weight are one layer, as the
    weight is quantised for all of them or for none."""
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in COMPUTE:
            found.setdefault(node.input[1], []).append(node.name)
    return tuple(tuple(names) for names in found.values())


def _opset(model: onnx.ModelProto) -> int:
    return max((one.version for one in model.opset_import if not one.domain), default=0)


def _name_nodes(model: onnx.ModelProto) -> None:
    """Give a name to each node without one, or with that of another."""
    used: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in used:
            node.name = f"{node.op_type}_{number}"
        used.add(node.name)
    domains = {node.domain for node in model.graph.node}
    kept = [one for one in model.opset_import if one.domain in domains or not one.domain]
    del model.opset_import[:]
    model.opset_import.extend(kept)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what the quantiser prints and logs; its logging leaves a handler otherwise."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
        root.handlers[:] = handlers
