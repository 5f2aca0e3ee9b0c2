"""The identity loss: softmax over the training identities, for the anchors only."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from reid.losses.settings import DEFAULTS


def softmax_loss(
    logits: Tensor,
    labels: Tensor,
    anchors: Tensor,
    label_smoothing: float = DEFAULTS.label_smoothing,
) -> Tensor:
    """Mean cross-entropy of the anchor images; the other images of pairs are not classified.

    That MSP-CNN classifies only the anchor is known from reading notes of the full paper.
    Averaged as Caffe's SoftmaxWithLoss does. With ``label_smoothing`` e (not in the paper;
    Szegedy et al. 2016) the true identity's target is 1 - e + e / M, every other's e / M.

    Args:
        logits: (N, M), of ``fc8``; computed in float32 under autocast.
        labels: (N,) int64 in 0 .. M - 1.
        anchors: (A,) int64 indices into the batch.

    Returns a scalar. Raises ValueError without anchors: their mean would be undefined.
    """
    if anchors.numel() == 0:
        raise ValueError("softmax_loss needs at least one anchor, found none")
    scores = logits[anchors]
    if scores.element_size() < 4:
        scores = scores.float()
    return F.cross_entropy(scores, labels[anchors], label_smoothing=label_smoothing)
