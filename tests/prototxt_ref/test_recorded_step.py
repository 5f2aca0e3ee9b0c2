"""MSP-CNN's network and losses against a training step of real Caffe (BVLC 1.0, float64, CPU)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from reid.losses.batch import Batch
from reid.losses.settings import LossConfig
from reid.models.msp_cnn.network import MspCnn
from reid.models.msp_cnn.objective import msp_cnn_losses
from reid.models.msp_cnn.settings import MspCnnSettings
from tests.prototxt_ref import recorded_step
from tests.prototxt_ref.recorded_step import RecordedStep

LOSSES = ("softmax", "euclidean", "cross_correlation")
CAFFE_EPS = float(np.float32(1e-5))
"""Caffe keeps the settings of its layers in float32, in a float64 build too."""


@dataclass(frozen=True)
class Errors:
    """Relative errors of the losses; of each parameter's gradient (see ``gradient_error``)."""

    losses: dict[str, float]
    gradients: dict[str, float]

    def worst(self) -> float:
        return max(self.gradients.values())

    def median(self) -> float:
        return float(np.median(list(self.gradients.values())))


@pytest.fixture(scope="module")
def recorded() -> RecordedStep:
    return RecordedStep()


def layer_parameters(network: MspCnn) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters by Caffe's layer and blob, by the rules of ``prototxt_ref/README.md``."""
    for name, parameter in network.named_parameters():
        path, _, leaf = name.rpartition(".")
        is_scale = path.endswith("bn")
        path = path.removesuffix(".conv").replace(".bn", "_bn").replace("conv_", "")
        layer = path.replace(".", "/") + "_scale" * is_scale
        yield f"{layer}/{('weight', 'bias').index(leaf)}", parameter


def errors_of_a_step(
    recorded: RecordedStep, *, separate_towers: bool, gradient_eps: float, bn_eps: float
) -> Errors:
    """Forward and backward as the training objective does them, in float64."""
    settings = MspCnnSettings(dropout_ratio=0.0, separate_towers=separate_towers)
    network = MspCnn(recorded_step.IDENTITIES, settings).double().train()
    weights, parameters = recorded.weights(), dict(layer_parameters(network))
    assert parameters.keys() == weights.keys()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(weights[name]).view_as(parameter))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eps = bn_eps
    losses = msp_cnn_losses(
        network, the_batch(), LossConfig(euclidean_gradient_eps=gradient_eps), LOSSES
    )
    sum(losses.values(), torch.zeros(())).backward()
    return Errors(
        {
            name: abs(float(losses[name].detach()) / value - 1)
            for name, value in recorded.losses.items()
        },
        {
            name: recorded.gradient_error(name, parameter.grad.numpy())
            for name, parameter in parameters.items()
            if parameter.grad is not None and recorded.has_gradient(name)
        },
    )


def the_batch() -> Batch:
    """Eight images, the two anchors once each, as ``reid train`` has them."""
    first, second = map(torch.from_numpy, recorded_step.images())
    identities = torch.from_numpy(recorded_step.ANCHOR_LABELS)
    anchors = torch.tensor([0, 3])
    return Batch(
        images=torch.cat([first[anchors], second]),
        labels=torch.cat([identities[anchors], identities]),
        anchors=torch.tensor([0, 1]),
        pair_first=identities,
        pair_second=torch.arange(2, 8),
        pair_same=torch.from_numpy(recorded_step.SAME_PERSON),
        names=("",) * 8,
    )


def test_with_caffes_constants_the_step_is_caffes_within_1e_10(recorded: RecordedStep) -> None:
    errors = errors_of_a_step(recorded, separate_towers=True, gradient_eps=1e-4, bn_eps=CAFFE_EPS)
    assert len(errors.gradients) == 122
    assert max(errors.losses.values()) < 1e-13
    assert errors.worst() < 1e-10


def test_with_an_eps_in_float64_the_step_is_caffes_within_3e_8(recorded: RecordedStep) -> None:
    errors = errors_of_a_step(recorded, separate_towers=True, gradient_eps=0, bn_eps=1e-5)
    assert max(errors.losses.values()) < 1e-10
    assert 1e-10 < errors.worst() < 3e-8


def test_one_batch_of_all_images_is_another_step_than_two_towers(recorded: RecordedStep) -> None:
    errors = errors_of_a_step(recorded, separate_towers=False, gradient_eps=0, bn_eps=1e-5)
    assert 1e-3 < errors.losses["softmax"] < 0.05
    assert errors.median() > 0.1
