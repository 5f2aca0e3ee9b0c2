"""Proving what an engine computes in: before the build, and after it.

The failure to make impossible is an "FP16" build that silently gives an FP32 engine.
Three witnesses: the parsed network's tensor types, the finished engine's inspector
where a GPU lets it be opened, and otherwise the size of the plan.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reid.errors import BuildError
from reid.model_file.manifest import Manifest

TYPE_NAMES = {"fp32": "FLOAT", "fp16": "HALF"}
"""Precision in the manifest -> name in ``tensorrt.DataType``."""

MIN_TELLING_BYTES = 8 << 20
"""FP32 weights lighter than this say nothing by the plan's size: its code weighs as much."""

MAX_FP16_SHARE = 0.8
"""An FP16 plan above this share of the FP32 weights' bytes holds FP32 weights: halving
gives 0.5 and the rest is room for the plan's code (MSP-CNN: 0.54 as built)."""

_COMPUTE_WORDS = ("conv", "gemm", "matmul", "matrixmultiply", "matrix_multiply")


@dataclass(frozen=True, slots=True)
class ParsedLayer:
    """A convolution or matrix product of the parsed network and its output's type."""

    name: str
    data_type: str


@dataclass(frozen=True, slots=True)
class ParsedNetwork:
    """The layers that do the work, and how many weights the network holds."""

    layers: tuple[ParsedLayer, ...]
    num_weights: int


def parsed_network(trt: Any, network: Any) -> ParsedNetwork:
    """Read the types and the weights of a network that the parser filled."""
    kinds = trt.LayerType
    compute = (kinds.CONVOLUTION, kinds.DECONVOLUTION, kinds.MATRIX_MULTIPLY, kinds.EINSUM)
    layers: list[ParsedLayer] = []
    num_weights = 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = layer.type
        if kind in compute:
            tensor = layer.get_output(0)
            layers.append(ParsedLayer(layer.name, tensor.dtype.name))
        # The bindings hand out the parent class; this is their documented way down.
        if kind == kinds.CONVOLUTION:
            convolution = layer
            convolution.__class__ = trt.IConvolutionLayer
            num_weights += convolution.kernel.size + convolution.bias.size
        elif kind == kinds.CONSTANT:
            constant = layer
            constant.__class__ = trt.IConstantLayer
            num_weights += constant.weights.size
    return ParsedNetwork(tuple(layers), int(num_weights))


def check_parsed_precision(parsed: ParsedNetwork, manifest: Manifest, source: str) -> None:
    """Every convolution and matrix product outside the islands is in the manifest's precision.

    Raises BuildError naming the first that is not.
    """
    wanted = TYPE_NAMES.get(manifest.precision)
    if wanted is None:
        raise BuildError(
            f"{source}: an engine's precision is one of {', '.join(TYPE_NAMES)}, the manifest says "
            f"{manifest.precision!r}; export the ONNX again"
        )
    # A node is called <layer>/<operator>; an island is named by its layer.
    mainland = [p for p in parsed.layers if p.name.partition("/")[0] not in manifest.fp32_islands]
    if not mainland:
        raise BuildError(f"{source}: no convolution or matrix product outside the FP32 islands")
    wrong = [product for product in mainland if product.data_type != wanted]
    if wrong:
        raise BuildError(
            f"{source} is {manifest.precision} by its manifest, but {len(wrong)} of "
            f"{len(mainland)} convolutions and matrix products parse as {wrong[0].data_type} "
            f"(first: {wrong[0].name}); export the ONNX again"
        )


def check_inspected_precision(report: str, precision: str, islands: Sequence[str] = ()) -> str:
    """Read the inspector's JSON; return the proof in words, empty where it shows no types.

    Raises BuildError where a convolution or matrix product of an FP16 engine, outside its FP32
    ``islands``, has FP32 on every side, or no tensor of it is FP16.
    """
    layers = [entry for entry in json.loads(report).get("Layers", []) if isinstance(entry, dict)]
    typed = {str(entry.get("Name", "?")): _types_of(entry) for entry in layers}
    if not any(typed.values()):
        return ""
    half = sum("fp16" in types for types in typed.values())
    if precision == "fp32":
        if half:
            raise BuildError(f"an fp32 engine was asked for, but {half} of its layers hold FP16")
        return f"inspector: {len(layers)} layers, none FP16"
    wrong = [
        str(entry.get("Name", "?"))
        for entry in layers
        if _computes(entry)
        and _types_of(entry) == {"fp32"}
        and not _layers_in(str(entry.get("Name", ""))) & {*islands}
    ]
    if wrong or not half:
        first = f" (first: {wrong[0]})" if wrong else ""
        raise BuildError(
            f"an fp16 engine was asked for, but {len(wrong) or 'all'} of its convolutions and "
            f"matrix products are FP32{first}; export the ONNX again with --fp16"
        )
    where = " outside the islands" if islands else ""
    return f"inspector: {half} of {len(layers)} layers hold FP16, no FP32 product{where}"


def _layers_in(name: str) -> set[str]:
    """The graph's layers in an engine's: ``conv1/Conv + relu1/Relu`` is conv1 and relu1."""
    return {node.partition("/")[0] for node in re.split(r"[^\w./:-]+", name)}


def _computes(entry: dict[str, Any]) -> bool:
    words = f"{entry.get('LayerType', '')} {entry.get('ParameterType', '')}".lower()
    return any(word in words for word in _COMPUTE_WORDS)


def _types_of(entry: dict[str, Any]) -> set[str]:
    """``fp16`` and ``fp32`` among the types of a layer's inputs and outputs."""
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
        elif "float" in word or "fp32" in word:
            found.add("fp32")
    return found


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def check_plan_size(num_bytes: int, num_weights: int, precision: str) -> str:
    """Compare an FP16 plan with its weights' bytes in FP32; return the proof in words.

    Empty where the weights are too few to tell. Raises BuildError for a plan as heavy as
    FP32 weights.
    """
    fp32_bytes = 4 * num_weights
    if fp32_bytes < MIN_TELLING_BYTES:
        return ""
    share = num_bytes / fp32_bytes
    if precision == "fp16" and share > MAX_FP16_SHARE:
        raise BuildError(
            f"an fp16 engine was asked for, but the plan has {num_bytes / 2**20:.1f} MiB where "
            f"the weights in FP32 have {fp32_bytes / 2**20:.1f}: it kept FP32 and is refused"
        )
    return f"plan of {share:.2f} of the FP32 weights' bytes"
