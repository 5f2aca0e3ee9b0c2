"""A Caffe layer as plain values, and writing layers to a prototxt.

The traced PyTorch network (``graph``) and a prototxt (``net``) are both converted to lists of
``CaffeLayer``, so that one comparison (``compare``) serves the import and the mirror test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reid.caffe.schema import AVE, MAX, LayerParameter, NetParameter

Setting = int | float | bool | str | tuple[int, ...]
Shape = tuple[int, ...]

POOLS = {MAX: "MAX", AVE: "AVE"}


@dataclass(frozen=True, slots=True)
class CaffeLayer:
    """One layer, with everything that affects its result.

    ``settings`` are resolved: ``kernel``, ``stride`` and ``pad`` are (height, width), and
    global pooling has its map's size as kernel. ``shape`` is the first top's, without the
    batch axis; ``blob_shapes`` are the shapes of the layer's weights in Caffe's order.
    ``weights`` are their names in the module's state dict (empty: not in the state dict),
    known only if the layer was traced. ``problem`` says why a layer of a file, or one that it
    reads, cannot be computed; the layer then has neither settings nor a shape.
    """

    type: str
    name: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    settings: Mapping[str, Setting] = field(default_factory=dict)
    shape: Shape = ()
    blob_shapes: tuple[Shape, ...] = ()
    weights: tuple[str, ...] = field(default=(), compare=False)
    problem: str = field(default="", compare=False)


def blob_writers(layers: Iterable[CaffeLayer]) -> dict[str, str]:
    """Blob -> the last layer that writes it, which determines its final value.

    Without what a Slice cuts off, its tops after the first.
    """
    return {
        top: layer.name
        for layer in layers
        for top in (layer.tops[:1] if layer.type == "Slice" else layer.tops)
    }


def conv_size(size: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> int:
    """Size of a convolution's output along one axis in Caffe: rounded down."""
    return (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1


def pooled_size(size: int, kernel: int, stride: int, pad: int) -> int:
    """Size of a pooled map along one axis in Caffe: rounded up, but no window only in the pad."""
    pooled = -(-(size + 2 * pad - kernel) // stride) + 1
    if pad > 0 and (pooled - 1) * stride >= size + pad:
        pooled -= 1
    return pooled


def net_from_layers(name: str, layers: Sequence[CaffeLayer], batch: int = 1) -> NetParameter:
    """The layers as a NetParameter without weights, for stock Caffe's test phase."""
    net = NetParameter(name=name)
    for layer in layers:
        _WRITERS[layer.type](net.layer.add(), layer, batch)
    return net


def _named(message: LayerParameter, layer: CaffeLayer) -> None:
    message.name, message.type = layer.name, layer.type
    message.bottom.extend(layer.bottoms)
    message.top.extend(layer.tops)


def _input(message: LayerParameter, layer: CaffeLayer, batch: int) -> None:
    _named(message, layer)
    message.input_param.shape.add().dim.extend((batch, *layer.shape))


def _convolution(message: LayerParameter, layer: CaffeLayer, batch: int) -> None:
    _named(message, layer)
    param = message.convolution_param
    param.num_output = layer.settings["num_output"]
    if not layer.settings["bias"]:
        param.bias_term = False
    _windows(param, layer.settings, repeated=True)
    if layer.settings["group"] != 1:
        param.group = layer.settings["group"]
    if layer.settings["dilation"] != (1, 1):
        param.dilation.extend(as_pair(layer.settings["dilation"]))


def _inner_product(message: LayerParameter, layer: CaffeLayer, batch: int) -> None:
    _named(message, layer)
    message.inner_product_param.num_output = layer.settings["num_output"]
    if not layer.settings["bias"]:
        message.inner_product_param.bias_term = False


def _pooling(message: LayerParameter, layer: CaffeLayer, batch: int) -> None:
    _named(message, layer)
    message.pooling_param.pool = {word: n for n, word in POOLS.items()}[str(layer.settings["pool"])]
    _windows(message.pooling_param, layer.settings, repeated=False)


def _batch_norm(message: LayerParameter, layer: CaffeLayer, batch: int) -> None:
    _named(message, layer)
    message.batch_norm_param.use_global_stats = True
    message.batch_norm_param.eps = layer.settings["eps"]


def _scale(message: LayerParameter, layer: CaffeLayer, batch: int) -> None:
    _named(message, layer)
    message.scale_param.bias_term = layer.settings["bias"]


def _dropout(message: LayerParameter, layer: CaffeLayer, batch: int) -> None:
    _named(message, layer)
    message.dropout_param.dropout_ratio = layer.settings["dropout_ratio"]


def _slice(message: LayerParameter, layer: CaffeLayer, batch: int) -> None:
    _named(message, layer)
    message.slice_param.axis = layer.settings["axis"]
    message.slice_param.slice_point.append(layer.settings["point"])


def _plain(message: LayerParameter, layer: CaffeLayer, batch: int) -> None:
    _named(message, layer)


_WRITERS = {
    "Input": _input,
    "Convolution": _convolution,
    "InnerProduct": _inner_product,
    "Pooling": _pooling,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "Dropout": _dropout,
    "ReLU": _plain,
    "Concat": _plain,
    "Eltwise": _plain,
    "Flatten": _plain,
    "Slice": _slice,
}


def _windows(param: object, settings: Mapping[str, Setting], *, repeated: bool) -> None:
    """Kernel, stride and pad: one number if height and width are equal, else both.

    Defaults (stride 1, pad 0) are omitted. A convolution's square field is a repeated one.
    """
    for word, default in (("kernel", 0), ("stride", 1), ("pad", 0)):
        height, width = as_pair(settings[word])
        if (height, width) == (default, default):
            continue
        if height != width:
            setattr(param, f"{word}_h", height)
            setattr(param, f"{word}_w", width)
            continue
        square = "kernel_size" if word == "kernel" else word
        if repeated:
            getattr(param, square).append(height)
        else:
            setattr(param, square, height)


def as_pair(value: Setting) -> tuple[int, int]:
    """A setting as (height, width). Raises TypeError if it is not a pair."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"expected (height, width), found {value!r}")
    return value[0], value[1]
