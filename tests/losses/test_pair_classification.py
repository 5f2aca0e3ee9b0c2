"""CSN's classification loss against Eq. 3 with its logarithm and its sign."""

from __future__ import annotations

import math

import pytest
import torch

from reid.losses.pair_classification import pair_classification_loss

LOGITS = torch.tensor([[0.5, 2.0], [1.0, -1.0], [0.0, 0.3]])
SAME = torch.tensor([True, False, False])


def naive() -> float:
    total = 0.0
    for (different, same), y in zip(LOGITS.tolist(), SAME.tolist(), strict=True):
        probability = math.exp(same) / (math.exp(same) + math.exp(different))
        total -= math.log(probability if y else 1 - probability)
    return total / len(SAME)


def test_loss_equals_the_formula() -> None:
    assert pair_classification_loss(LOGITS, SAME).item() == pytest.approx(naive(), abs=1e-6)


def test_the_gradient_raises_column_one_of_a_matching_pair() -> None:
    logits = LOGITS.clone().requires_grad_()
    pair_classification_loss(logits, SAME).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] < 0 < logits.grad[0, 0]
    assert logits.grad[1, 0] < 0 < logits.grad[1, 1]


def test_gradient_is_that_of_the_formula() -> None:
    logits = LOGITS.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pair_classification_loss(x, SAME), (logits,))


def test_half_precision_logits_give_a_float32_loss() -> None:
    loss = pair_classification_loss(LOGITS.bfloat16(), SAME)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(naive(), abs=5e-3)


def test_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        pair_classification_loss(LOGITS[:0], SAME[:0])
