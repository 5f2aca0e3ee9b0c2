"""SiSNet's training objective."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from reid.losses.batch import Batch
from reid.losses.drc import drc_loss
from reid.losses.identity import softmax_loss
from reid.losses.settings import LossConfig
from reid.losses.triplet import triplet_loss
from reid.models.sisnet.activation_maps import activation_maps
from reid.models.sisnet.network import SisNetOutput


def sisnet_losses(
    network: nn.Module, batch: Batch, config: LossConfig, active: Collection[str]
) -> dict[str, Tensor]:
    """Softmax and triplet, summed over the branches, and the DRC loss between them."""
    output: SisNetOutput = network(batch.images)
    losses: dict[str, Tensor] = {}
    if "softmax" in active:
        parts = [
            softmax_loss(branch.logits, batch.labels, batch.anchors, config.label_smoothing)
            for branch in output.branches
        ]
        losses["softmax"] = torch.stack(parts).sum()
    if "triplet" in active:
        parts = [
            triplet_loss(
                branch.features,
                batch.labels,
                margin=config.triplet_margin,
                soft_margin=config.triplet_soft_margin,
            )
            for branch in output.branches
        ]
        losses["triplet"] = torch.stack(parts).sum()
    if "drc" in active:
        first, second = (
            activation_maps(branch.maps, output.cam_weights, batch.labels)
            for branch in output.branches
        )
        losses["drc"] = drc_loss(
            first,
            second,
            normalise=config.drc_normalise,
            grid=config.drc_grid,
            rectify=config.drc_rectify,
        )
    return losses
