"""The DRC loss against its parts, written out place by place."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from reid.losses.drc import GRIDS, NORMALISATIONS, drc_loss, on_one_grid

Plane = list[list[float]]
READINGS = list(itertools.product(NORMALISATIONS, GRIDS, (False, True)))


def maps(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Two images; the second map is coarser, and not by a whole factor."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    second = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    return first.to(dtype), second.to(dtype)


def resized(plane: Plane, height: int, width: int) -> Plane:
    """Bilinear: cell i of n lies at (i + 0.5) / n; beyond the outer centres the edge repeats."""
    old_height, old_width = len(plane), len(plane[0])
    out = []
    for i in range(height):
        y = min(max((i + 0.5) / height * old_height - 0.5, 0), old_height - 1)
        row = []
        for j in range(width):
            x = min(max((j + 0.5) / width * old_width - 0.5, 0), old_width - 1)
            value = 0.0
            for a in range(old_height):
                for b in range(old_width):
                    value += plane[a][b] * max(0, 1 - abs(y - a)) * max(0, 1 - abs(x - b))
            row.append(value)
        out.append(row)
    return out


def normalised(plane: Plane, how: str) -> Plane:
    values = [value for row in plane for value in row]
    shift, scale = 0.0, 1.0
    if how == "minmax":
        shift, scale = min(values), max(values) - min(values)
    if how == "l2":
        scale = math.sqrt(sum(value**2 for value in values))
    return [[(value - shift) / scale for value in row] for row in plane]


def naive(first: Tensor, second: Tensor, normalise: str, grid: str, rectify: bool) -> float:
    combine = math.lcm if grid == "lcm" else max
    size = combine(first.shape[1], second.shape[1]), combine(first.shape[2], second.shape[2])
    total = 0.0
    for pair in zip(first.tolist(), second.tolist(), strict=True):
        planes = [[[max(0.0, v) if rectify else v for v in row] for row in plane] for plane in pair]
        one, other = (normalised(resized(plane, *size), normalise) for plane in planes)
        for row, other_row in zip(one, other, strict=True):
            total += sum((a - b) ** 2 for a, b in zip(row, other_row, strict=True))
    return total / (len(first) * size[0] * size[1])


@pytest.mark.parametrize(("normalise", "grid", "rectify"), READINGS)
def test_loss_equals_the_formula_in_every_reading(normalise: str, grid: str, rectify: bool) -> None:
    found = drc_loss(*maps(), normalise=normalise, grid=grid, rectify=rectify)
    expected = naive(*maps(), normalise, grid, rectify)
    assert expected > 0.01
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_the_defaults_are_minmax_on_the_larger_grid() -> None:
    expected = naive(*maps(), "minmax", "larger", False)
    assert drc_loss(*maps()).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("normalise", "grid", "rectify"), READINGS)
def test_gradient_is_that_of_the_formula(normalise: str, grid: str, rectify: bool) -> None:
    inputs = tuple(x.requires_grad_() for x in maps())
    assert torch.autograd.gradcheck(
        lambda a, b: drc_loss(a, b, normalise=normalise, grid=grid, rectify=rectify), inputs
    )


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_identical_maps_cost_nothing(normalise: str) -> None:
    first, _ = maps(torch.float32)
    assert drc_loss(first, first.clone(), normalise=normalise).item() == 0


def test_only_where_and_not_how_strongly_is_compared() -> None:
    first, second = maps()
    loss = drc_loss(first, second).item()
    assert drc_loss(1000 * first, second).item() == pytest.approx(loss)
    assert drc_loss(first + 5, second * 1e-6).item() == pytest.approx(loss)
    assert drc_loss(first, 7 * second, normalise="l2").item() == pytest.approx(
        drc_loss(first, second, normalise="l2").item()
    )
    assert drc_loss(first, 7 * second, normalise="none").item() > 2 * loss


@pytest.mark.parametrize("normalise", ["minmax", "l2"])
def test_a_map_that_says_nothing_gets_no_gradient(normalise: str) -> None:
    nothing = torch.zeros(2, 3, 2) if normalise == "l2" else torch.full((2, 3, 2), 3.0)
    if normalise == "minmax":
        nothing[0, 0, 0] += 1e-6  # rounding
    first, second = maps(torch.float32)[0].requires_grad_(), nothing.requires_grad_()
    loss = drc_loss(first, second, normalise=normalise)
    loss.backward()
    assert loss.item() > 0
    assert second.grad is not None
    assert second.grad.eq(0).all()
    assert first.grad is not None
    assert first.grad.isfinite().all()


@pytest.mark.parametrize("normalise", NORMALISATIONS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_map_that_is_not_finite_is_seen_in_the_loss(normalise: str, value: float) -> None:
    first, second = maps(torch.float32)
    first[0, 0, 0] = value
    assert not drc_loss(first, second, normalise=normalise).isfinite()


def test_half_precision_is_computed_in_float32_under_autocast() -> None:
    halves = [x.bfloat16() for x in maps(torch.float32)]
    with torch.autocast("cpu", torch.bfloat16):
        loss = drc_loss(halves[0], halves[1])
    assert loss.dtype == torch.float32
    expected = naive(halves[0].double(), halves[1].double(), "minmax", "larger", False)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("grid", "expected"), [("larger", (4, 3)), ("lcm", (12, 6))])
def test_both_maps_come_to_one_grid(grid: str, expected: tuple[int, int]) -> None:
    for pair in (maps(), maps()[::-1]):
        for found in on_one_grid(*pair, grid):
            assert found.shape == (2, *expected)


def test_what_cannot_be_compared_is_refused() -> None:
    first, second = maps()
    wrong: list[tuple[Tensor, Tensor]] = [
        (first[:1], second),
        (first[:0], second[:0]),
        (first[None], second),
    ]
    for pair in wrong:
        with pytest.raises(ValueError, match="drc_loss needs two maps"):
            drc_loss(*pair)
    words: list[tuple[dict[str, Any], str]] = [
        ({"normalise": "max"}, "minmax, l2, none; found 'max'"),
        ({"grid": "small"}, "larger, lcm; found 'small'"),
    ]
    for settings, message in words:
        with pytest.raises(ValueError, match=message):
            drc_loss(first, second, **settings)
