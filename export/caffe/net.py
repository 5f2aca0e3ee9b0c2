"""Read a prototxt's layers as Caffe would set them up: phases, sizes, and settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from reid.caffe.schema import TEST, TRAIN, LayerParameter, NetParameter
from reid.errors import CaffeError, nearest

from .layer_types import COMPUTED, MAX_SIDE, slice_shapes
from .layers import CaffeLayer, Setting, Shape

DATA = ("Data", "ImageData", "MemoryData", "HDF5Data", "DummyData", "Python")
"""Layers that can supply images; the reference graph also uses Python for a loss."""

_ENDS = ("SoftmaxWithLoss", "EuclideanLoss", "ContrastiveLoss", "Accuracy", "Silence")
_FIRST_ONLY = ("GuidedDropout",)
"""Layers whose result, in the test phase, is that of their first bottom alone."""

_MAX_SUGGESTIONS = 20

KNOWN = ("Input", "Slice", *COMPUTED, *DATA, *_ENDS)

_Resolved = tuple[dict[str, Setting], tuple[Shape, ...], tuple[Shape, ...]]
"""Settings, shapes of the tops, shapes of the weights."""


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
    for layer in _Walk(where, input_shape).layers(net, phase):
        if layer.problem:
            raise CaffeError(layer.problem)
        yield layer


def readable_layers(
    net: NetParameter, where: str, *, input_shape: Shape = ()
) -> tuple[tuple[CaffeLayer, ...], CaffeError | None]:
    """The test phase's layers up to the first broken one, and the error of that layer."""
    layers: list[CaffeLayer] = []
    try:
        for layer in walk_net(net, where, input_shape=input_shape):
            layers.append(layer)
    except CaffeError as error:
        return tuple(layers), error
    return tuple(layers), None


def all_layers(net: NetParameter, where: str, *, input_shape: Shape = ()) -> tuple[CaffeLayer, ...]:
    """Every layer; one that cannot be computed has a ``problem``, and so has what reads it.

    So layers beside a network do not matter, whatever they are. The layers are those of the test
    phase, or of training if only that has an input. Raises CaffeError for a duplicate name.
    """
    return tuple(_Walk(where, input_shape).layers(net, phase_of(net)))


def phase_of(net: NetParameter) -> int:
    """TEST, or TRAIN for a net that has an input in training alone."""
    sources = [message for message in net.layer if not len(message.bottom)]
    tested = len(net.input) or any(_is_in(message, TEST) for message in sources)
    return TEST if tested or not sources else TRAIN


def included(net: NetParameter, phase: int) -> list[LayerParameter]:
    """The layers that Caffe sets up in a phase."""
    return [message for message in net.layer if _is_in(message, phase)]


class _Walk:
    """Resolves the layers of one net in file order."""

    def __init__(self, where: str, input_shape: Shape) -> None:
        self._where = where
        self._input_shape = input_shape
        self._shapes: dict[str, Shape] = {}
        self._images: set[str] = set()
        """Blobs of data layers, whose number of channels is not in the file."""
        self._problems: dict[str, str] = {}
        """Blob -> why its shape is not known."""
        self._suggestions = 0

    def layers(self, net: NetParameter, phase: int) -> Iterator[CaffeLayer]:
        """Each layer of ``phase``. Raises CaffeError for a duplicate name."""
        for layer in _legacy_inputs(net, self._where):
            self._shapes[layer.name] = layer.shape
            yield layer
        seen: set[str] = set()
        for message in included(net, phase):
            if message.name in seen:
                raise CaffeError(
                    f"{self._where}: expected unique layer names, found {message.name!r} twice"
                )
            seen.add(message.name)
            yield self._layer(message)

    def _layer(self, message: LayerParameter) -> CaffeLayer:
        """The layer. Afterwards its tops' shapes are known, or why they are not."""
        names = tuple(message.bottom), tuple(message.top)
        found: _Resolved = {}, (), ()
        problem = ""
        try:
            found = self._resolved(message)
        except CaffeError as error:
            problem = str(error)
        settings, shapes, blobs = found
        for index, blob in enumerate(message.top):
            self._shapes[blob] = shapes[index] if index < len(shapes) else ()
            self._problems.pop(blob, None)
            if problem:
                self._problems[blob] = problem
        shape = shapes[0] if shapes else ()
        return CaffeLayer(message.type, message.name, *names, settings, shape, blobs, (), problem)

    def _nearest(self, word: str, known: Iterable[str]) -> str:
        """Like ``nearest``, for the first words only: a hostile file has thousands of them."""
        self._suggestions += 1
        return nearest(word, known) if self._suggestions <= _MAX_SUGGESTIONS else ""

    def _resolved(self, message: LayerParameter) -> _Resolved:
        """Settings, the tops' shapes, the weights' shapes. Raises CaffeError."""
        kind, where = message.type, f"{self._where}: layer {message.name!r}"
        for bottom in message.bottom:
            if bottom not in self._shapes:
                raise CaffeError(
                    f"{where}: no earlier layer writes its bottom {bottom!r}"
                    f"{self._nearest(bottom, self._shapes)}"
                )
        if kind not in KNOWN:
            raise CaffeError(
                f"{where}: unknown type {kind!r}{self._nearest(kind, KNOWN)}; "
                f"known: {', '.join(KNOWN)}"
            )
        first = message.bottom[0] if len(message.bottom) else ""
        came = [self._shapes[bottom] for bottom in message.bottom]
        if kind == "Input":
            dims = tuple(message.input_param.shape[0].dim) if len(message.input_param.shape) else ()
            return {}, (_without_batch(dims, where, "data"),) * len(message.top), ()
        if kind in DATA and not came:
            self._images.update(message.top)
            return {}, (_data_shape(message, self._input_shape),) * len(message.top), ()
        if kind not in COMPUTED and kind != "Slice":
            return {}, (), ()  # a loss, or another end of the net
        if not came or not len(message.top):
            raise CaffeError(f"{where}: {kind} needs a bottom and a top")
        of_those_read = message.bottom[:1] if kind in _FIRST_ONLY else message.bottom
        for bottom in of_those_read:
            if bottom in self._problems:
                raise CaffeError(self._problems[bottom])
        if kind == "Slice" and first in self._images:
            self._images.update(message.top)
            return {}, (came[0],) * len(message.top), ()
        if kind == "Slice":
            return {}, slice_shapes(message, came[0], where), ()
        settings, shape, blobs = COMPUTED[kind](message, came, where)
        return settings, (shape,) * len(message.top), blobs


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


def _data_shape(message: LayerParameter, input_shape: Shape) -> Shape:
    """The crop of a data layer; crop_height and crop_width are fields of the DGD fork."""
    param = message.transform_param
    height, width = param.crop_height or param.crop_size, param.crop_width or param.crop_size
    return (3, int(height), int(width)) if height and width else input_shape
