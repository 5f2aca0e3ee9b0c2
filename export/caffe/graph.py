"""The Caffe layers of a PyTorch network, traced from what it does.

The network's own code runs once under ``torch.fx``; each operation that Caffe has a layer
for becomes that layer, with the arguments that it was really called with. Names are the
reference prototxt's: ``inception_1a.conv_3x3.bn`` is ``inception_1a/3x3_bn``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from reid.errors import BuildError
from reid.types import FloatArray

from .layers import CaffeLayer, Setting, Shape, conv_size, pooled_size
from .modules import function_settings, module_settings

EMBEDDING = "embedding"
"""Where the tested graph ends, before normalisation."""


class _UpTo(nn.Module):
    """The part of a network that one prototxt describes."""

    def __init__(self, network: nn.Module, end: str) -> None:
        super().__init__()
        self.network = network
        self.end = end

    def forward(self, data: Tensor) -> Any:
        network: Any = self.network
        return network.embed(data) if self.end == EMBEDDING else getattr(network(data), self.end)


def traced_layers(
    network: nn.Module, input_shape: tuple[int, ...], end: str = EMBEDDING
) -> tuple[CaffeLayer, ...]:
    """The layers in the order in which they run, from ``Input`` on, with every shape.

    ``input_shape`` is (channels, height, width); ``end`` is EMBEDDING, or the field of what
    the network's ``forward`` returns. No arithmetic is done: the network is copied without
    its numbers. Raises BuildError, naming the layer, for what Caffe has no layer for, or
    would give another size.
    """
    memo: dict[int, Any] = {
        id(value): nn.Parameter(value.detach().to("meta"), requires_grad=False)
        for value in network.parameters()
    }
    memo.update((id(value), value.to("meta")) for value in network.buffers())
    reader = _LayerReader(copy.deepcopy(network, memo), end)
    with torch.no_grad():
        reader.run(torch.zeros(1, *input_shape, device="meta"))
    return tuple(reader.layers)


class TracedNetwork:
    """The tested graph of a network, with every blob within reach; the network is copied."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._reader = _LayerReader(copy.deepcopy(network).cpu().float(), EMBEDDING)

    def layers(self, input_shape: tuple[int, ...]) -> tuple[CaffeLayer, ...]:
        """As ``traced_layers``."""
        return traced_layers(self._network, input_shape)

    def blobs(self, data: FloatArray) -> dict[str, FloatArray]:
        """Every blob for images (N, 3, H, W), by name.

        As in Caffe, a blob that layers write in place holds what the last of them wrote.
        """
        with torch.inference_mode():
            self._reader.run(torch.from_numpy(data).clone())
        return {name: value.numpy() for name, value in self._reader.blobs.items()}


class _LayerReader(fx.Interpreter):  # type: ignore[misc,unused-ignore]
    """Runs a network and notes each operation as a Caffe layer."""

    def __init__(self, network: nn.Module, end: str) -> None:
        wrapped = _UpTo(network.eval(), end)
        with torch.no_grad():  # as it runs when nothing is learnt
            graph = fx.Tracer().trace(wrapped)
        super().__init__(fx.GraphModule(wrapped, graph))
        self.layers: list[CaffeLayer] = []
        self.blobs: dict[str, Tensor] = {}
        self._blob_of: dict[fx.Node, str] = {}

    def run(self, *args: Any, **options: Any) -> Any:
        """Run the network from its start; what an earlier run noted is gone."""
        self.layers, self.blobs, self._blob_of = [], {}, {}
        return super().run(*args, **options)

    def run_node(self, n: fx.Node) -> Any:
        """Run the operation, then note it; in-place operations overwrite their blob."""
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        came = [tuple(value.shape[1:]) for value in _tensors(args)]
        result = super().run_node(n)
        if n.op == "output" or not isinstance(result, Tensor):
            return result
        if n.op == "call_function" and n.target is torch.flatten:
            self._blob_of[n] = self._blob_of[n.all_input_nodes[0]]
            return result
        for layer in self._layers(n, args, kwargs, came, tuple(result.shape[1:])):
            self.layers.append(layer)
            (self._blob_of[n],) = layer.tops
        self.blobs[self._blob_of[n]] = result
        return result

    def _layers(
        self, n: fx.Node, args: Any, kwargs: Any, came: list[Shape], shape: Shape
    ) -> list[CaffeLayer]:
        """The one or two layers (BatchNorm and Scale) that node ``n`` is in Caffe."""
        if n.op == "placeholder":
            return [CaffeLayer("Input", n.name, (), (n.name,), {}, shape)]
        path = _path(n)
        bottoms = tuple(self._blob_of[node] for node in _inputs(n))
        if n.op == "call_module":
            module = self.module.get_submodule(str(n.target))
            kind, settings = module_settings(module, came[0], path)
        else:
            module, name = None, getattr(n.target, "__name__", str(n.target))
            kind, settings = function_settings(n, args, kwargs, path, name)
        if kind == "Concat":
            path = f"{path}.output"
        name = layer_name(path)
        _check_size(kind, name, settings, came[0], shape)
        if kind == "BatchNorm":
            return _normalisation(name, path, bottoms, settings, shape)
        in_place = bool(getattr(module, "inplace", False))
        top = bottoms[0] if in_place else name
        state = dict(module.named_parameters(recurse=False)) if module is not None else {}
        keys = tuple(key for key in ("weight", "bias") if key in state)
        return [
            CaffeLayer(
                kind,
                name,
                bottoms,
                (top,),
                settings,
                shape,
                tuple(tuple(state[key].shape) for key in keys),
                tuple(f"{path}.{key}" for key in keys),
            )
        ]


def layer_name(path: str) -> str:
    """A module's path -> its layer's name: ``inception_1a.conv_1x1.bn`` -> ``.../1x1_bn``.

    ``conv_`` is only there because a Python name cannot begin with a digit.
    """
    *block, last = path.split(".")
    if block and last in _PARTS:
        block, suffix = [*block[:-1], block[-1].removeprefix("conv_")], _PARTS[last]
        return "/".join(block) + suffix
    return "/".join([*block, last])


_PARTS = {"conv": "", "bn": "_bn", "relu": "_relu"}
"""Parts of a ConvBnRelu -> what its layer's name ends in."""


def _normalisation(
    name: str, path: str, bottoms: tuple[str, ...], settings: dict[str, Setting], shape: Shape
) -> list[CaffeLayer]:
    """PyTorch's one batch normalisation is two stock layers: BatchNorm, Scale in place."""
    channels = shape[:1]
    statistics = (f"{path}.running_mean", f"{path}.running_var", "")
    return [
        CaffeLayer(
            "BatchNorm", name, bottoms, (name,), settings, shape,
            (channels, channels, (1,)), statistics,
        ),
        CaffeLayer(
            "Scale", f"{name}_scale", (name,), (name,), {"bias": True}, shape,
            (channels, channels), (f"{path}.weight", f"{path}.bias"),
        ),
    ]  # fmt: skip


def _check_size(
    kind: str, name: str, settings: Mapping[str, Any], came: Shape, shape: Shape
) -> None:
    """Raise BuildError where Caffe's formula gives another size than PyTorch gave."""
    if kind not in ("Convolution", "Pooling"):
        return
    sides = zip(came[1:], settings["kernel"], settings["stride"], settings["pad"], strict=True)
    if kind == "Pooling":
        expected = tuple(pooled_size(*side) for side in sides)
    else:
        dilation = settings["dilation"]
        expected = tuple(conv_size(*s, d) for s, d in zip(sides, dilation, strict=True))
    if expected != shape[1:]:
        raise BuildError(
            f"{name}: on a map of {came[1]}x{came[2]} PyTorch gives {shape[1]}x{shape[2]}, Caffe "
            f"would give {expected[0]}x{expected[1]}; choose another crop size"
        )


def _path(n: fx.Node) -> str:
    """The module that the node is, or that calls it, as in the network's state dict."""
    if n.op == "call_module":
        return str(n.target).removeprefix("network.")
    stack = n.meta.get("nn_module_stack") or {}
    return next(reversed(stack), "").removeprefix("network.")


def _inputs(n: fx.Node) -> list[fx.Node]:
    """The nodes whose tensors go in, in the call's order; sizes are not among them."""
    first: Any = n.args[0] if n.args else ()
    given = first if isinstance(first, list | tuple) else [first]
    return [value for value in given if isinstance(value, fx.Node)]


def _tensors(args: Any) -> list[Tensor]:
    first = args[0] if args else ()
    found = first if isinstance(first, list | tuple) else [first]
    return [value for value in found if isinstance(value, Tensor)]
