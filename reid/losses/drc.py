"""The DRC loss of SiSNet: both scales of an image should rely on the same regions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reid.losses.settings import DEFAULTS

GRIDS = ("larger", "lcm")
NORMALISATIONS = ("minmax", "l2", "none")

FLAT = 1e-6
"""A map whose span is at most this share of its largest value counts as flat: it is float32's
rounding, which min-max scaling would raise to the size of a region."""


def drc_loss(
    first: Tensor,
    second: Tensor,
    *,
    normalise: str = DEFAULTS.drc_normalise,
    grid: str = DEFAULTS.drc_grid,
    rectify: bool = DEFAULTS.drc_rectify,
) -> Tensor:
    """Mean squared difference of the images' two activation maps, over images and positions.

    Discriminative region consistency: Zhang et al.'s poster gives the aim but no formula. The
    defaults are inferred; ``normalise`` "none" with ``grid`` "lcm" is the scale loss of Guo et
    al. (CVPR 2019, visual attention consistency) for one class.

    Args:
        first, second: (N, h, w) and (N, h', w') maps of the same images, each covering all of
            the image; half precision is computed in float32.
        normalise: how maps of different strength are made comparable, per image: "minmax" to
            0 .. 1, "l2" to length 1, or "none". A flat map becomes 0 by "minmax", a map of zeros
            by "l2", and gets no gradient.
        grid: see ``on_one_grid``.
        rectify: evidence against the class counts as 0.

    Returns a scalar, 0 for identical maps. Raises ValueError for unknown words, for maps of
    different numbers of images, or for no images.
    """
    for name, value, known in (("normalise", normalise, NORMALISATIONS), ("grid", grid, GRIDS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}; found {value!r}")
    if first.dim() != 3 or second.dim() != 3 or len(first) != len(second) or len(first) == 0:
        raise ValueError(
            "drc_loss needs two maps (N, h, w) of each of at least one image, found shapes "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    with torch.autocast(first.device.type, enabled=False):
        maps = [x if x.element_size() >= 4 else x.float() for x in (first, second)]
        if rectify:
            maps = [x.clamp(min=0) for x in maps]
        one, other = (_normalised(x, normalise) for x in on_one_grid(maps[0], maps[1], grid))
        return F.mse_loss(one, other)


def on_one_grid(
    first: Tensor, second: Tensor, grid: str = DEFAULTS.drc_grid
) -> tuple[Tensor, Tensor]:
    """(N, h, w), (N, h', w') -> both on one grid, bilinear, cells taken as squares.

    ``grid`` is per axis the "larger" of the two sizes, or their least common multiple, "lcm".
    """
    combine = math.lcm if grid == "lcm" else max
    size = [combine(*sides) for sides in zip(first.shape[1:], second.shape[1:], strict=True)]
    one, other = (
        F.interpolate(x[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        for x in (first, second)
    )
    return one, other


def _normalised(maps: Tensor, how: str) -> Tensor:
    """Maps with values that are not finite are never flat, so that the loss shows them."""
    if how == "minmax":
        lowest, highest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        span = highest - lowest
        flat = span <= FLAT * torch.maximum(lowest.abs(), highest.abs())
        return torch.where(flat, 0, maps - lowest) / torch.where(flat, 1, span)
    if how == "l2":
        squared = maps.square().sum((1, 2), keepdim=True)
        nothing = squared == 0
        return torch.where(nothing, 0, maps) * torch.where(nothing, 1, squared).rsqrt()
    return maps
