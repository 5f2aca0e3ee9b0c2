"""CSN's training objective."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from torch import Tensor, nn

from reid.losses.batch import Batch
from reid.losses.euclidean import euclidean_loss
from reid.losses.identity import softmax_loss
from reid.losses.pair_classification import pair_classification_loss
from reid.losses.settings import LossConfig
from reid.losses.transform_prior import transform_prior_loss
from reid.models.csn.network import Csn
from reid.models.harder_negatives import harder_negatives


def csn_losses(
    network: nn.Module, batch: Batch, config: LossConfig, active: Collection[str]
) -> dict[str, Tensor]:
    """Section 4.2: same person or not, the contrastive loss on the vectors, the prior on the parts.
    Not in the paper: ``softmax``, the training people as classes.

    A stage without ``classification`` compares no pairs, and so takes less time.
    """
    csn = cast(Csn, network)
    described = csn.describe(batch.images)
    first, same = batch.pair_first, batch.pair_same
    people = (batch.labels, batch.cameras)
    second = harder_negatives(
        described.vector, *people, first, batch.pair_second, same, config.negative_candidates
    )
    losses: dict[str, Tensor] = {}
    if "classification" in active:
        logits = csn.compare(described, first, second)
        losses["classification"] = pair_classification_loss(logits, same)
    if "contrastive" in active:
        losses["contrastive"] = euclidean_loss(
            described.vector, first, second, same, margin=config.contrastive_margin
        )
    if "transform_prior" in active:
        losses["transform_prior"] = transform_prior_loss(
            described.thetas,
            scale_weight=config.prior_scale_weight,
            inside_weight=config.prior_inside_weight,
            rotation_weight=config.prior_rotation_weight,
            min_scale=config.prior_min_scale,
            extent=config.prior_extent,
        )
    if "softmax" in active and csn.identities is not None:
        logits = csn.identities(described.vector)
        losses["softmax"] = softmax_loss(
            logits, batch.labels, batch.anchors, config.label_smoothing
        )
    return losses
