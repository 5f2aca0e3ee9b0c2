"""The contrastive loss against its formula, written out pair by pair."""

from __future__ import annotations

import math

import pytest
import torch

from reid.losses.euclidean import euclidean_loss

NO_PAIRS = torch.tensor([], dtype=torch.int64)


def naive(features: list[list[float]], pairs: list[tuple[int, int, bool]], margin: float) -> float:
    """1 / (2N) sum[y d^2 + (1 - y) max(0, m - d)^2] on rows divided by their length."""
    units = [[x / math.sqrt(sum(v * v for v in row)) for x in row] for row in features]
    total = 0.0
    for first, second, same in pairs:
        d = math.dist(units[first], units[second])
        total += d**2 if same else max(0.0, margin - d) ** 2
    return total / (2 * len(pairs))


def loss_of(
    features: torch.Tensor, pairs: list[tuple[int, int, bool]], margin: float = 1.0
) -> torch.Tensor:
    first, second, same = zip(*pairs, strict=True)
    return euclidean_loss(
        features, torch.tensor(first), torch.tensor(second), torch.tensor(same), margin
    )


@pytest.mark.parametrize("margin", [0.5, 1.0, 1.6])
def test_loss_equals_the_formula_on_random_features(margin: float) -> None:
    features = torch.randn(6, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    pairs = [(0, 1, True), (0, 2, False), (0, 3, False), (4, 5, True), (4, 1, False), (5, 3, False)]
    expected = naive(features.tolist(), pairs, margin)
    assert expected > 0
    assert loss_of(features, pairs, margin).item() == pytest.approx(expected, abs=1e-12)


def test_hand_counted_pairs() -> None:
    features = torch.tensor([[2.0, 0.0], [0.0, 5.0], [3.0, 0.0]])
    # Positive at 90 degrees: d^2 = 2. Negative in one direction: d = 0, (1 - 0)^2 = 1.
    assert loss_of(features, [(0, 1, True), (0, 2, False)]).item() == pytest.approx((2 + 1) / 4)


def test_a_negative_pair_beyond_the_margin_costs_nothing() -> None:
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    loss = loss_of(features, [(0, 1, False)])
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert features.grad.eq(0).all()


def test_length_of_a_feature_does_not_matter() -> None:
    features = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    scaled = features * torch.tensor([[10.0], [0.01]])
    pairs = [(0, 1, True)]
    assert loss_of(scaled, pairs).item() == pytest.approx(loss_of(features, pairs).item(), rel=1e-5)


@pytest.mark.parametrize("same", [True, False])
def test_identical_features_have_a_finite_gradient(same: bool) -> None:
    features = torch.ones(2, 4, requires_grad=True)
    loss_of(features, [(0, 1, same)]).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_a_feature_of_zeros_gets_no_gradient() -> None:
    features = torch.tensor([[0.0, 0.0], [0.3, 0.1]], requires_grad=True)
    loss = loss_of(features, [(0, 1, True)])
    loss.backward()
    assert loss.item() == pytest.approx(0.5)
    assert features.grad is not None
    assert features.grad[0].eq(0).all()
    assert features.grad[1].isfinite().all()


def test_gradient_is_that_of_the_formula() -> None:
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    pairs = [(0, 1, True), (0, 2, False), (1, 3, False), (2, 3, True)]
    assert torch.autograd.gradcheck(lambda x: loss_of(x, pairs, 1.9), (features,))


def test_without_pairs_the_loss_and_its_gradient_are_zero() -> None:
    features = torch.randn(3, 4, requires_grad=True)
    loss = euclidean_loss(features, NO_PAIRS, NO_PAIRS, NO_PAIRS.bool())
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert features.grad.eq(0).all()


def test_half_precision_is_computed_in_float32_under_autocast() -> None:
    features = torch.randn(2, 8, generator=torch.Generator().manual_seed(5)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(features, [(0, 1, True)])
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(naive(features.tolist(), [(0, 1, True)], 1.0), abs=1e-6)


def test_with_a_gradient_eps_the_gradient_is_that_of_caffes_contrastive_loss() -> None:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    features[1] = features[0] + 1e-3 * features[1]  # a negative pair that is almost one point
    units = torch.nn.functional.normalize(features).requires_grad_()
    first, second = torch.tensor([0, 0, 2]), torch.tensor([1, 2, 3])
    same = torch.tensor([False, False, True])
    margin, eps = 2.0, 1e-4
    expected = torch.zeros_like(units)
    for a, b, is_same in zip(first.tolist(), second.tolist(), same.tolist(), strict=True):
        difference = (units[a] - units[b]).detach()
        distance = difference.norm().item()
        scale = 1.0 if is_same else -max(0.0, margin - distance) / (distance + eps)
        expected[a] += scale * difference / len(first)
        expected[b] -= scale * difference / len(first)
    # The rows are of length 1, so their own normalisation only takes the radial part away.
    expected = expected - (expected * units).sum(1, keepdim=True) * units
    plain = euclidean_loss(units, first, second, same, margin)
    with_eps = euclidean_loss(units, first, second, same, margin, eps)
    (found,) = torch.autograd.grad(with_eps, units)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-13)
    assert with_eps.item() == plain.item()
    assert not torch.allclose(torch.autograd.grad(plain, units)[0], found, rtol=1e-2)
