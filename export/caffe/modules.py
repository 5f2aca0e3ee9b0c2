"""The Caffe layer type and settings of a PyTorch module or call; an error if there is none."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from reid.errors import BuildError

from .layers import Setting, Shape


def module_settings(module: nn.Module, came: Shape, path: str) -> tuple[str, dict[str, Setting]]:
    """(Caffe type, settings) of a module. Raises BuildError if it has no Caffe equivalent."""
    for kind, settings in _MODULES.items():
        if isinstance(module, kind):
            return settings(module, came, path)
    raise BuildError(f"{path}: {type(module).__name__} has no Caffe equivalent")


def _convolution(module: nn.Conv2d, came: Shape, path: str) -> tuple[str, dict[str, Setting]]:
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise BuildError(
            f"{path}: Caffe's convolution needs a numeric padding with zeros, found "
            f"{module.padding!r} with {module.padding_mode}"
        )
    return "Convolution", {
        "num_output": module.out_channels,
        "kernel": _pair(module.kernel_size),
        "stride": _pair(module.stride),
        "pad": _pair(module.padding),
        "dilation": _pair(module.dilation),
        "group": module.groups,
        "bias": module.bias is not None,
    }


def _inner_product(module: nn.Linear, came: Shape, path: str) -> tuple[str, dict[str, Setting]]:
    return "InnerProduct", {
        "num_output": module.out_features,
        "bias": module.bias is not None,
        "transpose": False,
    }


def _batch_norm(
    module: nn.BatchNorm1d | nn.BatchNorm2d, came: Shape, path: str
) -> tuple[str, dict[str, Setting]]:
    if not (module.affine and module.track_running_stats):
        raise BuildError(f"{path}: Caffe's BatchNorm needs running statistics, scale and shift")
    return "BatchNorm", {"eps": module.eps}


def _max_pool(module: nn.MaxPool2d, came: Shape, path: str) -> tuple[str, dict[str, Setting]]:
    if _pair(module.dilation) != (1, 1):
        raise BuildError(f"{path}: Caffe's pooling has no dilation")
    return "Pooling", _pooling("MAX", module.kernel_size, module.stride, module.padding)


def _average_pool(module: nn.AvgPool2d, came: Shape, path: str) -> tuple[str, dict[str, Setting]]:
    padded = _pair(module.padding) != (0, 0)
    if module.divisor_override is not None or (padded and not module.count_include_pad):
        raise BuildError(
            f"{path}: Caffe's AVE pooling includes its padding in the mean; expected "
            "count_include_pad and no divisor_override"
        )
    return "Pooling", _pooling("AVE", module.kernel_size, module.stride, module.padding)


def _global_pool(
    module: nn.AdaptiveAvgPool2d, came: Shape, path: str
) -> tuple[str, dict[str, Setting]]:
    if _pair(module.output_size) != (1, 1):
        raise BuildError(
            f"{path}: Caffe's global pooling gives 1x1, found output size {module.output_size}"
        )
    return "Pooling", _pooling("AVE", came[1:], 1, 0)


def _relu(module: nn.ReLU, came: Shape, path: str) -> tuple[str, dict[str, Setting]]:
    return "ReLU", {"negative_slope": 0.0}


def _dropout(module: nn.Dropout, came: Shape, path: str) -> tuple[str, dict[str, Setting]]:
    return "Dropout", {"dropout_ratio": module.p}


_MODULES: Mapping[Any, Callable[[Any, Shape, str], tuple[str, dict[str, Setting]]]] = {
    nn.Conv2d: _convolution,
    nn.Linear: _inner_product,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _global_pool,
    nn.ReLU: _relu,
    nn.Dropout: _dropout,
}


def function_settings(
    n: fx.Node, args: Any, kwargs: Any, path: str, name: str
) -> tuple[str, dict[str, Setting]]:
    """(Caffe type, settings) of a call in a forward method. Raises BuildError if there is none."""
    if n.op == "call_function" and n.target is torch.cat:
        axis = kwargs.get("dim", args[1] if len(args) > 1 else 0)
        return "Concat", {"axis": int(axis)}
    if n.op == "call_function" and n.target is operator.add:
        return "Eltwise", {"operation": "SUM"}
    if n.op == "call_function" and n.target is torch.flatten:
        return "Flatten", {"axis": 1}
    if n.op == "call_function" and n.target is F.max_pool2d:
        given = dict(zip(("input", "kernel_size", "stride", "padding"), args, strict=False))
        given.update(kwargs)
        if _pair(given.get("dilation", 1)) != (1, 1):
            raise BuildError(f"{path}: Caffe's pooling has no dilation")
        stride = given.get("stride") or given["kernel_size"]
        return "Pooling", _pooling("MAX", given["kernel_size"], stride, given.get("padding", 0))
    raise BuildError(f"{path or 'the network'}: the call {name} has no Caffe equivalent")


def _pooling(pool: str, kernel: Any, stride: Any, pad: Any) -> dict[str, Setting]:
    return {"pool": pool, "kernel": _pair(kernel), "stride": _pair(stride), "pad": _pair(pad)}


def _pair(value: Any) -> tuple[int, int]:
    height, width = value if isinstance(value, list | tuple) else (value, value)
    return int(height), int(width)
