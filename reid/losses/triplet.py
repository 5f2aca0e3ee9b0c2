"""The batch-hard triplet loss."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reid.losses.settings import DEFAULTS


def triplet_loss(
    features: Tensor,
    labels: Tensor,
    margin: float = DEFAULTS.triplet_margin,
    soft_margin: bool = DEFAULTS.triplet_soft_margin,
) -> Tensor:
    """Mean over the images of max(0, margin + d_p - d_n), or of ln(1 + exp(d_p - d_n)).

    Hermans et al., "In Defense of the Triplet Loss" (2017), batch hard and its soft margin: each
    image is an anchor, d_p its Euclidean distance to the farthest other image of its identity,
    d_n to the nearest image of another identity. SiSNet's poster says "triplet" only; the form, the
    margin and features that are not L2-normalised are inferred (Luo et al. 2019).

    Args:
        features: (N, D); half precision is computed in float32.
        labels: (N,) int64.
        margin: in the features' units; not used with ``soft_margin``.

    Returns a scalar. An image without another of its identity is excluded from the mean; if none
    is left, or all have one identity, the loss is 0. If two features are equal, their distance
    has slope 0.
    """
    with torch.autocast(features.device.type, enabled=False):
        vectors = features if features.element_size() >= 4 else features.float()
        distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
        same = labels[:, None] == labels
        others = same ^ torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        anchors = others.any(1)
        farthest = distances.masked_fill(~others, -math.inf).amax(1)
        nearest = distances.masked_fill(same, math.inf).amin(1)  # infinite: the term is 0
        gap = torch.where(anchors, farthest - nearest, 0)
        terms = F.softplus(gap) if soft_margin else (margin + gap).clamp(min=0)
        return torch.where(anchors, terms, 0).sum() / anchors.sum().clamp(min=1)
