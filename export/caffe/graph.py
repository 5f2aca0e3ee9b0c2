"""The Caffe layers of a PyTorch network, found by tracing it.

The network's own code runs once under ``torch.fx``. Each operation becomes the corresponding
Caffe layer, with the arguments of the actual call. Names are those of the reference prototxt:
``inception_1a.conv_3x3.bn`` is ``inception_1a/3x3_bn``.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from reid.errors import BuildError
from reid.types import FloatArray

from .layers import CaffeLayer, Setting, Shape, as_pair, conv_size, pooled_size
from .modules import function_settings, module_settings

EMBED = "embed"
"""The test graph of a vector network: the embedding before normalisation."""


class _Part(nn.Module):
    """The part of a network that one prototxt describes."""

    def __init__(self, network: nn.Module, method: str, field: str) -> None:
        super().__init__()
        self.network = network
        self.method, self.field = method, field

    def forward(self, data: Tensor) -> Any:
        network: Any = self.network
        if self.field:
            return getattr(network(data), self.field)
        return getattr(network, self.method)(data)


def traced_layers(
    network: nn.Module, input_shape: tuple[int, ...], method: str = EMBED, *, field: str = ""
) -> tuple[CaffeLayer, ...]:
    """The layers in execution order, starting with ``Input``, with every shape.

    ``input_shape`` is (channels, height, width); traced is the network's ``method``, or with
    ``field`` that field in the result of its ``forward``. Nothing is computed: the network is
    copied without its weights (to the meta device). Raises BuildError, naming the layer, if an
    operation has no Caffe equivalent, or Caffe would compute another size.
    """
    return tuple(_traced(network, input_shape, method, field).layers)


def traced_outputs(
    network: nn.Module, input_shape: tuple[int, ...], method: str = EMBED
) -> dict[str, Shape]:
    """The blobs that the traced method returns, and their shapes without the batch axis."""
    reader = _traced(network, input_shape, method, "")
    return {blob: tuple(reader.blobs[blob].shape[1:]) for blob in reader.outputs}


def _traced(
    network: nn.Module, input_shape: tuple[int, ...], method: str, field: str
) -> _LayerReader:
    memo: dict[int, Any] = {
        id(value): nn.Parameter(value.detach().to("meta"), requires_grad=False)
        for value in network.parameters()
    }
    memo.update((id(value), value.to("meta")) for value in network.buffers())
    reader = _LayerReader(copy.deepcopy(network, memo), method, field)
    with torch.no_grad():
        reader.run(torch.zeros(1, *input_shape, device="meta"))
    return reader


class TracedNetwork:
    """A copy of a network's test graph that returns every blob."""

    def __init__(self, network: nn.Module, method: str = EMBED) -> None:
        self._network, self._method = network, method
        self._reader = _LayerReader(copy.deepcopy(network).cpu().float(), method, "")

    def layers(self, input_shape: tuple[int, ...]) -> tuple[CaffeLayer, ...]:
        """Like the function ``traced_layers``."""
        return traced_layers(self._network, input_shape, self._method)

    def blobs(self, data: FloatArray) -> dict[str, FloatArray]:
        """Every blob for images (N, 3, H, W) float32, by name.

        As in Caffe, a blob written in place has the value of the last layer that wrote it.
        """
        with torch.inference_mode():
            self._reader.run(torch.from_numpy(data).clone())
        return {name: value.numpy() for name, value in self._reader.blobs.items()}


class _LayerReader(fx.Interpreter):  # type: ignore[misc,unused-ignore]
    """Runs a network and records each operation as a Caffe layer."""

    def __init__(self, network: nn.Module, method: str, field: str) -> None:
        wrapped = _Part(network.eval(), method, field)
        with torch.no_grad():  # inference, not training
            graph = fx.Tracer().trace(wrapped)
        super().__init__(fx.GraphModule(wrapped, graph))
        self.extra_traceback = False  # otherwise fx appends several lines to our one-line errors
        called = Counter(node.target for node in graph.nodes if node.op == _MODULE)
        self._shared = {target for target, count in called.items() if count > 1}
        self.layers: list[CaffeLayer] = []
        self.blobs: dict[str, Tensor] = {}
        self.outputs: tuple[str, ...] = ()
        self._blob_of: dict[fx.Node, str] = {}

    def run(self, *args: Any, **options: Any) -> Any:
        """Run the network from the start, discarding the records of earlier runs."""
        self.layers, self.blobs, self._blob_of = [], {}, {}
        return super().run(*args, **options)

    def run_node(self, n: fx.Node) -> Any:
        """Run the operation, then record it; in-place operations overwrite their blob."""
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        came = [tuple(value.shape[1:]) for value in _tensors(args)]
        result = super().run_node(n)
        if n.op == "output":
            self.outputs = tuple(self._blob_of[node] for node in n.all_input_nodes)
        if n.op == "output" or not isinstance(result, Tensor):
            return result
        if n.op == "call_function" and n.target is torch.flatten and self._only_for_products(n):
            self._blob_of[n] = self._blob_of[n.all_input_nodes[0]]
            return result
        for layer in self._layers(n, args, kwargs, came, tuple(result.shape[1:])):
            self.layers.append(layer)
            self._blob_of[n] = layer.tops[0]
            if layer.type == "Pooling" and layer.shape != result.shape[1:]:  # cut by Slices
                self.blobs[layer.tops[0]] = _pooled_up(_tensors(args)[0], layer)
            elif layer.type == "Slice":
                height, width = layer.shape[1:]
                self.blobs[layer.tops[0]] = self.blobs[layer.bottoms[0]][..., :height, :width]
        self.blobs[self._blob_of[n]] = result
        return result

    def _only_for_products(self, n: fx.Node) -> bool:
        """Whether only InnerProduct layers read a flattened blob: they flatten by themselves."""
        return all(
            user.op == _MODULE and isinstance(self._module(user), nn.Linear) for user in n.users
        )

    def _module(self, n: fx.Node) -> nn.Module:
        return self.module.get_submodule(str(n.target))

    def _layers(
        self, n: fx.Node, args: Any, kwargs: Any, came: list[Shape], shape: Shape
    ) -> list[CaffeLayer]:
        """The Caffe layer of node ``n``, or the two layers BatchNorm and Scale."""
        if n.op == "placeholder":
            return [CaffeLayer("Input", n.name, (), (n.name,), {}, shape)]
        path = _path(n)
        bottoms = tuple(self._blob_of[node] for node in _inputs(n))
        if n.op == _MODULE:
            module = self._module(n)
            kind, settings = module_settings(module, came[0], path)
        else:
            module, name = None, getattr(n.target, "__name__", str(n.target))
            kind, settings = function_settings(n, args, kwargs, path, name)
        path += _CALLS.get(kind, "")
        name = layer_name(path)
        if n.target in self._shared:
            name = self._unused(f"{bottoms[0]}_relu" if kind == "ReLU" else name)
        spare = _spare_sizes(kind, name, settings, came[0], shape)
        if spare:
            return _cut_pooling(name, bottoms, settings, shape, spare)
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

    def _unused(self, name: str) -> str:
        """``name``, or for the further calls of one module ``name`` with a number."""
        names = {layer.name for layer in self.layers}
        others = (f"{name}_{number}" for number in range(2, len(names) + 3))
        return next(one for one in (name, *others) if one not in names)


_MODULE = "call_module"
"""The operation of a node that calls a module."""

_CALLS = {"Concat": ".output", "Eltwise": ".sum", "Flatten": ".flat"}
"""Type of a call in a forward method -> what is added to the name of the module that calls it."""


def layer_name(path: str) -> str:
    """A module's path -> its layer's name: ``inception_1a.conv_1x1.bn`` -> ``.../1x1_bn``.

    ``conv_`` is dropped; it is only needed because Python names cannot start with a digit.
    """
    *block, last = path.split(".")
    if block and last in _PARTS:
        block, suffix = [*block[:-1], block[-1].removeprefix("conv_")], _PARTS[last]
        return "/".join(block) + suffix
    return "/".join([*block, last])


_PARTS = {"conv": "", "bn": "_bn", "relu": "_relu"}
"""Part of a ConvBnRelu -> suffix of the layer's name."""


def _normalisation(
    name: str, path: str, bottoms: tuple[str, ...], settings: dict[str, Setting], shape: Shape
) -> list[CaffeLayer]:
    """PyTorch's batch normalisation as two stock Caffe layers: BatchNorm, and Scale in place."""
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


def _cut_pooling(
    name: str, bottoms: tuple[str, ...], settings: dict[str, Setting], shape: Shape, spare: Shape
) -> list[CaffeLayer]:
    """Pooling that rounds down, which stock Caffe has not: it rounds up, and the last row and
    column, which have no counterpart, are cut off."""
    height, width = shape[1] + spare[0], shape[2] + spare[1]
    layers = [CaffeLayer("Pooling", name, bottoms, (name,), settings, (shape[0], height, width))]
    for axis, word in ((2, "rows"), (3, "columns")):
        if not spare[axis - 2]:
            continue
        before = layers[-1]
        top = f"{name}_{word}"
        cut = (*before.shape[: axis - 1], shape[axis - 1], *before.shape[axis:])
        end: dict[str, Setting] = {"axis": axis, "point": shape[axis - 1]}
        layers.append(CaffeLayer("Slice", top, before.tops[:1], (top, f"{top}_rest"), end, cut))
    return layers


def _pooled_up(maps: Tensor, layer: CaffeLayer) -> Tensor:
    """Max pooling with sizes rounded up, as Caffe's."""
    kernel, stride, pad = (as_pair(layer.settings[word]) for word in ("kernel", "stride", "pad"))
    return F.max_pool2d(maps, kernel, stride, pad, ceil_mode=True)


def _spare_sizes(
    kind: str, name: str, settings: Mapping[str, Any], came: Shape, shape: Shape
) -> Shape:
    """The rows and columns that Caffe's max pooling gives beyond PyTorch's; empty if none.

    Raises BuildError if Caffe's formula gives another size that cannot be cut.
    """
    if kind not in ("Convolution", "Pooling"):
        return ()
    sides = zip(came[1:], settings["kernel"], settings["stride"], settings["pad"], strict=True)
    if kind == "Pooling":
        expected = tuple(pooled_size(*side) for side in sides)
    else:
        dilation = settings["dilation"]
        expected = tuple(conv_size(*s, d) for s, d in zip(sides, dilation, strict=True))
    spare = tuple(one - other for one, other in zip(expected, shape[1:], strict=True))
    if kind == "Pooling" and settings["pool"] == "MAX" and 1 in spare and set(spare) <= {0, 1}:
        return spare
    if expected != shape[1:]:
        raise BuildError(
            f"{name}: for a {came[1]}x{came[2]} map PyTorch gives {shape[1]}x{shape[2]}, Caffe "
            f"would give {expected[0]}x{expected[1]}; choose another crop size"
        )
    return ()


def _path(n: fx.Node) -> str:
    """The path of the node's module, or of the module that calls it, as in the state dict."""
    if n.op == "call_module":
        return str(n.target).removeprefix("network.")
    stack = n.meta.get("nn_module_stack") or {}
    return next(reversed(stack), "").removeprefix("network.")


def _inputs(n: fx.Node) -> list[fx.Node]:
    """The nodes of the input tensors, in call order, without other arguments such as sizes."""
    if n.target is operator.add:
        return [value for value in n.args if isinstance(value, fx.Node)]
    first: Any = n.args[0] if n.args else ()
    given = first if isinstance(first, list | tuple) else [first]
    return [value for value in given if isinstance(value, fx.Node)]


def _tensors(args: Any) -> list[Tensor]:
    first = args[0] if args else ()
    found = first if isinstance(first, list | tuple) else [first]
    return [value for value in found if isinstance(value, Tensor)]
