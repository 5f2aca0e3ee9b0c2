"""Check an engine's precision, before and after the build.

An FP16 build must never silently give an FP32 engine. There are three checks: the tensor types
of the parsed network, the finished engine's inspector if a GPU can open the engine, and
otherwise the size of the plan (the serialized engine).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reid.errors import BuildError
from reid.model_file.manifest import Manifest
from reid.model_file.quantisation import INT8

TYPE_NAMES = {"fp32": "FLOAT", "fp16": "HALF"}
"""Precision in the manifest -> name in ``tensorrt.DataType``. In an INT8 network the products give
floats too; what counts is that both their factors are dequantised."""

MIN_TELLING_BYTES = 8 << 20
"""Below this size of the FP32 weights, for each profile, the plan's size proves nothing, because
the plan's code is as large."""

MAX_SHARES = {"fp16": 0.8, "int8": 0.6}
"""Limits on a plan's size as a share of the FP32 weights: FP16 weights are 0.5, INT8 ones 0.25, and
the rest is for the plan's code. A plan above the limit contains FP32 weights."""

_COMPUTE_WORDS = ("conv", "gemm", "matmul", "matrixmultiply", "matrix_multiply")


@dataclass(frozen=True, slots=True)
class ParsedLayer:
    """A convolution or matrix product of the parsed network and its output's type.

    ``quantised``: both its factors come from dequantisers.
    """

    name: str
    data_type: str
    quantised: bool = False


@dataclass(frozen=True, slots=True)
class ParsedNetwork:
    """The convolutions and matrix products, and the number of weights of the network."""

    layers: tuple[ParsedLayer, ...]
    num_weights: int


def parsed_network(trt: Any, network: Any) -> ParsedNetwork:
    """Read layer types and the number of weights from a network filled by the parser."""
    kinds = trt.LayerType
    compute = (kinds.CONVOLUTION, kinds.DECONVOLUTION, kinds.MATRIX_MULTIPLY, kinds.EINSUM)
    layers: list[ParsedLayer] = []
    num_weights = 0
    integers = _dequantised(trt, network)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = layer.type
        if kind in compute:
            tensor = layer.get_output(0)
            factors = [layer.get_input(number) for number in range(min(2, layer.num_inputs))]
            quantised = len(factors) == 2 and all(
                factor is not None and factor.name in integers for factor in factors
            )
            layers.append(ParsedLayer(layer.name, tensor.dtype.name, quantised))
        # The bindings return the base class; this is their documented way to downcast.
        if kind == kinds.CONVOLUTION:
            convolution = layer
            convolution.__class__ = trt.IConvolutionLayer
            num_weights += convolution.kernel.size + convolution.bias.size
        elif kind == kinds.CONSTANT:
            constant = layer
            constant.__class__ = trt.IConstantLayer
            num_weights += constant.weights.size
    return ParsedNetwork(tuple(layers), int(num_weights))


def _dequantised(trt: Any, network: Any) -> set[str]:
    """The names of tensors that a dequantiser gives, also through layers that only move values."""
    kinds = trt.LayerType
    found: set[str] = set()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        given = layer.get_input(0) if layer.num_inputs else None
        moved = layer.type == kinds.SHUFFLE and given is not None and given.name in found
        if layer.type == kinds.DEQUANTIZE or moved:
            found.add(layer.get_output(0).name)
    return found


def check_parsed_precision(parsed: ParsedNetwork, manifest: Manifest, source: str) -> None:
    """Check that all convolutions and matrix products outside the FP32 islands have the
    manifest's precision. Raises BuildError, naming the first one that does not.
    """
    if manifest.precision == INT8:
        _check_parsed_int8(parsed, manifest, source)
        return
    wanted = TYPE_NAMES.get(manifest.precision)
    if wanted is None:
        raise BuildError(
            f"{source}: an engine's precision must be one of {', '.join((*TYPE_NAMES, INT8))}, the "
            f"manifest has {manifest.precision!r}; export the ONNX again"
        )
    # A node is named <layer>/<operator>; an island is named by its layer.
    outside = [p for p in parsed.layers if p.name.partition("/")[0] not in manifest.fp32_islands]
    if not outside:
        raise BuildError(
            f"{source}: expected a convolution or matrix product outside the FP32 islands, found "
            "none; export the ONNX again"
        )
    wrong = [product for product in outside if product.data_type != wanted]
    if wrong:
        raise BuildError(
            f"{source} is {manifest.precision} by its manifest, but {len(wrong)} of "
            f"{len(outside)} convolutions and matrix products parse as {wrong[0].data_type} "
            f"(first: {wrong[0].name}); export the ONNX again"
        )


def _check_parsed_int8(parsed: ParsedNetwork, manifest: Manifest, source: str) -> None:
    """Raise BuildError unless the products are quantised but for the manifest's float layers.

    INT8 of another program does not list them: there one quantised product is enough.
    """
    quantised = [one for one in parsed.layers if one.quantised]
    made = manifest.quantisation
    floats = set(made.float_layers) if made else {one.name for one in parsed.layers}
    wrong = [one for one in parsed.layers if not one.quantised and one.name not in floats]
    if wrong or not quantised:
        first = f" (first: {wrong[0].name})" if wrong else ""
        raise BuildError(
            f"{source} is int8 by its manifest, but {len(wrong) or 'all'} of {len(parsed.layers)} "
            f"convolutions and matrix products parse without quantised factors{first}; export the "
            "ONNX again"
        )


def check_inspected_precision(report: str, precision: str, islands: Sequence[str] = ()) -> str:
    """Check the inspector's JSON; return the evidence as text, empty if it shows no types.

    Raises BuildError if a convolution or matrix product of an FP16 engine, outside its FP32
    ``islands``, has only FP32 inputs and outputs, if no tensor of an FP16 engine is FP16 or none of
    an INT8 engine INT8, or if an FP32 engine has an FP16 tensor.
    """
    layers = [entry for entry in json.loads(report).get("Layers", []) if isinstance(entry, dict)]
    typed = {str(entry.get("Name", "?")): _types_of(entry) for entry in layers}
    if not any(typed.values()):
        return ""
    if precision == INT8:
        integers = sum("int8" in types for types in typed.values())
        if not integers:
            raise BuildError(
                "expected an int8 engine, but none of its layers uses INT8; build it from the "
                "*.int8.onnx file"
            )
        return f"inspector: {integers} of {len(layers)} layers use INT8"
    half = sum("fp16" in types for types in typed.values())
    if precision == "fp32":
        if half:
            raise BuildError(
                f"expected an fp32 engine, but {half} of its layers use FP16; export the ONNX again"
            )
        return f"inspector: {len(layers)} layers, none FP16"
    wrong = [
        str(entry.get("Name", "?"))
        for entry in layers
        if _computes(entry) and _types_of(entry) == {"fp32"} and not _in_islands(entry, islands)
    ]
    if wrong or not half:
        first = f" (first: {wrong[0]})" if wrong else ""
        raise BuildError(
            f"expected an fp16 engine, but {len(wrong) or 'all'} of its convolutions and "
            f"matrix products are FP32{first}; export the ONNX again with --fp16"
        )
    where = " outside the islands" if islands else ""
    return f"inspector: {half} of {len(layers)} layers use FP16, no FP32 product{where}"


def _in_islands(entry: dict[str, Any], islands: Sequence[str]) -> bool:
    """Whether an engine layer's convolutions and matrix products are all of FP32 islands.

    Where no node is known as a product, one node of an island is enough.
    """
    nodes = [node.partition("/") for node in _nodes_in(entry)]
    products = [layer for layer, _, operator in nodes if _is_product(operator)]
    if products:
        return {*products} <= {*islands}
    return any(layer in islands for layer, _, _ in nodes)


def _nodes_in(entry: dict[str, Any]) -> list[str]:
    """The ONNX nodes in an engine layer: those of its metadata, else those of its name.

    ``[ONNX Layer: conv1/Conv]\\x1f[ONNX Layer: relu1/Relu]`` and ``conv1/Conv + relu1/Relu`` are
    the same two. Myelin, TensorRT's compiler of fused layers, makes up names of its own, such as
    ``__myl_MulAdd_myl0_3``, so that only the metadata tells what is inside.
    """
    named = re.findall(r"\[ONNX Layer: ([^\]]+)\]", str(entry.get("Metadata", "")))
    return named or re.split(r"[^\w./:-]+", str(entry.get("Name", "")))


def _is_product(operator: str) -> bool:
    return operator.lower().startswith((*_COMPUTE_WORDS, "einsum"))


def _computes(entry: dict[str, Any]) -> bool:
    words = f"{entry.get('LayerType', '')} {entry.get('ParameterType', '')}".lower()
    return any(word in words for word in _COMPUTE_WORDS)


def _types_of(entry: dict[str, Any]) -> set[str]:
    """Which of ``int8``, ``fp16`` and ``fp32`` occur in a layer's inputs and outputs."""
    ends = [*_listed(entry.get("Inputs")), *_listed(entry.get("Outputs"))]
    words = [
        str(end.get("Format/Datatype", end.get("Datatype", ""))).lower()
        for end in ends
        if isinstance(end, dict)
    ]
    found = set()
    for word in words:
        if any(half in word for half in ("half", "fp16", "float16")):
            found.add("fp16")
        elif "int8" in word:
            found.add("int8")
        elif "float" in word or "fp32" in word:
            found.add("fp32")
    return found


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def check_plan_size(num_bytes: int, num_weights: int, precision: str, num_profiles: int = 1) -> str:
    """Compare a plan's size with that of its weights in FP32; return the evidence as text.

    Empty if there are too few weights to decide: each optimisation profile has code of its own,
    while they share the weights. Raises BuildError if an FP16 or INT8 plan is too large for
    weights of that precision.
    """
    fp32_bytes = 4 * num_weights
    if fp32_bytes < MIN_TELLING_BYTES * num_profiles:
        return ""
    share = num_bytes / fp32_bytes
    if share > MAX_SHARES.get(precision, math.inf):
        raise BuildError(
            f"expected an {precision} engine, but the plan has {num_bytes / 2**20:.1f} MiB and the "
            f"weights in FP32 {fp32_bytes / 2**20:.1f} MiB: it contains FP32 weights; export the "
            f"ONNX again with --{precision}"
        )
    return f"plan size {share:.2f} of the FP32 weights"
