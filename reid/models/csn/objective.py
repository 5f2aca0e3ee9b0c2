"""CSN's training objective."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from reid.losses.batch import Batch
from reid.losses.euclidean import euclidean_loss
from reid.losses.pair_classification import pair_classification_loss
from reid.losses.settings import LossConfig
from reid.losses.transform_prior import transform_prior_loss
from reid.models.csn.network import CsnOutput


def csn_losses(
    network: nn.Module, batch: Batch, config: LossConfig, active: Collection[str]
) -> dict[str, Tensor]:
    """Same or not, the contrastive loss on the vectors, the prior on the parts (section 4.2)."""
    output: CsnOutput = network(batch.images, batch.pair_first, batch.pair_second)
    losses: dict[str, Tensor] = {}
    if "classification" in active:
        losses["classification"] = pair_classification_loss(output.logits, batch.pair_same)
    if "contrastive" in active:
        pairs = (batch.pair_first, batch.pair_second, batch.pair_same)
        losses["contrastive"] = euclidean_loss(
            output.vector, *pairs, margin=config.contrastive_margin
        )
    if "transform_prior" in active:
        losses["transform_prior"] = transform_prior_loss(
            output.thetas,
            scale_weight=config.prior_scale_weight,
            inside_weight=config.prior_inside_weight,
            rotation_weight=config.prior_rotation_weight,
            min_scale=config.prior_min_scale,
            extent=config.prior_extent,
        )
    return losses
