"""Read a prototxt's layers as Caffe would set them up: phases, sizes, and settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reid.caffe.schema import TEST, LayerParameter, NetParameter
from reid.errors import CaffeError, nearest

from .layer_types import COMPUTED, MAX_SIDE
from .layers import CaffeLayer, Setting, Shape

DATA = ("Data", "ImageData", "MemoryData", "HDF5Data", "DummyData", "Python")
"""Layers that can supply images; the reference graph also uses Python for a loss."""

_ENDS = ("SoftmaxWithLoss", "EuclideanLoss", "ContrastiveLoss", "Accuracy", "Silence")
KNOWN = ("Input", *COMPUTED, *DATA, *_ENDS)


def walk_net(
    net: NetParameter,
    where: str,
    *,
    phase: int = TEST,
    input_shape: Shape = (),
) -> Iterator[CaffeLayer]:
    """Each layer of ``phase`` in file order, resolved; ``where`` names the file in errors.

    ``input_shape`` (channels, height, width) is used for data layers that do not specify their
    crop. Raises a one-line CaffeError for an unknown type, a missing bottom, a duplicate name, or
    impossible sizes, after the layers before it have been yielded.
    """
    shapes: dict[str, Shape] = {}
    for layer in _legacy_inputs(net, where):
        shapes[layer.name] = layer.shape
        yield layer
    images = {name for layer in net.layer if layer.type == "Convolution" for name in layer.bottom}
    seen: set[str] = set()
    for message in net.layer:
        if not _is_in(message, phase):
            continue
        layer = _resolved(message, shapes, input_shape, f"{where}: layer {message.name!r}")
        if layer.name in seen:
            raise CaffeError(f"{where}: expected unique layer names, found {layer.name!r} twice")
        seen.add(layer.name)
        shapes.update(dict.fromkeys(layer.tops, layer.shape))
        if layer.type in DATA:
            shapes.update({top: () for top in layer.tops[1:] if top not in images})  # labels
        yield layer


def readable_layers(
    net: NetParameter, where: str, *, input_shape: Shape = ()
) -> tuple[tuple[CaffeLayer, ...], CaffeError | None]:
    """The test phase's layers up to the first broken one, and the error of that layer.

    A wrong pad often causes an error only where branches are joined. With the layers before
    it, a comparison can name the layer that is wrong.
    """
    layers: list[CaffeLayer] = []
    try:
        for layer in walk_net(net, where, input_shape=input_shape):
            layers.append(layer)
    except CaffeError as error:
        return tuple(layers), error
    return tuple(layers), None


def _is_in(message: LayerParameter, phase: int) -> bool:
    """Whether Caffe includes the layer: it matches an ``include`` rule if there are any, and
    otherwise matches no ``exclude`` rule. The net state is level 0, without Caffe's stages.
    """

    def meets(rule: Any) -> bool:
        right = not rule.HasField("phase") or rule.phase == phase
        return right and not len(rule.stage) and rule.min_level <= 0

    if len(message.include):
        return any(meets(rule) for rule in message.include)
    return not any(meets(rule) for rule in message.exclude)


def _legacy_inputs(net: NetParameter, where: str) -> Iterator[CaffeLayer]:
    """``input: "data"`` with ``input_dim`` or ``input_shape``, as an Input layer."""
    for index, name in enumerate(net.input):
        if index < len(net.input_shape):
            dims = tuple(net.input_shape[index].dim)
        else:
            dims = tuple(net.input_dim[4 * index : 4 * index + 4])
        yield CaffeLayer("Input", name, (), (name,), {}, _without_batch(dims, where, name))


def _without_batch(dims: tuple[int, ...], where: str, name: str) -> Shape:
    if len(dims) < 2 or not all(0 < dim <= MAX_SIDE for dim in dims):
        raise CaffeError(f"{where}: input {name!r}: expected positive sizes, found {dims}")
    return tuple(int(dim) for dim in dims[1:])


def _resolved(
    message: LayerParameter, shapes: dict[str, Shape], input_shape: Shape, where: str
) -> CaffeLayer:
    for bottom in message.bottom:
        if bottom not in shapes:
            raise CaffeError(
                f"{where}: no earlier layer writes its bottom {bottom!r}{nearest(bottom, shapes)}"
            )
    kind = message.type
    if kind not in KNOWN:
        raise CaffeError(
            f"{where}: unknown type {kind!r}{nearest(kind, KNOWN)}; known: {', '.join(KNOWN)}"
        )
    came = [shapes[bottom] for bottom in message.bottom]
    compute = COMPUTED.get(kind)
    settings: dict[str, Setting] = {}
    shape: Shape = ()
    blobs: tuple[Shape, ...] = ()
    if kind == "Input":
        dims = tuple(message.input_param.shape[0].dim) if len(message.input_param.shape) else ()
        shape = _without_batch(dims, where, "data")
    elif kind in DATA and not came:
        shape = _data_shape(message, input_shape)
    elif compute is not None:
        if not came or not len(message.top):
            raise CaffeError(f"{where}: {kind} needs a bottom and a top")
        settings, shape, blobs = compute(message, came, where)
    return CaffeLayer(
        kind, message.name, tuple(message.bottom), tuple(message.top), settings, shape, blobs
    )


def _data_shape(message: LayerParameter, input_shape: Shape) -> Shape:
    """The crop of a data layer; crop_height and crop_width are fields of the DGD fork."""
    param = message.transform_param
    height, width = param.crop_height or param.crop_size, param.crop_width or param.crop_size
    return (3, int(height), int(width)) if height and width else input_shape
