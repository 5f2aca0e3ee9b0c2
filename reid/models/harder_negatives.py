"""Negative pairs that are harder than random ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reid.losses.settings import DEFAULTS


@torch.no_grad()
def harder_negatives(
    vectors: Tensor,
    labels: Tensor,
    cameras: Tensor,
    pair_first: Tensor,
    pair_second: Tensor,
    pair_same: Tensor,
    candidates: int = DEFAULTS.negative_candidates,
) -> Tensor:
    """The pairs' second images, those of negative pairs chosen by their distance.

    The papers draw negatives at random. Here the second image of a negative pair is chosen among
    ``candidates`` images: the pair's own, and others of other people that are drawn from the batch.
    The one nearest to the first image is taken, so more candidates are harder. Candidates are of
    the first image's camera if the pair's own second image is, and else of other cameras: images of
    one camera are more alike and would nearly always win.

    Args:
        vectors: (N, D), compared by their Euclidean distance.
        labels, cameras: (N,) int64, the people and their cameras.
        pair_first, pair_second: (P,) int64 indices into the images.
        pair_same: (P,) bool, True for a positive pair.
        candidates: at least 1; more than there are images of other people are all of them.

    Returns (P,) int64, without a gradient.
    """
    if candidates <= 1:
        return pair_second
    one_camera = cameras[pair_first][:, None] == cameras[None]  # (P, N)
    as_it_has = cameras[pair_first] == cameras[pair_second]
    others = (labels[pair_first][:, None] != labels[None]) & (one_camera == as_it_has[:, None])
    lots = torch.rand(others.shape, device=labels.device).masked_fill(~others, -1)
    drawn = lots.topk(min(candidates - 1, len(labels)), dim=1).indices
    options = torch.cat([pair_second[:, None], drawn], 1)
    rows = vectors if vectors.element_size() >= 4 else vectors.float()
    distances = torch.linalg.vector_norm(rows[pair_first][:, None] - rows[options], dim=2)
    allowed = others.gather(1, options)
    nearest = distances.masked_fill(~allowed, math.inf).argmin(1, keepdim=True)
    return torch.where(pair_same, pair_second, options.gather(1, nearest).squeeze(1))
