"""Two Caffe graphs held against one another: the traced network's and a prototxt's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from reid.errors import CaffeError, nearest

from .layers import CaffeLayer, Setting

_IMAGE = "the image"


def difference(expected: CaffeLayer, found: CaffeLayer) -> str:
    """``pad is (1, 1), expected (0, 0)`` for what differs first, or an empty string."""
    for key in ("name", "type", "bottoms", "tops"):
        before, now = getattr(expected, key), getattr(found, key)
        if before != now:
            return f"{key} is {_shown(now)}, expected {_shown(before)}"
    for key in dict.fromkeys([*expected.settings, *found.settings]):
        before, now = expected.settings.get(key), found.settings.get(key)
        if not _same(before, now):
            return f"{key} is {_shown(now)}, expected {_shown(before)}"
    for key in ("blob_shapes", "shape"):
        before, now = getattr(expected, key), getattr(found, key)
        if before != now:
            return f"{key.replace('_', ' ')} is {_shown(now)}, expected {_shown(before)}"
    return ""


def check_graph(
    expected: Sequence[CaffeLayer],
    found: Sequence[CaffeLayer],
    where: str,
    broken: CaffeError | None = None,
) -> None:
    """Raise CaffeError, naming the layer, unless ``found`` computes what ``expected`` does.

    ``broken`` is what ended ``found`` early: raised unless a layer before it differs.
    Layers are looked up by name: data, losses and a second tower may stand beside them. What
    counts is each layer's type, settings and sizes, and the values that go into it. ReLU,
    Dropout and Scale are parts of a value's history, whatever they are called and whether
    they work in place; the fork's BN is BatchNorm with its Scale.
    """
    ours, theirs = _computed(expected), _computed(found)
    for name, layer in ours.items():
        if name not in theirs and broken is not None:
            raise broken
        if name not in theirs:
            raise CaffeError(
                f"{where}: expected a layer {name!r} ({layer.type}), found none"
                f"{nearest(name, theirs)}; only a graph of this network can be imported"
            )
        problem = difference(layer, theirs[name])
        if problem:
            raise CaffeError(
                f"{where}: layer {name!r}: {problem}; only a graph of this network can be imported"
            )
    if broken is not None:
        raise broken


def scales_by_wiring(layers: Iterable[CaffeLayer]) -> dict[str, str]:
    """BatchNorm -> the Scale that completes it: the first whose bottom is what BatchNorm wrote."""
    unscaled: dict[str, str] = {}
    """Blob -> the BatchNorm whose value it holds."""
    scales: dict[str, str] = {}
    for layer in layers:
        norm = unscaled.get(layer.bottoms[0]) if layer.bottoms else None
        for top in layer.tops:
            unscaled.pop(top, None)
        if layer.type == "BatchNorm":
            unscaled.update(dict.fromkeys(layer.tops, layer.name))
        elif layer.type == "Scale" and norm is not None:
            scales.setdefault(norm, layer.name)
        elif layer.type in _UNCHANGED and norm is not None:
            unscaled.update(dict.fromkeys(layer.tops, norm))
    return scales


def _computed(layers: Sequence[CaffeLayer]) -> dict[str, CaffeLayer]:
    """Name -> layer, its bottoms replaced by the values that they stand for there."""
    norm_of = {scale: norm for norm, scale in scales_by_wiring(layers).items()}
    value_of: dict[str, str] = {}
    computed: dict[str, CaffeLayer] = {}
    for layer in layers:
        came = tuple(value_of[bottom] for bottom in layer.bottoms)
        value = _value(layer, came, norm_of) if value_of else _IMAGE
        value_of.update(dict.fromkeys(layer.tops, value))
        if layer.type in _HISTORY or not layer.settings:
            continue
        kind = "BatchNorm" if layer.type == "BN" else layer.type
        computed[layer.name] = dataclasses.replace(
            layer, type=kind, bottoms=came, tops=(), blob_shapes=()
        )
    return computed


def _value(layer: CaffeLayer, came: tuple[str, ...], norm_of: Mapping[str, str]) -> str:
    """What the layer's tops stand for after it, in words."""
    if layer.type == "BatchNorm":
        return f"{layer.name} before a Scale"
    if layer.type == "Scale":
        norm = norm_of.get(layer.name)
        return norm if norm and layer.settings["bias"] else f"{layer.name} (Scale)"
    if layer.type == "ReLU":
        slope = layer.settings["negative_slope"]
        return f"{came[0]} after {f'leaky ReLU {slope}' if slope else 'ReLU'}"
    return came[0] if layer.type in _UNCHANGED else layer.name


_UNCHANGED = ("Dropout", "Split")
"""Nothing happens to a value in these in the test phase."""

_HISTORY = ("Input", "Scale", "ReLU", *_UNCHANGED)


def _same(before: Setting | None, now: Setting | None) -> bool:
    if isinstance(before, float) and isinstance(now, float):
        # A file holds float32: 1e-5 comes back as 9.99999975e-06.
        return abs(before - now) <= 1e-6 * abs(before)
    return before == now


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple) and len(value) == 1:
        return str(value[0])
    return "missing" if value is None else str(value)
