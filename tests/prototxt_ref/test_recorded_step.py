"""MSP-CNN's network and losses against a training step of real Caffe (BVLC 1.0, float64, CPU)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from reid.losses.batch import Batch
from reid.losses.settings import LossConfig
from reid.models.msp_cnn.network import MspCnn
from reid.models.msp_cnn.objective import msp_cnn_losses
from reid.models.msp_cnn.settings import MspCnnSettings
from tests.prototxt_ref import recorded_step
from tests.prototxt_ref.caffe_stand_in import Run
from tests.prototxt_ref.recorded_step import Float64, RecordedStep

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


def network_of(recorded: RecordedStep, *, separate_towers: bool, bn_eps: float) -> MspCnn:
    """The network with the recorded weights, in float64."""
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
    return network


def errors_of(recorded: RecordedStep, network: MspCnn, losses: Mapping[str, float]) -> Errors:
    """The errors of a step after its backward pass."""
    return Errors(
        {name: abs(losses[name] / value - 1) for name, value in recorded.losses.items()},
        {
            name: recorded.gradient_error(name, parameter.grad.numpy())
            for name, parameter in layer_parameters(network)
            if parameter.grad is not None and recorded.has_gradient(name)
        },
    )


def errors_of_a_step(
    recorded: RecordedStep, *, separate_towers: bool, gradient_eps: float, bn_eps: float
) -> Errors:
    """Forward and backward as the training objective does them, in float64."""
    network = network_of(recorded, separate_towers=separate_towers, bn_eps=bn_eps)
    settings = LossConfig(euclidean_gradient_eps=gradient_eps)
    losses = msp_cnn_losses(network, the_batch(), settings, LOSSES)
    sum(losses.values(), torch.zeros(())).backward()
    return errors_of(
        recorded, network, {name: float(loss.detach()) for name, loss in losses.items()}
    )


def the_batch() -> Batch:
    """Eight images, the two anchors once each, as ``reid train`` has them."""
    first, second = map(torch.from_numpy, recorded_step.images())
    identities = torch.from_numpy(recorded_step.ANCHOR_LABELS)
    anchors = torch.tensor([0, 3])
    return Batch(
        images=torch.cat([first[anchors], second]),
        labels=torch.cat([identities[anchors], identities]),
        cameras=torch.zeros(8, dtype=torch.int64),
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


def test_the_python_layers_make_it_caffes_step_too(recorded: RecordedStep) -> None:
    network = network_of(recorded, separate_towers=True, bn_eps=CAFFE_EPS)
    towers = [network(torch.from_numpy(images)) for images in recorded_step.images()]
    same = recorded_step.SAME_PERSON
    softmax = torch.nn.functional.cross_entropy(
        towers[0].fc8, torch.from_numpy(recorded_step.ANCHOR_LABELS)
    )
    units = [Run("L2Normalise", [tower.fc7.detach().numpy()]) for tower in towers]
    euclidean, slopes = contrastive(*(unit.forward()[0] for unit in units), same)
    correlation = Run(
        "CrossCorrelationLoss", [*(tower.pool1.detach().numpy() for tower in towers), same]
    )
    (correlation_loss,) = correlation.forward()
    total = softmax
    for tower, unit, slope, maps in zip(
        towers, units, slopes, correlation.backward(1.0), strict=False
    ):
        total = total + (tower.fc7 * torch.from_numpy(unit.backward(slope)[0])).sum()
        total = total + (tower.pool1 * torch.from_numpy(maps)).sum()
    total.backward()
    losses = {
        "softmax": softmax.item(),
        "euclidean": euclidean,
        "cross_correlation": float(correlation_loss[0]),
    }
    errors = errors_of(recorded, network, losses)
    assert max(errors.losses.values()) < 1e-13
    assert errors.worst() < 1e-10


def contrastive(
    first: Float64, second: Float64, same: npt.NDArray[np.bool_]
) -> tuple[float, tuple[Float64, Float64]]:
    """Caffe's ContrastiveLoss with margin 1, and its gradient on each side."""
    difference = first - second
    squared = (difference**2).sum(axis=1)
    distance = np.sqrt(squared)
    gap = np.maximum(1 - distance, 0)
    loss = np.where(same, squared, gap**2).sum() / (2 * len(first))
    scale = np.where(same, 1, -gap / (distance + 1e-4)) / len(first)
    return float(loss), (scale[:, None] * difference, -scale[:, None] * difference)
