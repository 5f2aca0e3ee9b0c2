"""What ONNX Runtime does not say of a graph, read from the file's bytes without the onnx package.

An ONNX file is one protobuf message. Only the few fields below are read; weights are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reid.errors import ModelFileError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Protobuf's wire types."""
_OPSETS, _GRAPH = 8, 7
"""Fields of ModelProto."""
_NODE, _INITIALIZER = 1, 5
"""Fields of GraphProto."""
_INPUT, _OUTPUT, _OPERATOR = 1, 2, 4
"""Fields of NodeProto."""
_FLOAT16 = 10
"""TensorProto.DataType."""

_ARITHMETIC = ("Sub", "Add", "Mul", "Div")
_LEAVES_VALUES = ("Cast", "Identity", "Transpose")


@dataclass(frozen=True, slots=True)
class Content:
    """``first`` are the operators that normalise the input before anything else sees it."""

    opset: int
    precision: str
    first: tuple[str, ...]


def content_of(path: Path, input_name: str) -> Content:
    """Read an ONNX file that ONNX Runtime has opened. Raises ModelFileError."""
    try:
        model = memoryview(path.read_bytes())
        opset, half, nodes = 0, False, []
        for field, value in _fields(model):
            if field == _OPSETS:
                opset = max(opset, _opset(_part(value)))
            elif field == _GRAPH:
                for inner, part in _fields(_part(value)):
                    if inner == _NODE:
                        nodes.append(_node(_part(part)))
                    elif inner == _INITIALIZER:
                        half = half or (2, _FLOAT16) in _fields(_part(part))
        return Content(opset, "fp16" if half else "fp32", _first(nodes, input_name))
    except (IndexError, OSError, UnicodeDecodeError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read as an ONNX file: {error}") from error


def _first(nodes: list[tuple[str, list[str], list[str]]], name: str) -> tuple[str, ...]:
    """The arithmetic on the input, while one operator at a time takes it."""
    found: list[str] = []
    while True:
        takers = [node for node in nodes if name in node[1]]
        if len(takers) != 1 or takers[0][0] not in (*_ARITHMETIC, *_LEAVES_VALUES):
            return tuple(found)
        operator, _, outputs = takers[0]
        if operator in _ARITHMETIC:
            found.append(operator)
        name = outputs[0]


def _node(node: memoryview) -> tuple[str, list[str], list[str]]:
    """The operator, and the names of inputs and outputs."""
    operator, inputs, outputs = "", [], []
    for field, value in _fields(node):
        if field == _OPERATOR:
            operator = _text(value)
        elif field == _INPUT:
            inputs.append(_text(value))
        elif field == _OUTPUT:
            outputs.append(_text(value))
    return operator, inputs, outputs


def _opset(entry: memoryview) -> int:
    """The version of the standard operators; 0 for those of another domain."""
    fields = dict(_fields(entry))
    domain, version = fields.get(1, b""), fields.get(2, 0)
    return version if not domain and isinstance(version, int) else 0


def _part(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a field has another type than in ONNX")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_part(value)).decode()


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of a message's fields; fixed numbers come as their bytes.

    Raises ValueError or IndexError.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            number, at = _varint(message, at)
            yield key >> 3, number
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
