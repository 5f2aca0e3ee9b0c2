"""The Euclidean loss on FC7: the high level of MSP-CNN's similarity."""

from __future__ import annotations

import torch
from torch import Tensor

from reid.losses.settings import DEFAULTS


def euclidean_loss(
    features: Tensor,
    pair_first: Tensor,
    pair_second: Tensor,
    pair_same: Tensor,
    margin: float = DEFAULTS.euclidean_margin,
    gradient_eps: float = DEFAULTS.euclidean_gradient_eps,
) -> Tensor:
    """Contrastive loss on L2-normalised features: pull positive pairs, push negative ones.

        L = 1 / (2 P) * sum(y * d^2 + (1 - y) * max(0, margin - d)^2)

    with d = |f1 / |f1| - f2 / |f2|| in [0, 2]. MSP-CNN, section 2.1, states the
    normalisation, the distance and its aim; the form and the margin are inferred (CSN's).
    Without pairs the loss is 0.

    Args:
        features: (N, D); half precision is computed in float32.
        pair_first, pair_second: (P,) int64 indices into ``features``.
        pair_same: (P,) bool, True for a positive pair.
        gradient_eps: added to d where a negative pair's gradient divides by it, so that d = 1e-3
            gets 0.9 of its gradient for Caffe's 1e-4. With 0 it is the gradient of L.

    Returns a scalar. The gradient is finite everywhere: at d = 0, where a negative pair
    has no direction, and for a feature of zeros, it is 0.
    """
    with torch.autocast(features.device.type, enabled=False):
        vectors = _unit_rows(features if features.element_size() >= 4 else features.float())
        squared = (vectors[pair_first] - vectors[pair_second]).square().sum(1)
        distance = _root(squared)
        if gradient_eps:
            share = (distance / (distance + gradient_eps)).detach()
            distance = distance.detach() + share * (distance - distance.detach())
        gap = (margin - distance).clamp(min=0)
        terms = torch.where(pair_same, squared, gap.square())
        return terms.sum() / (2 * max(1, pair_same.numel()))


def _unit_rows(features: Tensor) -> Tensor:
    """(N, D) with every row of length 1; a row of zeros stays, with no gradient."""
    squared = features.square().sum(1, keepdim=True)
    return features * torch.where(squared > 0, torch.where(squared > 0, squared, 1).rsqrt(), 0)


def _root(squared: Tensor) -> Tensor:
    """Square root with slope 0 at 0: the root of a safe value, masked twice so that the chain rule
    never multiplies an infinite slope by zero."""
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1).sqrt(), 0)
