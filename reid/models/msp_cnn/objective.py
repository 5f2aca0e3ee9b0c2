"""MSP-CNN's training objective."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from reid.losses.batch import Batch
from reid.losses.cross_correlation import cross_correlation_loss
from reid.losses.euclidean import euclidean_loss
from reid.losses.identity import softmax_loss
from reid.losses.settings import LossConfig
from reid.models.msp_cnn.network import MspCnnOutput


def msp_cnn_losses(
    network: nn.Module, batch: Batch, config: LossConfig, active: Collection[str]
) -> dict[str, Tensor]:
    """Softmax on the anchors, Euclidean on FC7, cross-correlation on Pool1 (section 2)."""
    output: MspCnnOutput = network(batch.images)
    losses: dict[str, Tensor] = {}
    pairs = (batch.pair_first, batch.pair_second, batch.pair_same)
    if "softmax" in active:
        losses["softmax"] = softmax_loss(
            output.fc8, batch.labels, batch.anchors, config.label_smoothing
        )
    if "euclidean" in active:
        losses["euclidean"] = euclidean_loss(output.fc7, *pairs, margin=config.euclidean_margin)
    if "cross_correlation" in active:
        losses["cross_correlation"] = cross_correlation_loss(
            output.pool1,
            *pairs,
            patch=config.correlation_patch,
            rows=config.correlation_rows,
            outside_rows=config.correlation_outside_rows,
            sigma_eps=config.correlation_sigma_eps,
            positive_threshold=config.correlation_positive_threshold,
            negative_threshold=config.correlation_negative_threshold,
            positives_only=config.correlation_positives_only,
            symmetric=config.correlation_symmetric,
        )
    return losses
