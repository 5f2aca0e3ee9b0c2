"""The batch-hard triplet loss against its definition, anchor by anchor."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from reid.losses.triplet import triplet_loss

LABELS = [0, 0, 0, 1, 1, 2, 2, 2]


def features(dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(LABELS), 3, generator=generator, dtype=torch.float64).to(dtype)


def naive(
    rows: list[list[float]], labels: list[int], margin: float = 0.3, soft: bool = False
) -> float:
    terms = []
    for a, row in enumerate(rows):
        positives = [
            math.dist(row, other)
            for p, other in enumerate(rows)
            if p != a and labels[p] == labels[a]
        ]
        negatives = [
            math.dist(row, other) for n, other in enumerate(rows) if labels[n] != labels[a]
        ]
        if positives and negatives:
            gap = max(positives) - min(negatives)
            terms.append(math.log(1 + math.exp(gap)) if soft else max(0.0, margin + gap))
    return sum(terms) / len(terms) if terms else 0.0


@pytest.mark.parametrize("margin", [0.0, 0.3, 2.0])
def test_loss_equals_the_formula(margin: float) -> None:
    found = triplet_loss(features(), torch.tensor(LABELS), margin)
    expected = naive(features().tolist(), LABELS, margin)
    assert expected > 0
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_the_soft_margin_is_a_softplus_and_needs_no_margin() -> None:
    found = triplet_loss(features(), torch.tensor(LABELS), margin=9.0, soft_margin=True)
    expected = naive(features().tolist(), LABELS, soft=True)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_hand_counted_anchors() -> None:
    # On a line: person 0 at 0 and 3, person 1 at 4 and 4.5.
    line = torch.tensor([[0.0], [3.0], [4.0], [4.5]])
    # 0: 3 - 4; 3: 3 - 1; 4: 0.5 - 1; 4.5: 0.5 - 1.5; each plus the margin, at least 0.
    loss = triplet_loss(line, torch.tensor([0, 0, 1, 1]), margin=0.75)
    assert loss.item() == pytest.approx((0 + 2.75 + 0.25 + 0) / 4)


@pytest.mark.parametrize("soft_margin", [False, True])
def test_gradient_is_that_of_the_formula(soft_margin: bool) -> None:
    labels = torch.tensor(LABELS)
    assert torch.autograd.gradcheck(
        lambda x: triplet_loss(x, labels, 0.3, soft_margin), (features().requires_grad_(),)
    )


def test_the_hardest_pair_is_pulled_and_pushed() -> None:
    line = torch.tensor([[0.0], [3.0], [4.0]], requires_grad=True)
    triplet_loss(line, torch.tensor([0, 0, 1])).backward()
    assert line.grad is not None
    # Anchors 0 (too far from its own to be safe: 3 - 4 + 0.3 < 0) and 3 (3 - 1 + 0.3 > 0).
    assert line.grad.flatten().tolist() == pytest.approx([-0.5, 1.0, -0.5])


@pytest.mark.parametrize("soft_margin", [False, True])
def test_an_image_without_a_partner_is_no_anchor_but_a_negative(soft_margin: bool) -> None:
    labels = [0, 0, 0, 1, 1, 2, 3, 4]
    found = triplet_loss(features(), torch.tensor(labels), soft_margin=soft_margin)
    expected = naive(features().tolist(), labels, soft=soft_margin)
    assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("soft_margin", [False, True])
@pytest.mark.parametrize("labels", [[0] * 8, list(range(8))])
def test_without_a_triplet_loss_and_gradient_are_zero(labels: list[int], soft_margin: bool) -> None:
    x = features().requires_grad_()
    loss = triplet_loss(x, torch.tensor(labels), soft_margin=soft_margin)
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None
    assert x.grad.eq(0).all()


def test_an_image_taken_twice_has_a_finite_gradient() -> None:
    x = torch.zeros(4, 3).requires_grad_()
    loss = triplet_loss(x, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_features_that_are_not_finite_are_seen_in_the_loss() -> None:
    x = features()
    x[0, 0] = math.nan
    assert not triplet_loss(x, torch.tensor(LABELS)).isfinite()


def test_half_precision_is_computed_in_float32_under_autocast() -> None:
    x = features().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = triplet_loss(x, torch.tensor(LABELS))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(naive(x.double().tolist(), LABELS), abs=1e-6)
