"""Precision as part of the graph: batch norms folded, weights converted, types checked.

A builder with an FP16 flag may silently produce FP32. Here the network itself is converted, the
graph's precision is read back from its tensor types, and a graph in another precision than the
chosen one is rejected.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from reid.errors import BuildError, ModelFileError
from reid.model_file.quantisation import INT8
from reid.packages import missing

try:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
    from onnx import TensorProto
except ImportError as error:
    raise missing((error.name or "onnx").partition(".")[0], "reading ONNX graphs") from error

PRECISIONS = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}
"""Name in the manifest -> element type of the graph's arithmetic."""

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
COMPUTE = CONVOLUTIONS | {"Gemm", "MatMul"}
"""Operators that compute; the rest moves, compares or normalises."""

DEQUANTISE = "DequantizeLinear"

_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
_HALF_MAX = 65504.0
_MAX_FP32_WEIGHT_SHARE = 0.01  # largest share for constants of the FP32 islands in an FP16 graph


def folded(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose batch norms are folded into the layer before them.

    A pair is ``conv``/``bn``, ``conv1``/``bn1`` or ``<name>``/``<name>_bn`` of one module, or two
    neighbours of a Sequential. Folding happens in
    float32: after rounding to float16 the scale would be rounded twice.
    """
    network = copy.deepcopy(network).float().eval()
    for module in list(network.modules()):
        for name, bn_name in list(_batch_norm_pairs(module)):
            layer, norm = getattr(module, name), getattr(module, bn_name)
            fuse = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
            setattr(module, name, fuse(layer, norm))
            setattr(module, bn_name, nn.Identity())
    return network


def _batch_norm_pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    children = dict(module.named_children())
    in_order = isinstance(module, nn.Sequential)
    for name, child in children.items():
        norm_name = str(int(name) + 1) if in_order and name.isdigit() else _norm_of(name)
        norm = children.get(norm_name)
        linear = isinstance(child, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
        convolution = isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        if linear or convolution:
            yield name, norm_name


def _norm_of(name: str) -> str:
    """``conv`` -> ``bn``, ``conv1`` -> ``bn1`` (ResNet), ``fc7`` -> ``fc7_bn``."""
    if name == "conv" or (name.startswith("conv") and name[4:].isdigit()):
        return "bn" + name[4:]
    return f"{name}_bn"


def halved(network: nn.Module) -> nn.Module:
    """A copy with float16 parameters. Raises BuildError for values beyond float16's range."""
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not bool((value.abs() <= _HALF_MAX).all()):
            raise BuildError(
                f"{name} has values that float16 cannot represent (beyond {_HALF_MAX:.0f}, or not "
                "finite); export this network in FP32"
            )
    return copy.deepcopy(network).to(torch.float16)


@dataclass(frozen=True)
class PrecisionProof:
    """What a graph computes in, read from its tensor types.

    ``compute_nodes`` of ``total_compute_nodes`` convolutions and matrix products are in
    ``precision``. ``fp32_islands`` names the layers of an FP16 graph that stay in float32.
    """

    precision: str
    compute_nodes: int
    total_compute_nodes: int
    convolutions: int
    fp32_weight_share: float
    fp32_islands: tuple[str, ...]

    @property
    def compute_share(self) -> float:
        return self.compute_nodes / self.total_compute_nodes


def prove_precision(
    model: onnx.ModelProto | Path, precision: str, float_layers: Sequence[str] = ()
) -> PrecisionProof:
    """Check by tensor types and stored weights that ``model`` computes in ``precision``.

    In an INT8 graph both factors of each product must be dequantised integers, except in the nodes
    ``float_layers``. Raises BuildError if it does not: a convolution or a Gemm in another type,
    weights stored in float32 in an FP16 graph, no operator that computes, or parts whose types
    cannot be read. Raises ModelFileError for a file that is not ONNX.
    """
    if precision == INT8:
        return _prove_int8(_loaded(model) if isinstance(model, Path) else model, float_layers)
    wanted = PRECISIONS.get(precision)
    if wanted is None:
        known = ", ".join((*PRECISIONS, INT8))
        raise BuildError(f"precision must be one of {known}; found {precision!r}")
    graph = _typed_graph(_loaded(model) if isinstance(model, Path) else model)
    types = _tensor_types(graph)
    compute = [node for node in graph.node if node.op_type in COMPUTE]
    if not compute:
        raise BuildError(
            "the graph has no convolution or matrix product, so its precision cannot be checked"
        )
    right = [node for node in compute if types.get(node.output[0]) == wanted]
    must = [node for node in compute if node.op_type in CONVOLUTIONS or node.op_type == "Gemm"]
    wrong = [node for node in must if types.get(node.output[0]) != wanted]
    if wrong:
        raise BuildError(
            f"expected a graph that computes in {precision}, but {len(wrong)} of {len(must)} "
            f"convolutions and Gemms do not (first: {wrong[0].name or wrong[0].op_type}, "
            f"{_type_name(types.get(wrong[0].output[0]))}); export the checkpoint again"
        )
    share = _fp32_weight_share(graph)
    if precision == "fp16" and share > _MAX_FP32_WEIGHT_SHARE:
        raise BuildError(
            f"expected an fp16 graph, but {share:.0%} of its weights are stored in float32; "
            "export the checkpoint again"
        )
    return PrecisionProof(
        precision=precision,
        compute_nodes=len(right),
        total_compute_nodes=len(compute),
        convolutions=sum(node.op_type in CONVOLUTIONS for node in compute),
        fp32_weight_share=share,
        fp32_islands=_fp32_islands(graph, types) if precision == "fp16" else (),
    )


def _prove_int8(model: onnx.ModelProto, float_layers: Sequence[str]) -> PrecisionProof:
    """Q/DQ around every product outside ``float_layers``, and none inside. Raises BuildError."""
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    compute = [node for node in model.graph.node if node.op_type in COMPUTE]
    quantised = {
        node.name: all(makers.get(name) == DEQUANTISE for name in node.input[:2])
        for node in compute
    }
    wrong = [node.name for node in compute if quantised[node.name] == (node.name in float_layers)]
    found = sum(quantised.values())
    if wrong or not found:
        raise BuildError(
            f"expected an int8 graph with {len(float_layers)} products in floating point, but "
            f"{len(compute) - found} of {len(compute)} products are so"
            f"{f' (first unexpected: {wrong[0]})' if wrong else ''}; export it again"
        )
    return PrecisionProof(
        precision=INT8,
        compute_nodes=found,
        total_compute_nodes=len(compute),
        convolutions=sum(node.op_type in CONVOLUTIONS for node in compute),
        fp32_weight_share=_fp32_weight_share(model.graph),
        fp32_islands=tuple(float_layers),
    )


def _loaded(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except (OSError, DecodeError) as error:
        raise ModelFileError(f"{path} cannot be read as an ONNX file ({error})") from None


def _typed_graph(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph with every tensor's type inferred and checked against the operators' rules."""
    if model.functions:
        raise BuildError("the graph calls local functions, whose precision cannot be checked")
    for node in model.graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise BuildError(f"{node.name}: the precision of a nested graph cannot be checked")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise BuildError(f"the graph's tensor types contradict one another: {error}") from error
    return inferred.graph


def _tensor_types(graph: onnx.GraphProto) -> dict[str, int]:
    types = {tensor.name: int(tensor.data_type) for tensor in graph.initializer}
    for values in (graph.value_info, graph.input, graph.output):
        types.update({value.name: int(value.type.tensor_type.elem_type) for value in values})
    return types


def _fp32_weight_share(graph: onnx.GraphProto) -> float:
    sizes: Counter[int] = Counter()
    for weight in graph.initializer:
        if weight.data_type in _FLOATS:
            sizes[weight.data_type] += math.prod(weight.dims)
    return sizes[TensorProto.FLOAT] / max(1, sizes.total())


def _fp32_islands(graph: onnx.GraphProto, types: dict[str, int]) -> tuple[str, ...]:
    """Layers with a float32 result, in graph order, casts at an island's border left out."""
    layers = [
        node.name.partition("/")[0]
        for node in graph.node
        if node.op_type != "Cast" and types.get(node.output[0]) == TensorProto.FLOAT
    ]
    return tuple(dict.fromkeys(layers))


def _type_name(kind: int | None) -> str:
    return "unknown" if kind is None else str(TensorProto.DataType.Name(kind)).lower()
