"""Caffe's files: prototxt, caffemodel and solver, read with every size checked first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, EncodeError
from google.protobuf.message import Message as ProtobufMessage
from numpy.typing import NDArray

from reid.caffe.schema import (
    UNKNOWN_TEXT,
    BlobProto,
    BlobShape,
    NetParameter,
    PackedBlob,
    SolverParameter,
)
from reid.caffe.text import format_message, parse_into
from reid.errors import CaffeError
from reid.files import write_atomically, write_text

MAX_TEXT_BYTES = 1 << 20
"""Ten times our Siamese graph of 360 layers; weights as text are not meant to be read."""

MAX_BINARY_BYTES = (1 << 31) - 1
"""What protobuf can read and write in one message."""

MAX_LAYERS = 1 << 16
"""Far more than any network has; an empty layer takes three bytes of a file."""

MAX_AXES = 32
"""Caffe's ``kMaxBlobAxes``."""

MAX_COUNT = (1 << 31) - 1
"""Values of one blob: Caffe counts them in an int."""


@dataclass(frozen=True)
class Prototxt:
    """A network as text: the message, and the comment lines at the file's head without '#'."""

    message: NetParameter
    head: tuple[str, ...] = ()


def read_net(path: Path) -> Prototxt:
    """Read a network's prototxt. Raises CaffeError with line and column."""
    text = _read_text(path)
    net = NetParameter()
    parse_into(net, text, str(path))
    _refuse_v1(net, path)
    return Prototxt(net, _head(text))


def read_solver(path: Path) -> SolverParameter:
    """Read a solver's prototxt. Raises CaffeError with line and column."""
    solver = SolverParameter()
    parse_into(solver, _read_text(path), str(path))
    return solver


def write_net(path: Path, net: NetParameter, head: Sequence[str] = ()) -> None:
    """Write a network as text below comment lines ``head``. Raises OutputError."""
    lines = [line for entry in head for line in entry.split("\n")]
    comments = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    write_text(path, comments + format_message(net))


def read_weights(path: Path) -> NetParameter:
    """Read a caffemodel. Raises CaffeError for one that is damaged, empty or of the V1 form."""
    data = _read_bytes(path, MAX_BINARY_BYTES, "a caffemodel")
    try:
        net = NetParameter.FromString(data)
    # The second kind comes from protobuf's pure Python implementation.
    except (DecodeError, UnicodeDecodeError) as error:
        what = "it is text: is it the prototxt?" if _is_text(data) else "cut short or damaged"
        raise CaffeError(f"{path} is not a caffemodel ({what}; {_reason(error)})") from None
    del data
    _refuse_v1(net, path)
    if len(net.layer) > MAX_LAYERS:
        raise CaffeError(f"{path}: expected at most {MAX_LAYERS} layers, found {len(net.layer)}")
    _check_strings(net, path)
    if not len(net.layer):
        raise CaffeError(
            f"{path} holds no layers: expected a binary NetParameter with its weights; "
            "a solverstate or another protobuf file is none"
        )
    return net


def write_weights(path: Path, net: NetParameter) -> None:
    """Write a caffemodel. Unknown fields of text have no number and stay out of it.

    Raises OutputError, and CaffeError above protobuf's 2 GB.
    """
    if _holds_text(net):
        copied = NetParameter()
        copied.CopyFrom(net)
        _drop_text(copied)
        net = copied
    try:
        data = net.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise CaffeError(
            f"cannot write {path}: expected at most 2 GB of weights ({error})"
        ) from None
    write_atomically(path, lambda file: file.write(data))


def blob_shape(blob: BlobProto, where: str = "a blob") -> tuple[int, ...]:
    """The shape: ``shape``, or the four legacy numbers where one of them is given, as in Caffe.

    Raises CaffeError for more than MAX_AXES axes, a negative one, or a count over MAX_COUNT.
    """
    legacy = ("num", "channels", "height", "width")
    if any(blob.HasField(name) for name in legacy):
        shape = tuple(int(getattr(blob, name)) for name in legacy)
    elif len(blob.shape.dim) > MAX_AXES:
        raise CaffeError(f"{where}: expected at most {MAX_AXES} axes, found {len(blob.shape.dim)}")
    else:
        shape = tuple(int(dim) for dim in blob.shape.dim)
    if any(dim < 0 for dim in shape) or math.prod(shape) > MAX_COUNT:
        raise CaffeError(
            f"{where}: expected sizes from 0 and at most {MAX_COUNT} values, found shape {shape}"
        )
    return shape


def blob_array(blob: BlobProto, where: str = "a blob") -> NDArray[np.float32]:
    """A blob's values in its shape; a blob without a shape is one number, as in Caffe.

    ``where`` names it in errors, e.g. ``"conv1 blob 0"``. Values are as they stand, NaN too.
    Raises CaffeError where the number of values is not that of the shape.
    """
    shape = blob_shape(blob, where)
    doubles = len(blob.double_data) > 0
    found = len(blob.double_data if doubles else blob.data)
    if found != math.prod(shape):
        raise CaffeError(
            f"{where}: expected {math.prod(shape)} values for shape {shape}, found {found}"
        )
    packed = PackedBlob.FromString(blob.SerializeToString())
    if doubles:
        with np.errstate(over="ignore"):  # beyond float32 it is infinite, as in Caffe
            values = np.frombuffer(packed.double_data, "<f8").astype(np.float32)
    else:
        values = np.frombuffer(packed.data, "<f4").astype(np.float32)
    return values.reshape(shape)


def blob_from_array(array: NDArray[Any]) -> BlobProto:
    """A blob of float32 values with its shape."""
    values = np.ascontiguousarray(array, "<f4")
    packed = PackedBlob(shape=BlobShape(dim=array.shape), data=values.tobytes())
    return BlobProto.FromString(packed.SerializeToString())


def _read_text(path: Path) -> str:
    data = _read_bytes(path, MAX_TEXT_BYTES, "a prototxt")
    if not _is_text(data):
        raise CaffeError(f"{path} is not a prototxt: it is binary; is it the caffemodel?")
    return data.decode().removeprefix("\ufeff").replace("\r\n", "\n")


def _read_bytes(path: Path, most: int, what: str) -> bytes:
    """The file's bytes, at most ``most``."""
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1) if path.is_file() else b""
    except OSError as error:
        raise CaffeError(f"cannot read {what} from {path}: {error.strerror}") from None
    if not data:
        raise CaffeError(f"{path} is empty: expected {what}")
    if len(data) > most:
        raise CaffeError(f"{path}: expected at most {most} bytes of {what}, found more")
    return data


def _is_text(data: bytes) -> bool:
    """UTF-8 without the control characters that binary files are full of."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return not any(byte in data for byte in (*range(7), 0x0E, 0x0F, 0x7F))


def _head(text: str) -> tuple[str, ...]:
    """The comment lines above everything else, without '#' and one space."""
    head = []
    for line in text.split("\n"):
        if not line.startswith("#"):
            break
        head.append(line[1:].removeprefix(" ").rstrip())
    return tuple(head)


def _refuse_v1(net: NetParameter, path: Path) -> None:
    if len(net.layers):
        raise CaffeError(
            f"{path} has {len(net.layers)} layers of Caffe's old V1 form ('layers'); expected "
            "'layer': convert it with Caffe's upgrade_net_proto_text or upgrade_net_proto_binary"
        )


def _check_strings(net: NetParameter, path: Path) -> None:
    """Refuse names that are not UTF-8 (protobuf hands them out as bytes)."""
    for layer in net.layer:
        strings = (layer.name, layer.type, *layer.bottom, *layer.top)
        if any(isinstance(string, bytes) for string in strings):
            raise CaffeError(f"{path} is damaged: the name of a layer or blob is not UTF-8 text")
    _drop_text(net)


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def _messages(message: Any) -> list[Any]:
    """The message and all inside it; blobs have nothing to look into."""
    found = [message]
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None or descriptor.name == "blobs":
            continue
        inner = [value] if isinstance(value, ProtobufMessage) else value
        for item in inner:
            found += _messages(item)
    return found


def _holds_text(net: NetParameter) -> bool:
    return any(len(getattr(message, UNKNOWN_TEXT)) for message in _messages(net))


def _drop_text(net: NetParameter) -> None:
    for message in _messages(net):
        message.ClearField(UNKNOWN_TEXT)
