"""Compare two Caffe graphs: that of the traced network and that of a prototxt."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from reid.errors import CaffeError, nearest

from .layers import CaffeLayer, Setting

_IMAGE = "the image"
_LONGEST_VALUE = 1000


def difference(expected: CaffeLayer, found: CaffeLayer) -> str:
    """The first difference, such as ``pad is (1, 1), expected (0, 0)``, or an empty string."""
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
) -> None:
    """Raise CaffeError, naming the layer, unless ``found`` computes the same as ``expected``.

    Layers are matched by name, so ``found`` may also have data layers, losses, a second tower and
    layers with a problem of their own. Compared are each layer's type, settings and sizes, and its
    input values. ReLU, Dropout and Scale count as part of a value, whatever their names and whether
    they work in place or not; the fork's BN counts as BatchNorm with its Scale.
    """
    ours, theirs = _computed(expected), _computed(found)
    problems = {layer.name: layer.problem for layer in found if layer.problem}
    for name, layer in ours.items():
        if name in problems:
            raise CaffeError(problems[name])
        if name not in theirs:
            raise CaffeError(
                f"{where}: expected a layer {name!r} ({layer.type}), found no such layer"
                f"{nearest(name, theirs)}; only this network's graph can be imported"
            )
        problem = difference(layer, theirs[name])
        if problem:
            raise CaffeError(
                f"{where}: layer {name!r}: {problem}; only this network's graph can be imported"
            )


def without_batch_norm(layers: Sequence[CaffeLayer]) -> tuple[CaffeLayer, ...]:
    """The layers of the same network with its batch norms folded into what they follow."""
    blob_of: dict[str, str] = {}
    kept = []
    for layer in layers:
        bottoms = tuple(blob_of.get(blob, blob) for blob in layer.bottoms)
        if layer.type in ("BatchNorm", "Scale"):
            blob_of.update(dict.fromkeys(layer.tops, bottoms[0]))
            continue
        in_place = layer.tops == layer.bottoms
        kept.append(
            dataclasses.replace(layer, bottoms=bottoms, tops=bottoms if in_place else layer.tops)
        )
    return tuple(kept)


def has_batch_norm(layers: Iterable[CaffeLayer]) -> bool:
    """Whether a graph normalises batches anywhere."""
    return any(layer.type in ("BatchNorm", "Scale", "BN") for layer in layers)


def scales_by_wiring(layers: Iterable[CaffeLayer]) -> dict[str, str]:
    """BatchNorm -> the Scale that completes it, the first that reads BatchNorm's output."""
    unscaled: dict[str, str] = {}
    """Blob -> the BatchNorm that computed its value."""
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
    """Name -> layer, with its bottoms replaced by the values they have at that point."""
    norm_of = {scale: norm for norm, scale in scales_by_wiring(layers).items()}
    value_of: dict[str, str] = {}
    computed: dict[str, CaffeLayer] = {}
    for layer in layers:
        if layer.problem:
            value_of.update(dict.fromkeys(layer.tops, f"{layer.name} ({layer.type})"))
            continue
        came = tuple(value_of[bottom] for bottom in layer.bottoms)
        value = _value(layer, came, norm_of) if came else _IMAGE
        value_of.update(dict.fromkeys(layer.tops, value))
        if layer.type in _HISTORY or not layer.settings:
            continue
        kind = "BatchNorm" if layer.type == "BN" else layer.type
        computed[layer.name] = dataclasses.replace(
            layer, type=kind, bottoms=came, tops=(), blob_shapes=()
        )
    return computed


def _value(layer: CaffeLayer, came: tuple[str, ...], norm_of: Mapping[str, str]) -> str:
    """A description of the layer's output value."""
    if layer.type == "BatchNorm":
        return f"{layer.name} before a Scale"
    if layer.type == "Scale":
        norm = norm_of.get(layer.name)
        return norm if norm and layer.settings["bias"] else f"{layer.name} (Scale)"
    if layer.type == "ReLU":
        slope = layer.settings["negative_slope"]
        described = f"{came[0]} after {f'leaky ReLU {slope}' if slope else 'ReLU'}"
        # A hostile file can have thousands in a row.
        return described if len(described) < _LONGEST_VALUE else layer.name
    if layer.type == "Slice":
        return _IMAGE if came == (_IMAGE,) else f"{layer.name} (Slice)"
    return came[0] if layer.type in _UNCHANGED else layer.name


_UNCHANGED = ("Dropout", "GuidedDropout", "Split")
"""Layers that do not change a value in the test phase."""

_HISTORY = ("Input", "Scale", "ReLU", *_UNCHANGED)


def _same(before: Setting | None, now: Setting | None) -> bool:
    if isinstance(before, float) and isinstance(now, float):
        # Files store float32: 1e-5 is read back as 9.99999975e-06.
        return abs(before - now) <= 1e-6 * abs(before)
    return before == now


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple) and len(value) == 1:
        return str(value[0])
    return "missing" if value is None else str(value)
