"""The attention's prior against its three penalties, transform by transform."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch import Tensor

from reid.losses.transform_prior import transform_prior_loss


def naive(
    thetas: list[Tensor],
    weights: tuple[float, float, float] = (1.0, 1.0, 0.1),
    min_scale: float = 0.1,
    extent: float = 1.0,
) -> float:
    transforms = list(chain.from_iterable(x.reshape(-1, 6).tolist() for x in thetas))
    total = 0.0
    for s_w, r_w, t_w, r_h, s_h, t_h in transforms:
        for s, r, t in ((s_w, r_w, t_w), (s_h, r_h, t_h)):
            total += weights[0] * max(0.0, min_scale - s)
            total += weights[1] * 0.5 * max(0.0, (s + t) ** 2 - extent)
            total += weights[1] * 0.5 * max(0.0, (s - t) ** 2 - extent)
            total += weights[2] * abs(r)
    return total / len(transforms)


def thetas() -> list[Tensor]:
    """Two images, three stripes, two levels; every penalty is met."""
    generator = torch.Generator().manual_seed(0)
    return [2 * torch.rand(2, 3, 2, 3, generator=generator) - 1 for _ in range(2)]


def matrix(*values: float) -> list[Tensor]:
    return [torch.tensor(values).view(1, 1, 2, 3)]


def test_loss_equals_the_formula() -> None:
    assert transform_prior_loss(thetas()).item() == pytest.approx(naive(thetas()), abs=1e-6)
    found = transform_prior_loss(thetas(), 0.3, 0.7, 2.0, min_scale=0.4, extent=0.5)
    expected = naive(thetas(), (0.3, 0.7, 2.0), min_scale=0.4, extent=0.5)
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("theta", "expected"),
    [
        ((0.8, 0.0, 0.2, 0.0, 0.8, -0.2), 0.0),  # upright, and just inside
        ((-0.3, 0.0, 0.0, 0.0, 0.8, 0.0), 0.4),  # mirrored: 0.1 + 0.3
        ((0.8, 0.0, 0.0, 0.0, 0.8, 0.7), 0.625),  # (1.5^2 - 1) / 2 below the stripe
        ((0.8, 0.0, 0.0, 0.0, 0.8, -0.7), 0.625),  # and above it
        ((0.8, 0.5, 0.0, -0.25, 0.8, 0.0), 0.075),  # 0.1 * (0.5 + 0.25)
    ],
)
def test_hand_counted_transforms(theta: tuple[float, ...], expected: float) -> None:
    assert transform_prior_loss(matrix(*theta)).item() == pytest.approx(expected, abs=1e-6)


def test_gradient_is_that_of_the_formula() -> None:
    inputs = tuple(level.double().requires_grad_() for level in thetas())
    assert torch.autograd.gradcheck(lambda *levels: transform_prior_loss(levels), inputs)


def test_an_upright_part_at_rest_gets_no_gradient() -> None:
    (theta,) = matrix(0.8, 0.0, 0.0, 0.0, 0.8, 0.0)
    transform_prior_loss([theta.requires_grad_()]).backward()
    assert theta.grad is not None
    assert theta.grad.eq(0).all()


def test_half_precision_is_computed_in_float32() -> None:
    halves = [level.bfloat16() for level in thetas()]
    loss = transform_prior_loss(halves)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(naive([level.float() for level in halves]), abs=1e-5)


def test_no_transforms_are_refused() -> None:
    for nothing in ([], [torch.zeros(0, 3, 2, 3)]):
        with pytest.raises(ValueError, match="at least one transform"):
            transform_prior_loss(nothing)
