"""The softmax loss against Caffe's definition, written out."""

from __future__ import annotations

import math

import pytest
import torch

from reid.losses.identity import softmax_loss

LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
LABELS = torch.tensor([0, 1, 1])


def log_probability(row: int, label: int) -> float:
    scores = LOGITS[row].tolist()
    return scores[label] - math.log(sum(math.exp(score) for score in scores))


def test_loss_is_the_mean_over_the_anchors_alone() -> None:
    loss = softmax_loss(LOGITS, LABELS, torch.tensor([0, 1]))
    expected = -(log_probability(0, 0) + log_probability(1, 1)) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_images_that_are_no_anchors_get_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    softmax_loss(logits, LABELS, torch.tensor([0, 1])).backward()
    assert logits.grad is not None
    assert logits.grad[2].eq(0).all()
    assert logits.grad[:2].ne(0).all()


def test_label_smoothing_spreads_its_share_over_all_identities() -> None:
    loss = softmax_loss(LOGITS, LABELS, torch.tensor([2]), label_smoothing=0.3)
    targets = (0.1, 0.8, 0.1)  # 0.3 / 3 each, and 0.7 more on the true one
    expected = -sum(t * log_probability(2, label) for label, t in enumerate(targets))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_half_precision_logits_give_a_float32_loss() -> None:
    loss = softmax_loss(LOGITS.bfloat16(), LABELS, torch.tensor([0]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(-log_probability(0, 0), abs=1e-6)


def test_a_batch_without_anchors_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one anchor"):
        softmax_loss(LOGITS, LABELS, torch.tensor([], dtype=torch.int64))
