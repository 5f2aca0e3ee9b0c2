"""Caffe's layer types: settings, output shape, and weight shapes of each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from reid.caffe.schema import LayerParameter
from reid.errors import CaffeError

from .layers import POOLS, Setting, Shape, conv_size, pooled_size

Computed = tuple[dict[str, Setting], Shape, tuple[Shape, ...]]
"""Settings, shape of the top, shapes of the weights."""

OPERATIONS = {0: "PROD", 1: "SUM", 2: "MAX"}
"""What an Eltwise layer does with its bottoms."""

MAX_SIDE = 1 << 20
"""Limit on kernel, stride, pad and number of outputs; real layers are far below it."""


def _convolution(message: LayerParameter, came: list[Shape], where: str) -> Computed:
    param = message.convolution_param
    channels, height, width = _map(came[0], where)
    kernel = _sides(param, "kernel", 0, where)
    stride = _sides(param, "stride", 1, where)
    pad = _sides(param, "pad", 0, where)
    dilation = _sides(param, "dilation", 1, where)
    group, out = int(param.group), int(param.num_output)
    if not 0 < out <= MAX_SIDE or group < 1 or channels % group or out % group:
        raise CaffeError(
            f"{where}: expected outputs and channels divisible by group, found {out} outputs, "
            f"{channels} channels, group {group}"
        )
    shape = (
        out,
        conv_size(height, kernel[0], stride[0], pad[0], dilation[0]),
        conv_size(width, kernel[1], stride[1], pad[1], dilation[1]),
    )
    _positive(shape, where)
    settings: dict[str, Setting] = {
        "num_output": out,
        "kernel": kernel,
        "stride": stride,
        "pad": pad,
        "dilation": dilation,
        "group": group,
        "bias": bool(param.bias_term),
    }
    weight = (out, channels // group, *kernel)
    return settings, shape, (weight, (out,)) if param.bias_term else (weight,)


def _inner_product(message: LayerParameter, came: list[Shape], where: str) -> Computed:
    param = message.inner_product_param
    out, count = int(param.num_output), math.prod(came[0])
    if param.axis != 1 or not 0 < out <= MAX_SIDE or count < 1:
        raise CaffeError(
            f"{where}: expected axis 1 and at least one output, found axis {param.axis}, "
            f"{out} outputs from {count} inputs"
        )
    weight = (count, out) if param.transpose else (out, count)
    settings: dict[str, Setting] = {
        "num_output": out,
        "bias": bool(param.bias_term),
        "transpose": bool(param.transpose),
    }
    return settings, (out,), (weight, (out,)) if param.bias_term else (weight,)


def _pooling(message: LayerParameter, came: list[Shape], where: str) -> Computed:
    param = message.pooling_param
    channels, height, width = _map(came[0], where)
    if param.pool not in POOLS:
        raise CaffeError(f"{where}: expected MAX or AVE pooling, found STOCHASTIC")
    if param.round_mode != 0:
        raise CaffeError(f"{where}: expected pooling that rounds up, found round_mode FLOOR")
    stride, pad = _sides(param, "stride", 1, where), _sides(param, "pad", 0, where)
    kernel = (height, width) if param.global_pooling else _sides(param, "kernel", 0, where)
    if pad[0] >= kernel[0] or pad[1] >= kernel[1]:
        raise CaffeError(f"{where}: expected a pad below the kernel {kernel}, found {pad}")
    shape = (
        channels,
        pooled_size(height, kernel[0], stride[0], pad[0]),
        pooled_size(width, kernel[1], stride[1], pad[1]),
    )
    _positive(shape, where)
    pool = POOLS[param.pool]
    return {"pool": pool, "kernel": kernel, "stride": stride, "pad": pad}, shape, ()


def _batch_norm(message: LayerParameter, came: list[Shape], where: str) -> Computed:
    channels = came[0][:1]
    eps = float(message.batch_norm_param.eps)
    return {"eps": eps}, came[0], (channels, channels, (1,))


def _scale(message: LayerParameter, came: list[Shape], where: str) -> Computed:
    param = message.scale_param
    if len(came) != 1 or param.axis != 1 or param.num_axes != 1:
        raise CaffeError(
            f"{where}: expected one bottom, axis 1 and num_axes 1, found {len(came)} bottoms, "
            f"axis {param.axis} and num_axes {param.num_axes}"
        )
    channels = came[0][:1]
    blobs = (channels, channels) if param.bias_term else (channels,)
    return {"bias": bool(param.bias_term)}, came[0], blobs


def _fork_batch_norm(message: LayerParameter, came: list[Shape], where: str) -> Computed:
    shape = (1, *came[0][:1])
    return {"eps": float(message.bn_param.eps)}, came[0], (shape,) * 4


def _relu(message: LayerParameter, came: list[Shape], where: str) -> Computed:
    return {"negative_slope": float(message.relu_param.negative_slope)}, came[0], ()


def _dropout(message: LayerParameter, came: list[Shape], where: str) -> Computed:
    return {"dropout_ratio": float(message.dropout_param.dropout_ratio)}, came[0], ()


def _concat(message: LayerParameter, came: list[Shape], where: str) -> Computed:
    sizes = {shape[1:] for shape in came}
    if message.concat_param.axis != 1 or len(sizes) != 1 or not came[0]:
        shown = ", ".join("x".join(map(str, shape)) for shape in came)
        raise CaffeError(f"{where}: expected maps of equal size and axis 1, found {shown}")
    return {"axis": 1}, (sum(shape[0] for shape in came), *came[0][1:]), ()


def _unchanged(message: LayerParameter, came: list[Shape], where: str) -> Computed:
    return {}, came[0], ()


def _eltwise(message: LayerParameter, came: list[Shape], where: str) -> Computed:
    if len(set(came)) != 1:
        shown = ", ".join("x".join(map(str, shape)) for shape in came)
        raise CaffeError(f"{where}: expected bottoms of equal size, found {shown}")
    return {"operation": OPERATIONS[message.eltwise_param.operation]}, came[0], ()


def _flatten(message: LayerParameter, came: list[Shape], where: str) -> Computed:
    return {"axis": 1}, (math.prod(came[0]),), ()


COMPUTED: dict[str, Callable[[LayerParameter, list[Shape], str], Computed]] = {
    "Convolution": _convolution,
    "InnerProduct": _inner_product,
    "Pooling": _pooling,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "BN": _fork_batch_norm,
    "ReLU": _relu,
    "Dropout": _dropout,
    "Concat": _concat,
    "Softmax": _unchanged,
    "Eltwise": _eltwise,
    "Flatten": _flatten,
    "Split": _unchanged,
    "GuidedDropout": _unchanged,
}
"""``GuidedDropout`` is the DGD fork's; in the test phase its stochastic form changes nothing."""


def slice_shapes(message: LayerParameter, came: Shape, where: str) -> tuple[Shape, ...]:
    """The shapes of a Slice's tops; ``came`` is without the batch axis, as are they.

    Raises CaffeError for points that do not ascend, or an axis that is not there.
    """
    param, count = message.slice_param, len(message.top)
    axis = int(param.slice_dim) if param.HasField("slice_dim") else int(param.axis)
    if axis == 0:
        return (came,) * count
    if not 1 <= axis <= len(came) or count < 1:
        raise CaffeError(f"{where}: expected a Slice of axis 0 to {len(came)}, found axis {axis}")
    points, size = [int(point) for point in param.slice_point], came[axis - 1]
    if not points and size % count == 0:
        points = [size // count * index for index in range(1, count)]
    ends = [0, *points, size]
    widths = [end - start for start, end in itertools.pairwise(ends)]
    if len(widths) != count or min(widths) < 1:
        raise CaffeError(
            f"{where}: expected {count - 1} ascending slice points below {size}, found {points}"
        )
    return tuple((*came[: axis - 1], width, *came[axis:]) for width in widths)


def _map(shape: Shape, where: str) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise CaffeError(f"{where}: expected a bottom of channels x height x width, found {shape}")
    return shape[0], shape[1], shape[2]


def _sides(param: Any, word: str, default: int, where: str) -> tuple[int, int]:
    """(height, width) of kernel, stride, pad or dilation, from any of the possible fields."""
    square = "kernel_size" if word == "kernel" else word
    if word != "dilation" and (param.HasField(f"{word}_h") or param.HasField(f"{word}_w")):
        found = int(getattr(param, f"{word}_h")), int(getattr(param, f"{word}_w"))
    else:
        value = getattr(param, square)
        single = isinstance(value, int)
        found = (value, value) if single else _repeated(value, default, where, word)
    least = 0 if word == "pad" else 1
    if not all(least <= side <= MAX_SIDE for side in found):
        raise CaffeError(f"{where}: {word} must be at least {least}, found {found}")
    return found


def _repeated(values: Any, default: int, where: str, word: str) -> tuple[int, int]:
    """A convolution's repeated field: empty, one number for both sides, or height and width."""
    if len(values) > 2:
        raise CaffeError(f"{where}: expected one or two values of {word}, found {len(values)}")
    numbers = [int(value) for value in values] or [default]
    return numbers[0], numbers[-1]


def _positive(shape: Shape, where: str) -> None:
    if min(shape) < 1:
        raise CaffeError(f"{where}: the kernel is larger than its map: the top would be {shape}")
