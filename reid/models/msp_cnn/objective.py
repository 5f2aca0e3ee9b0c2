"""MSP-CNN's training objective."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

import torch
from torch import Tensor, nn

from reid.losses.batch import Batch
from reid.losses.cross_correlation import cross_correlation_loss
from reid.losses.euclidean import euclidean_loss
from reid.losses.identity import softmax_loss
from reid.losses.settings import LossConfig
from reid.models.msp_cnn.network import MspCnn, MspCnnOutput


def msp_cnn_losses(
    network: nn.Module, batch: Batch, config: LossConfig, active: Collection[str]
) -> dict[str, Tensor]:
    """Softmax on the anchors, Euclidean on FC7, cross-correlation on Pool1 (section 2)."""
    if cast(MspCnn, network).settings.separate_towers:
        output, batch = _two_towers(network, batch)
    else:
        output = network(batch.images)
    losses: dict[str, Tensor] = {}
    pairs = (batch.pair_first, batch.pair_second, batch.pair_same)
    if "softmax" in active:
        losses["softmax"] = softmax_loss(
            output.fc8, batch.labels, batch.anchors, config.label_smoothing
        )
    if "euclidean" in active:
        losses["euclidean"] = euclidean_loss(
            output.fc7,
            *pairs,
            margin=config.euclidean_margin,
            gradient_eps=config.euclidean_gradient_eps,
        )
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


def _two_towers(network: nn.Module, batch: Batch) -> tuple[MspCnnOutput, Batch]:
    """As Caffe trains: the pairs' first images through one tower, their second through the other.

    The towers share their weights; each normalises by its own batch and updates the running
    averages. Returns the outputs of both, first images first, and the batch in that order:
    P anchors, one for each pair.
    """
    towers = [network(batch.images[rows]) for rows in (batch.pair_first, batch.pair_second)]
    output = MspCnnOutput(*map(torch.cat, zip(*towers, strict=True)))
    rows = torch.cat([batch.pair_first, batch.pair_second])
    first, second = torch.arange(len(rows), device=rows.device).chunk(2)
    return output, batch._replace(
        labels=batch.labels[rows], anchors=first, pair_first=first, pair_second=second
    )
