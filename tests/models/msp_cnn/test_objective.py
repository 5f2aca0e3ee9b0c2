"""MSP-CNN's training objective: one batch of images, or two towers as Caffe has them."""

from __future__ import annotations

import pytest
import torch

from reid.losses.batch import Batch
from reid.losses.settings import LossConfig
from reid.models.msp_cnn.network import MspCnn
from reid.models.msp_cnn.objective import msp_cnn_losses
from reid.models.msp_cnn.settings import MspCnnSettings

LOSSES = ("softmax", "euclidean")


def batch() -> Batch:
    """One anchor with a positive and two negatives."""
    return Batch(
        images=torch.randn(4, 3, 32, 16, generator=torch.Generator().manual_seed(0)),
        labels=torch.tensor([1, 1, 0, 2]),
        cameras=torch.tensor([0, 1, 0, 1]),
        anchors=torch.tensor([0]),
        pair_first=torch.tensor([0, 0, 0]),
        pair_second=torch.tensor([1, 2, 3]),
        pair_same=torch.tensor([True, False, False]),
        names=("",) * 4,
    )


def network(separate_towers: bool) -> MspCnn:
    torch.manual_seed(0)
    return MspCnn(3, MspCnnSettings(dropout_ratio=0.0, separate_towers=separate_towers))


def test_without_batch_statistics_two_towers_have_the_losses_of_one_batch() -> None:
    one, two = (
        msp_cnn_losses(network(separate).eval(), batch(), LossConfig(), LOSSES)
        for separate in (False, True)
    )
    for name in LOSSES:
        assert one[name].item() == pytest.approx(two[name].item(), rel=1e-5)


def test_two_towers_update_the_running_averages_one_after_the_other() -> None:
    trained = network(separate_towers=True).train()
    msp_cnn_losses(trained, batch(), LossConfig(), LOSSES)
    apart = network(separate_towers=True).train()
    for rows in ([0, 0, 0], [1, 2, 3]):
        apart(batch().images[rows])
    assert int(trained.fc7_bn.num_batches_tracked) == 2
    assert torch.equal(trained.fc7_bn.running_mean, apart.fc7_bn.running_mean)
