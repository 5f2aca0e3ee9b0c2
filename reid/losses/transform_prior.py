"""The prior on CSN's attention: upright parts inside their stripes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reid.losses.settings import DEFAULTS


def transform_prior_loss(
    thetas: Sequence[Tensor],
    scale_weight: float = DEFAULTS.prior_scale_weight,
    inside_weight: float = DEFAULTS.prior_inside_weight,
    rotation_weight: float = DEFAULTS.prior_rotation_weight,
    min_scale: float = DEFAULTS.prior_min_scale,
    extent: float = DEFAULTS.prior_extent,
) -> Tensor:
    """Mean over all transforms of the sum, over the two axes, of

        scale_weight * max(0, min_scale - s)
        + inside_weight / 2 * (max(0, (s + t)^2 - extent) + max(0, (s - t)^2 - extent))
        + rotation_weight * |r|

    CSN, section 4.2, names the three aims (scales above 0, parts inside the image, L1 on the
    rotations) and no formula; the first two are those of the latent parts of Li et al.
    (CVPR 2017), which it cites. The constants and the weights are inferred.

    Args:
        thetas: per level (..., 2, 3) of ((s_w, r_w, t_w), (r_h, s_h, t_h)), coordinates in
            [-1, 1]; half precision is computed in float32.

    Returns a scalar. Raises ValueError without transforms: their mean would be undefined.
    """
    theta = torch.cat([level.reshape(-1, 2, 3) for level in thetas]) if thetas else torch.empty(0)
    if theta.numel() == 0:
        raise ValueError("transform_prior_loss needs at least one transform, found none")
    theta = theta if theta.element_size() >= 4 else theta.float()
    scale = torch.stack([theta[:, 0, 0], theta[:, 1, 1]], 1)
    rotation = torch.stack([theta[:, 0, 1], theta[:, 1, 0]], 1)
    translation = theta[:, :, 2]
    upright = (min_scale - scale).clamp(min=0)
    ends = ((scale + translation).square(), (scale - translation).square())
    outside = sum(((end - extent).clamp(min=0) for end in ends), torch.zeros_like(scale)) / 2
    terms = scale_weight * upright + inside_weight * outside + rotation_weight * rotation.abs()
    return terms.sum(1).mean()
