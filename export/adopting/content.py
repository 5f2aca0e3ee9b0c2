"""What ONNX Runtime does not say of a graph, read from the file without the onnx package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from reid.errors import ModelFileError
from reid.model_file.quantisation import INT8

# Names are read as bytes, so that one that is not UTF-8 is no error.
_MESSAGES = {
    "ModelProto": (("graph", 7, "GraphProto", False), ("opset_import", 8, "OpsetProto", True)),
    "GraphProto": (("node", 1, "NodeProto", True), ("initializer", 5, "TensorProto", True)),
    "NodeProto": (
        ("input", 1, "bytes", True),
        ("output", 2, "bytes", True),
        ("op_type", 4, "bytes", False),
    ),
    "TensorProto": (("data_type", 2, "int32", False),),
    "OpsetProto": (("domain", 1, "bytes", False), ("version", 2, "int64", False)),
}
"""The fields of onnx.proto that are read: name, number, type, whether repeated."""
_FLOAT16 = 10
"""TensorProto.DataType."""

_QUANTISED = (b"QuantizeLinear", b"QLinearConv", b"QLinearMatMul", b"ConvInteger", b"MatMulInteger")
"""Operators of graphs whose products are of 8-bit integers."""

ARITHMETIC = ("Sub", "Add", "Mul", "Div")
LEAVES_VALUES = ("Cast", "Identity", "Transpose")


@dataclass(frozen=True, slots=True)
class Content:
    """``first`` are the operators that normalise the input before anything else sees it."""

    opset: int
    precision: str
    first: tuple[str, ...]


def content_of(path: Path, input_name: str) -> Content:
    """Read an ONNX file that ONNX Runtime has opened. Raises ModelFileError."""
    try:
        model = _model_class().FromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise ModelFileError(f"{path} cannot be read as an ONNX file: {error}") from error
    opsets = [one.version for one in model.opset_import if not one.domain]
    first = _first(model.graph.node, input_name.encode())
    return Content(max(opsets, default=0), _precision(model.graph), first)


def _precision(graph: Any) -> str:
    """By the operators that quantise, or else by the type of the weights."""
    if any(node.op_type in _QUANTISED for node in graph.node):
        return INT8
    half = any(one.data_type == _FLOAT16 for one in graph.initializer)
    return "fp16" if half else "fp32"


def _first(nodes: Sequence[Any], name: bytes) -> tuple[str, ...]:
    """The arithmetic on the input, while one operator at a time takes it."""
    found: list[str] = []
    for _ in nodes:
        takers = [node for node in nodes if name in node.input]
        operator = takers[0].op_type.decode("ascii", "replace") if len(takers) == 1 else ""
        if operator not in (*ARITHMETIC, *LEAVES_VALUES) or not takers[0].output:
            break
        if operator in ARITHMETIC:
            found.append(operator)
        name = takers[0].output[0]
    return tuple(found)


def _model_class() -> Any:
    """The class of ModelProto, in a pool of its own: the onnx package has the same names."""
    file = descriptor_pb2.FileDescriptorProto(name="reid/onnx.proto", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            one = message.field.add(name=field, number=number)
            one.label = one.LABEL_REPEATED if repeated else one.LABEL_OPTIONAL
            if kind in _MESSAGES:
                one.type, one.type_name = one.TYPE_MESSAGE, f".{kind}"
            else:
                one.type = getattr(one, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ModelProto"))
