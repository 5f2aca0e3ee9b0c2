"""What a network is trained for: its forward pass and its losses, by name.

An objective takes the network, a batch and the stage's weights and returns the losses
that are switched on, unweighted, by name; the training loop weights and adds them in
one visible line. A second network adds an entry here, not a branch in the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from reid.config.networks import NetworkConfig
from reid.config.settings import LossConfig, StageConfig
from reid.errors import ConfigError, nearest
from reid.losses.batch import Batch
from reid.losses.cross_correlation import cross_correlation_loss
from reid.losses.drc import drc_loss
from reid.losses.euclidean import euclidean_loss
from reid.losses.identity import softmax_loss
from reid.losses.pair_classification import pair_classification_loss
from reid.losses.transform_prior import transform_prior_loss
from reid.losses.triplet import triplet_loss
from reid.models.csn.network import CsnOutput
from reid.models.msp_cnn.network import MspCnnOutput
from reid.models.sisnet.network import SisNetOutput, activation_maps

Objective = Callable[[nn.Module, Batch, LossConfig, Collection[str]], dict[str, Tensor]]


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


OBJECTIVES: Mapping[str, tuple[Objective, tuple[str, ...]]] = {
    "msp_cnn": (msp_cnn_losses, ("softmax", "euclidean", "cross_correlation")),
    "csn": (csn_losses, ("classification", "contrastive", "transform_prior")),
    "sisnet": (sisnet_losses, ("softmax", "triplet", "drc")),
}
"""Network name -> its objective and the losses it knows."""


def objective_of(
    network: NetworkConfig, stages: Collection[StageConfig]
) -> tuple[Objective, tuple[str, ...]]:
    """The objective of a network and all loss names that the stages use, in its order.

    Raises ConfigError for no stage, a loss that the objective does not know or that the network's
    settings leave nothing to compare, a negative weight, or a stage without any.
    """
    objective, known = OBJECTIVES[network.name]
    if not stages:
        raise ConfigError("there is nothing to train: the configuration has no [[stages]]")
    for stage in stages:
        for name, weight in stage.loss_weights.items():
            if name not in known:
                raise ConfigError(
                    f"stage {stage.name!r}: {network.name} has no loss {name!r}"
                    f"{nearest(name, known)}; there are: {', '.join(known)}"
                )
            if weight < 0:
                raise ConfigError(f"stage {stage.name!r}: the weight of {name} is below 0")
            if weight > 0 and name in network.losses_left_out:
                raise ConfigError(
                    f"stage {stage.name!r}: network.{network.losses_left_out[name]} leaves {name} "
                    f"nothing to compare; set stages.N.loss_weights.{name}=0 for each stage N"
                )
        if not active_losses(stage):
            raise ConfigError(f"stage {stage.name!r} has no loss with a weight above 0")
    used = {name for stage in stages for name in active_losses(stage)}
    return objective, tuple(name for name in known if name in used)


def active_losses(stage: StageConfig) -> tuple[str, ...]:
    """The losses with a weight above 0."""
    return tuple(name for name, weight in stage.loss_weights.items() if weight > 0)
