"""Read and write Caffe's files (prototxt, caffemodel, solver). Every size is checked first."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from google.protobuf.message import DecodeError, EncodeError
from google.protobuf.message import Message as ProtobufMessage
from numpy.typing import NDArray

from reid.caffe.kinds import (
    MEAN,
    NET_TEXT,
    OTHER_TEXT,
    SOLVER_TEXT,
    UNKNOWN,
    WEIGHTS,
    Kind,
    kind_of,
)
from reid.caffe.schema import (
    UNKNOWN_TEXT,
    BlobProto,
    BlobShape,
    LayerParameter,
    NetParameter,
    PackedBlob,
    SolverParameter,
)
from reid.caffe.text import format_message, parse_into
from reid.errors import CaffeError
from reid.files import is_regular, write_atomically, write_text

MAX_TEXT_BYTES = 1 << 20
"""Limit for a prototxt: ten times our Siamese graph of 360 layers. Weights stored as text are
not supported."""

MAX_BINARY_BYTES = (1 << 31) - 1
"""The largest message that protobuf can read and write."""

MAX_MEAN_BYTES = 1 << 26
"""Limit for a mean image: three channels of 2300 x 2300 pixels."""

MAX_MANIFEST_BYTES = 1 << 24
"""Limit for the manifest beside a caffemodel; with a report of parity it takes 100 KB."""

_BEFORE_COMMENT = re.compile(rb"""(?:[^#"']|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')*""")
"""A line up to its comment; a '#' in quotes begins none."""

MAX_LAYERS = 1 << 16
"""Limit on layers, far more than any network has; an empty layer takes only three bytes."""

MAX_AXES = 32
"""Caffe's ``kMaxBlobAxes``."""

MAX_COUNT = (1 << 31) - 1
"""Limit on the values of one blob: Caffe counts them in an int."""


@dataclass(frozen=True)
class Prototxt:
    """A network read from text: the message, and the comment lines at its top without '#'."""

    message: NetParameter
    head: tuple[str, ...] = ()


def read_net(path: Path) -> Prototxt:
    """Read a network's prototxt. Raises CaffeError with line and column."""
    text = _read_text(path)
    net = NetParameter()
    parse_into(net, text, str(path))
    _refuse_v1(net, path)
    _refuse_other_text(net, text, path, SOLVER_TEXT, "a network's prototxt")
    return Prototxt(net, _head(text))


def read_solver(path: Path) -> SolverParameter:
    """Read a solver's prototxt. Raises CaffeError with line and column."""
    solver, text = SolverParameter(), _read_text(path)
    parse_into(solver, text, str(path))
    _refuse_other_text(solver, text, path, NET_TEXT, "a solver's prototxt")
    return solver


def write_net(path: Path, net: NetParameter, head: Sequence[str] = ()) -> None:
    """Write a network as text, below the comment lines ``head``. Raises OutputError."""
    lines = [line for entry in head for line in entry.split("\n")]
    comments = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    write_text(path, comments + format_message(net))


def read_weights(path: Path) -> NetParameter:
    """Read a caffemodel. Raises CaffeError if it is damaged, empty or in the V1 format.

    Where a manifest lies beside it, ``NAME.caffemodel.json``, the file must have the hash in it.
    """
    data, size = _read_bytes(path, MAX_BINARY_BYTES, "a caffemodel")
    kind = kind_of(data, path.name)
    if kind not in (WEIGHTS, UNKNOWN):
        advice = "give the .caffemodel with the weights here and the .prototxt as the graph"
        raise CaffeError(
            f"{path} is {kind.words}, expected a caffemodel (binary); {kind.advice or advice}"
        )
    _check_size(path, MAX_BINARY_BYTES, "a caffemodel", size)
    _check_hash(path, data)
    try:
        net = NetParameter.FromString(data)
    # UnicodeDecodeError comes from protobuf's pure Python implementation.
    except (DecodeError, UnicodeDecodeError) as error:
        raise CaffeError(
            f"{path} is not a caffemodel, or truncated or damaged ({_reason(error)}); copy it again"
        ) from None
    del data
    _refuse_v1(net, path)
    if len(net.layer) > MAX_LAYERS:
        raise CaffeError(f"{path}: expected at most {MAX_LAYERS} layers, found {len(net.layer)}")
    _check_strings(net, path)
    if not len(net.layer):
        raise CaffeError(
            f"{path} has no layers; expected a caffemodel (binary NetParameter) with weights, "
            "not another protobuf file"
        )
    return net


def read_mean(path: Path) -> NDArray[np.float32]:
    """Read a mean image, ``.binaryproto``: (3, height, width), in the channels' order.

    Raises CaffeError for a file that is damaged, too large, or not an image of three channels.
    """
    data, size = _read_bytes(path, MAX_MEAN_BYTES, "a mean image")
    kind = kind_of(data, path.name)
    if kind not in (MEAN, UNKNOWN):
        raise CaffeError(f"{path} is {kind.words}, expected a mean image (.binaryproto)")
    _check_size(path, MAX_MEAN_BYTES, "a mean image", size)
    try:
        blob = BlobProto.FromString(data)
    except DecodeError as error:
        raise CaffeError(
            f"{path} is not a mean image, or truncated or damaged ({_reason(error)}); copy it again"
        ) from None
    shape = blob_shape(blob, str(path))
    if shape[:1] == (1,):
        shape = shape[1:]
    if len(shape) != 3 or shape[0] != 3 or 0 in shape:
        raise CaffeError(
            f"{path}: expected a mean image of 3 channels, height and width, found shape {shape}"
        )
    mean = blob_array(blob, str(path)).reshape(shape)
    if not np.isfinite(mean).all():
        raise CaffeError(f"{path}: expected finite values, found NaN or infinity")
    return mean


def write_weights(
    path: Path, net: NetParameter, layers: Iterable[LayerParameter] | None = None
) -> None:
    """Write a caffemodel layer by layer, so that memory never holds a second copy of it.

    ``layers`` are written instead of the net's own; from a generator, one layer at a time is in
    memory. Unknown fields from text have no field number and are not written. Raises
    OutputError, and CaffeError above protobuf's limit of 2 GB.
    """
    head = NetParameter()
    head.CopyFrom(net)
    head.ClearField("layer")
    each = net.layer if layers is None else layers
    # Protobuf merges concatenated messages.
    parts = itertools.chain([head], (NetParameter(layer=[layer]) for layer in each))

    def write(file: BinaryIO) -> None:
        for part in parts:
            _drop_text(part)
            file.write(part.SerializeToString())
            if file.tell() > MAX_BINARY_BYTES:
                raise EncodeError(f"more than {MAX_BINARY_BYTES} bytes")

    try:
        write_atomically(path, write)
    except (EncodeError, ValueError) as error:
        raise CaffeError(
            f"cannot write {path}: expected at most 2 GB of weights ({error})"
        ) from None


def blob_shape(blob: BlobProto, where: str = "a blob") -> tuple[int, ...]:
    """A blob's shape: ``shape``, or, as in Caffe, the four legacy numbers if any of them is set.

    Raises CaffeError for more than MAX_AXES axes, a negative size, or over MAX_COUNT values.
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
            f"{where}: expected sizes of 0 or more and at most {MAX_COUNT} values, found shape "
            f"{shape}"
        )
    return shape


def blob_array(blob: BlobProto, where: str = "a blob") -> NDArray[np.float32]:
    """A blob's values in its shape; a blob without a shape is a scalar, as in Caffe.

    ``where`` names it in errors, e.g. ``"conv1 blob 0"``. Values are not changed, NaN included.
    Raises CaffeError if the number of values does not fit the shape.
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
        with np.errstate(over="ignore"):  # beyond float32 becomes infinity, as in Caffe
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
    data, size = _read_bytes(path, MAX_TEXT_BYTES, "a prototxt")
    kind = kind_of(data, path.name)
    if kind not in (NET_TEXT, SOLVER_TEXT, OTHER_TEXT):
        advice = "give the .prototxt here and the .caffemodel as the weights"
        raise CaffeError(
            f"{path} is {kind.words}, expected a prototxt (text); {kind.advice or advice}"
        )
    _check_size(path, MAX_TEXT_BYTES, "a prototxt", size)
    return _decoded(data, path).removeprefix("\ufeff").replace("\r\n", "\n")


def _decoded(data: bytes, path: Path) -> str:
    """The text; comments in another encoding than UTF-8 are kept byte for byte, as Latin-1.

    Caffe does not look at comments. Raises CaffeError for other bytes outside them.
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        lines = enumerate(data.split(b"\n"), start=1)
        return "\n".join(_decoded_line(line, f"{path}:{number}") for number, line in lines)


def _decoded_line(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        code = _BEFORE_COMMENT.match(line)
        end = code.end() if code else 0
        if not line.startswith(b"#", end) or not _is_utf8(line[:end]):
            raise CaffeError(
                f"{where}: damaged, or not UTF-8 text outside comments; save the file as UTF-8"
            ) from None
        return line[:end].decode() + line[end:].decode("latin-1")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_bytes(path: Path, most: int, what: str) -> tuple[bytes, int]:
    """The file's bytes and its size; only the first bytes if it is larger than ``most``."""
    try:
        if not (is_regular(path) or path.is_dir()):  # opening a pipe would wait for its writer
            raise CaffeError(f"cannot read {what} from {path}: it is not a regular file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(size if size <= most else MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise CaffeError(f"cannot read {what} from {path}: {error.strerror}") from None
    if not data:
        raise CaffeError(f"{path} is empty; expected {what}")
    return data, size


def _check_size(path: Path, most: int, what: str, size: int) -> None:
    if size > most:
        raise CaffeError(f"{path}: expected at most {most} bytes of {what}, found {size}")


def _check_hash(path: Path, data: bytes) -> None:
    """Raise CaffeError where a manifest beside the file has another file's hash."""
    beside = path.with_name(f"{path.name}.json")
    if not beside.is_file():
        return
    try:
        with open(beside, "rb") as file:
            manifest = json.loads(file.read(MAX_MANIFEST_BYTES))
    except (OSError, RecursionError, ValueError) as error:
        raise CaffeError(
            f"{beside} should be the manifest of {path.name} and cannot be read ({error}); copy "
            "both files again, or remove the .json to go without the check"
        ) from None
    expected = manifest.get("file_sha256") if isinstance(manifest, dict) else None
    found = hashlib.sha256(data).hexdigest()
    if expected and expected != found:
        raise CaffeError(
            f"{path} is not the file that {beside.name} describes: expected SHA-256 "
            f"{ascii(str(expected)[:12])[1:-1]}..., found {found[:12]}...; copy both, or "
            "export them, again; if you changed the weights on purpose, remove the .json"
        )


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
            f"{path} has {len(net.layers)} layers in Caffe's old V1 format ('layers'), expected "
            "'layer'; convert it with Caffe's upgrade_net_proto_text or upgrade_net_proto_binary"
        )


def _refuse_other_text(message: Any, text: str, path: Path, other: Kind, expected: str) -> None:
    """Refuse the ``other`` kind of prototxt, of which no field is one of the message's."""
    known = any(field.name != UNKNOWN_TEXT for field, _ in message.ListFields())
    if not known and kind_of(text.encode(), path.name) == other:
        raise CaffeError(f"{path} is {other.words}, expected {expected}")


def _check_strings(net: NetParameter, path: Path) -> None:
    """Reject names that are not UTF-8 (protobuf returns them as bytes)."""
    for layer in net.layer:
        strings = (layer.name, layer.type, *layer.bottom, *layer.top)
        if any(isinstance(string, bytes) for string in strings):
            raise CaffeError(
                f"{path} is damaged: the name of a layer or blob is not UTF-8 text; copy it again"
            )
    _drop_text(net)


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def _messages(message: Any) -> list[Any]:
    """The message and all messages inside it, except inside blobs."""
    found = [message]
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None or descriptor.name == "blobs":
            continue
        inner = [value] if isinstance(value, ProtobufMessage) else value
        for item in inner:
            found += _messages(item)
    return found


def _drop_text(net: NetParameter) -> None:
    for message in _messages(net):
        message.ClearField(UNKNOWN_TEXT)
