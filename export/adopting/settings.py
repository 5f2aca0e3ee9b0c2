"""How a network of another program wants its images, from what its user says of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reid.errors import ConfigError, nearest
from reid.model_file.preprocess import MAX_EDGE, Preprocess

Three = tuple[float, float, float]
Given = str | Sequence[float]
"""A preset's name or three numbers; as text ``a,b,c``. Empty: not given."""
Size = tuple[int, int]
"""Height and width."""

PRESETS: dict[str, tuple[Three, Three]] = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "caffe": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Name -> mean and std of red, green, blue, for pixels of 0-255: torchvision's, those of Caffe's
ImageNet networks, and none for a graph that normalises by itself."""

_ONES: Three = (1.0, 1.0, 1.0)
_ZEROS: Three = (0.0, 0.0, 0.0)
_LOWEST_STD = 2.0
"""A smaller one gives inputs beyond 100; networks outside Caffe take a few units."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user says of a network's images; what is empty is found or assumed."""

    mean: Given = ""
    std: Given = ""
    channels: str = ""
    resize: str | Size = ""
    crop: str | Size = ""
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name in ("mean", "std", "resize", "crop"):
            value: Any = getattr(self, name)
            if not isinstance(value, str):  # lists and arrays too, or one number
                plain = tuple(value) if isinstance(value, Iterable) else (value,)
                object.__setattr__(self, name, plain)


def chosen_preprocess(
    wanted: Wanted, graph_size: tuple[int | None, int | None]
) -> tuple[Preprocess, list[str], list[str]]:
    """The preprocessing, what was assumed, and what looks wrong, as lines.

    ``graph_size`` is the height and width that the graph states, None where it leaves them free.
    Raises ConfigError.
    """
    presets = [value for value in (wanted.mean, wanted.std) if isinstance(value, str)]
    order = wanted.channels.upper() or ("BGR" if "caffe" in presets else "RGB")
    mean, std, notes, doubts = _normalisation(wanted.mean, wanted.std, order)
    if not wanted.channels:
        notes.insert(0, f"channels: {order} (assumed; --rgb or --bgr says it)")
    crop = _crop(_size(wanted.crop, "--crop"), graph_size)
    resize = _size(wanted.resize, "--resize") or crop
    preprocess = Preprocess(*resize, *crop, order, mean, std, wanted.interpolation)
    return preprocess, notes, doubts


def _crop(asked: Size | None, graph_size: tuple[int | None, int | None]) -> Size:
    """The input's height and width. Raises ConfigError."""
    height, width = graph_size
    if asked is None:
        if height is None or width is None:
            raise ConfigError(
                "the graph leaves the height or width of its input free; say them with --crop HxW, "
                "such as --crop 256x128"
            )
        return height, width
    for own, found in zip(asked, graph_size, strict=True):
        if found is not None and own != found:
            raise ConfigError(
                f"the graph takes images of {height or 'any'}x{width or 'any'} (height x width), "
                f"found --crop {asked[0]}x{asked[1]}; leave --crop out"
            )
    return asked


def _size(given: str | Size, option: str) -> Size | None:
    """``256x128`` or (256, 128) -> height and width; None if empty. Raises ConfigError."""
    if not given:
        return None
    text = given if isinstance(given, str) else "x".join(map(str, given))
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text, re.ASCII)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= side <= MAX_EDGE for side in size):
        raise ConfigError(
            f"{option} is height x width in pixels, 1 to {MAX_EDGE} each, such as 256x128; found "
            f"{text!r}"
        )
    return size


def _normalisation(
    mean: Given, std: Given, order: str
) -> tuple[Three, Three, list[str], list[str]]:
    """Mean and std in the channels' order for pixels of 0-255, notes, and what looks wrong."""
    notes = []
    if not (mean or std):
        mean = std = "imagenet"
        notes.append("mean and std: imagenet (assumed; --mean and --std say them)")
    for given, name in ((mean, "mean"), (std, "std")):
        if given:
            _three(given, name, order)
    # A preset says both; numbers for one alone say nothing of the other.
    mean = mean or (std if isinstance(std, str) and std in PRESETS else "")
    std = std or (mean if isinstance(mean, str) and mean in PRESETS else "")
    if not (mean and std):
        one, other = ("--mean", "--std") if mean else ("--std", "--mean")
        raise ConfigError(
            f"numbers are given for {one}; give {other} too, or a preset: {', '.join(PRESETS)}"
        )
    means, known_mean = _three(mean, "mean", order)
    stds, known_std = _three(std, "std", order)
    unit = _unit(None if known_mean else means, None if known_std else stds)
    if unit == 1:
        means = means if known_mean else _scaled(means)
        stds = stds if known_std else _scaled(stds)
    if not (known_mean and known_std):
        words = "0-1, taken times 255" if unit == 1 else "0-255"
        notes.append(f"mean and std: read as those of pixels of {words}")
    doubts = []
    if min(stds) < _LOWEST_STD and not known_std:
        doubts.append(
            f"std {min(stds):g} is very small for pixels of 0-255; for pixels of 0-1 give both "
            "--mean and --std in 0-1, such as --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
        )
    return means, stds, notes, doubts


def _three(given: Given, name: str, order: str) -> tuple[Three, bool]:
    """The three numbers, and whether they are a preset's. Raises ConfigError."""
    if isinstance(given, str) and given in PRESETS:
        red, green, blue = PRESETS[given][name == "std"]
        return ((red, green, blue) if order == "RGB" else (blue, green, red)), True
    parts = given.split(",") if isinstance(given, str) else list(given)
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    low = min(numbers, default=-1) >= 0 and (name == "mean" or min(numbers) > 0)
    if len(numbers) != 3 or not low or not max(numbers) <= 255:
        close = nearest(given, PRESETS) if isinstance(given, str) else ""
        bounds = "0 to 255" if name == "mean" else "above 0, at most 255"
        raise ConfigError(
            f"--{name} is {', '.join(PRESETS)} or three numbers a,b,c ({bounds}) in the channels' "
            f"order; found {given!r}{close}"
        )
    first, second, third = numbers
    return (first, second, third), False


def _unit(means: Three | None, stds: Three | None) -> int:
    """The largest pixel, 1 or 255, that the numbers were measured for; None stands for a preset.

    Raises ConfigError where mean and std disagree, or nothing tells.
    """
    units = {
        1 if max(values) <= 1 else 255
        for values, silent in ((means, _ZEROS), (stds, _ONES))
        if values is not None and values != silent
    }
    if len(units) > 1:
        raise ConfigError(
            f"--mean {means} and --std {stds} are of two ranges, one of pixels of 0-1, one of "
            "0-255; give both in one range"
        )
    if not units and means == _ZEROS and stds == _ONES:
        raise ConfigError(
            "--mean 0 with --std 1 fits two kinds of networks; say --mean none if the network "
            "takes pixels of 0-255, or --mean 0,0,0 --std 255,255,255 if it takes 0-1"
        )
    return units.pop() if units else 255


def _scaled(values: Three) -> Three:
    first, second, third = (round(255 * value, 6) for value in values)
    return first, second, third
