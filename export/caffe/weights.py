"""Copy weights between a PyTorch state dict and the blobs of Caffe's layers, by layer name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid.caffe.files import blob_array, blob_from_array, blob_shape
from reid.caffe.schema import LayerParameter, NetParameter
from reid.errors import CaffeError, few_of

from .layers import CaffeLayer, Shape

STATISTICS = ("inverse_std", "variance", "std")
"""Possible meanings of the fourth blob of the fork's BN. ``inverse_std``, 1 / sqrt(variance +
eps), is stored by the fork's CPU code; ``std`` is sqrt(variance)."""

_LISTED = 6
Values = NDArray[np.float32]


def layers_with_weights(
    net: NetParameter,
    layers: Sequence[CaffeLayer],
    state: Mapping[str, Tensor],
    count: int = 1,
) -> Iterator[LayerParameter]:
    """The layers of ``net`` with their weights, made one at a time.

    ``layers`` are the same layers in the same order; ``state`` is the network's state dict.
    BatchNorm keeps its statistics times ``count``, and ``count`` beside them.
    """
    for message, layer in zip(net.layer, layers, strict=True):
        filled = LayerParameter()
        filled.CopyFrom(message)
        times = np.float32(count if layer.type == "BatchNorm" else 1)
        for key in layer.weights:
            # The scale factor is not a tensor of the network; 1 means that nothing is divided.
            values = state[key].detach().cpu().float().numpy() if key else np.ones(1, np.float32)
            filled.blobs.append(blob_from_array(values * times))
        yield filled


@dataclass(frozen=True, slots=True)
class Source:
    """Weights to read, and how to interpret them. ``where`` names the file in errors."""

    net: NetParameter
    where: str
    statistic: str
    """The running statistic in the fork's BN: one of STATISTICS."""
    optional: str = ""
    """The only layer that may be missing or have other shapes."""
    scales: Mapping[str, str] = field(default_factory=dict)
    """BatchNorm -> its Scale, from the connections in the file's graph."""
    owners: Mapping[str, str] = field(default_factory=dict)
    """Layer -> the earlier layer whose weights it shares, from the file's graph."""
    classifier: str = ""
    """The classifier's name in the file, if it is another one."""

    def name_of(self, layer: CaffeLayer) -> str:
        """A layer's name in the file: a Scale and the classifier may have any, others the same."""
        if layer.name == self.optional:
            return self.classifier or layer.name
        return (
            self.scales.get(layer.bottoms[0], layer.name) if layer.type == "Scale" else layer.name
        )


@dataclass
class Matched:
    """Which tensors of a state dict were found, and notes for the user."""

    keys: set[str] = field(default_factory=set)
    without: list[str] = field(default_factory=list)
    """Problems of the optional layer: missing, or other shapes."""
    left_out: tuple[str, ...] = ()
    """Layers of the file that the network does not have, with their shapes."""
    shared: tuple[str, ...] = ()
    """Layers of a second tower, with the weights of the first."""
    unlike: tuple[str, ...] = ()
    """Layers of a second tower with weights of their own; they are left out."""
    num_fork_layers: int = 0
    scale_factors: tuple[float, ...] = ()


def fill_state(
    state: Mapping[str, Tensor], layers: Sequence[CaffeLayer], source: Source
) -> Matched:
    """Find the weights of every layer by name and copy them into the tensors of ``state``.

    Works in place, without a second copy of the network. Raises a one-line CaffeError with the
    layers that are missing or have other shapes; some of the tensors have been filled by then.
    """
    stored, where = _stored(source.net, source.where), source.where
    matched = Matched()
    problems: list[str] = []
    used: set[str] = set()
    ours = [layer for layer in layers if layer.weights]
    for layer, following in zip(ours, [*ours[1:], None], strict=True):
        name = source.name_of(layer)
        used.add(name)
        if layer.weights[0] in matched.keys:
            continue  # a Scale, already filled by the fork's BN
        try:
            found = _found(stored.get(name), layer, following, source, matched)
        except CaffeError as error:
            found_in = matched.without if layer.name == source.optional else problems
            found_in.append(str(error).removeprefix(f"{where}: "))
            continue
        for key, values in found.items():
            state[key].copy_(torch.from_numpy(values))
        matched.keys.update(found)
    if problems:
        listed = few_of(problems, _LISTED, "; ")
        raise CaffeError(f"{where} does not fit the network: {listed}")
    _sort_rest(matched, stored, used, source)
    return matched


def fill_folded(state: Mapping[str, Tensor], layers: Sequence[CaffeLayer], source: Source) -> None:
    """Let the batch norms of ``state`` pass their input on, for weights that contain them.

    A variance of 1 - eps is normalised to a factor of 1. Raises CaffeError if the weights have
    batch norms of their own, which are then not contained.
    """
    stored = {message.name for message in source.net.layer if len(message.blobs)}
    for layer in layers:
        if layer.type not in ("BatchNorm", "Scale"):
            continue
        if source.name_of(layer) in stored:
            raise CaffeError(
                f"{source.where} has batch norms ({source.name_of(layer)}), the prototxt has none: "
                "give the prototxt of these weights, or weights with the batch norms folded in"
            )
        eps = float(layer.settings.get("eps", 0.0))  # type: ignore[arg-type]
        values = (0.0, 1 - eps) if layer.type == "BatchNorm" else (1.0, 0.0)
        for key, value in zip(filter(None, layer.weights), values, strict=True):
            state[key].fill_(value)


_SECOND_TOWER = "_p"
"""How the names of a Siamese network's second tower end."""


def _sort_rest(
    matched: Matched, stored: Mapping[str, LayerParameter], used: set[str], source: Source
) -> None:
    """Sort the layers that the network does not have: a second tower's, and others."""
    shared, unlike, left_out = [], [], []
    for name, message in stored.items():
        if name in used:
            continue
        suffixed = name.removesuffix(_SECOND_TOWER)
        owner = source.owners.get(name, suffixed if suffixed != name else "")
        if owner not in used or owner not in stored:
            left_out.append(f"{name} {_sizes(message)}")
        elif _same_blobs(message, stored[owner], f"{source.where}: {name}"):
            shared.append(name)
        else:
            unlike.append(name)
    matched.shared, matched.unlike = tuple(shared), tuple(unlike)
    matched.left_out = tuple(left_out)


def _same_blobs(one: LayerParameter, other: LayerParameter, where: str) -> bool:
    """Whether two layers have the same weights, bit for bit."""
    return len(one.blobs) == len(other.blobs) and all(
        np.array_equal(blob_array(first, where), blob_array(second, where))
        for first, second in zip(one.blobs, other.blobs, strict=True)
    )


def _found(
    message: LayerParameter | None,
    layer: CaffeLayer,
    following: CaffeLayer | None,
    source: Source,
    matched: Matched,
) -> dict[str, Values]:
    """State-dict key -> values for one layer, and for the following Scale with the fork's BN."""
    name, where = source.name_of(layer), source.where
    if message is None:
        raise CaffeError(f"missing {name}")
    keys = layer.weights
    if layer.type == "BatchNorm" and len(message.blobs) == 4 and following is not None:
        matched.num_fork_layers += 1
        keys = (*keys, *following.weights)
        values = _fork_blobs(message, layer, source.statistic, where)
    else:
        values = _blobs(message, name, layer.blob_shapes, where)
        if layer.type == "BatchNorm":
            values = _statistics(values, matched, f"{where}: {name}")
    return dict(zip(filter(None, keys), values, strict=True))


def _stored(weights: NetParameter, where: str) -> dict[str, LayerParameter]:
    """Name -> layer, for the layers with weights."""
    stored: dict[str, LayerParameter] = {}
    for message in weights.layer:
        if not len(message.blobs):
            continue
        if message.name in stored:
            raise CaffeError(f"{where}: expected unique layer names, found {message.name} twice")
        stored[message.name] = message
    return stored


def _blobs(
    message: LayerParameter, name: str, shapes: tuple[Shape, ...], where: str
) -> list[Values]:
    """The layer's blobs. Raises CaffeError for other shapes or values that are not finite."""
    if len(message.blobs) != len(shapes):
        raise CaffeError(f"{where}: {name}: expected {len(shapes)} blobs, found {_shapes(message)}")
    found: list[Values] = []
    for index, (blob, shape) in enumerate(zip(message.blobs, shapes, strict=True)):
        here = f"{where}: {name} blob {index}"
        stored = blob_shape(blob, here)
        # Files from before BlobShape have four axes, padded with ones on the left.
        if stored not in (shape, (1,) * (4 - len(shape)) + shape):
            raise CaffeError(f"{here}: expected {shape}, found {stored}")
        values = blob_array(blob, here).reshape(shape)
        if not np.isfinite(values).all():
            raise CaffeError(f"{here}: expected finite values, found NaN or infinity")
        found.append(values)
    return found


def _shapes(message: LayerParameter) -> str:
    return f"{len(message.blobs)}: {_sizes(message)}"


def _sizes(message: LayerParameter) -> str:
    return ", ".join(str(blob_shape(blob)) for blob in message.blobs)


def _statistics(found: list[Values], matched: Matched, where: str) -> list[Values]:
    """Mean and variance: the stored sums divided by their scale factor; 0 means no data."""
    mean, variance, factors = found
    factor = float(factors[0])
    matched.scale_factors = tuple(sorted({*matched.scale_factors, factor}))
    if factor == 0:
        return [np.zeros_like(mean), np.zeros_like(variance)]
    # Divide in float64; Caffe multiplies by a rounded 1 / factor, which adds a rounding error.
    divided = [_single(part.astype(np.float64) / factor, where) for part in found[:2]]
    if divided[1].min() < 0:
        raise CaffeError(f"{where}: expected a variance of at least 0, found {divided[1].min():g}")
    return divided


def _fork_blobs(
    message: LayerParameter, layer: CaffeLayer, statistic: str, where: str
) -> list[Values]:
    """The fork's four blobs -> mean, variance, scale, shift, each (C,)."""
    (channels,) = layer.blob_shapes[0]
    shape = (1, channels)
    scale, shift, mean, kept = (
        blob.reshape(-1) for blob in _blobs(message, layer.name, (shape,) * 4, where)
    )
    eps = float(layer.settings["eps"])  # type: ignore[arg-type]
    variance = variance_from_statistic(kept, statistic, eps, f"{where}: {layer.name}")
    return [mean, variance, scale, shift]


def variance_from_statistic(kept: Values, statistic: str, eps: float, where: str) -> Values:
    """The running variance of a fork's BN from its stored running statistic.

    Raises CaffeError for values that this statistic cannot have; then it is another one.
    """
    values = kept.astype(np.float64)
    lowest, highest = float(values.min()), float(values.max())
    if statistic == "variance":
        fits, rule, variance = lowest >= 0, "at least 0", values
    elif statistic == "std":
        fits, rule, variance = lowest >= 0, "at least 0", values**2
    else:
        most = 1 / math.sqrt(eps)
        # 1e-3: by float32 rounding, a variance of 0 can exceed the bound slightly.
        fits = lowest > 0 and highest <= most * (1 + 1e-3)
        rule = f"above 0 and at most 1 / sqrt(eps) = {most:.6g}"
        variance = np.maximum(1 / np.where(values > 0, values, 1) ** 2 - eps, 0)
    if not fits:
        others = " or ".join(word for word in STATISTICS if word != statistic)
        raise CaffeError(
            f"{where}: expected a running statistic {rule} for {statistic}, found {lowest:.6g} "
            f"to {highest:.6g}; try --bn-statistic {others}"
        )
    return _single(variance, where)


def _single(values: NDArray[np.float64], where: str) -> Values:
    """Convert to float32. Raises CaffeError for values outside its range."""
    most = float(np.abs(values).max())
    if most > float(np.finfo(np.float32).max):
        raise CaffeError(f"{where}: expected statistics in the range of float32, found {most:g}")
    return np.asarray(values, np.float32)
