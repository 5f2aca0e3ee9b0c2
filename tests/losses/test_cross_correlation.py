"""The cross-correlation loss against a literal loop, and its rules on hand-made maps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from reid.losses.cross_correlation import (
    CHUNK_PAIRS_FIXED,
    cross_correlation_loss,
    pairs_at_a_time,
    pairs_that_fit,
)
from reid.losses.patch_matching import Search

FIRST = torch.tensor([0, 0, 0, 1])
SECOND = torch.tensor([1, 2, 3, 2])
SAME = torch.tensor([True, False, False, True])
ALL = {"positive_threshold": -2.0, "negative_threshold": 2.0}
"""Thresholds that zero nothing but what is not above 0 in a negative pair."""


def relu_maps(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).relu()


def window(image: list[list[float]], y: int, x: int, patch: int) -> list[float]:
    """The patch centred at (y, x), zero outside the image."""
    reach = range(-(patch // 2), patch // 2 + 1)
    height, width = len(image), len(image[0])
    return [
        image[y + dy][x + dx] if 0 <= y + dy < height and 0 <= x + dx < width else 0.0
        for dy in reach
        for dx in reach
    ]


def standardised(values: list[float], eps: float) -> list[float]:
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return [(v - mean) / (deviation + eps) for v in values]


def best_scores(
    first: list[list[float]],
    second: list[list[float]],
    patch: int,
    rows: int,
    eps: float,
    outside_rows: bool,
) -> Iterator[float]:
    """R of every location of one channel, in reading order, dead patches left out."""
    height, width = len(first), len(first[0])
    for y in range(height):
        for x in range(width):
            a = window(first, y, x, patch)
            if min(a) == max(a):
                continue
            scores = []
            for row in range(y - rows // 2, y + rows // 2 + 1):
                for column in range(width):
                    b = window(second, row, column, patch)
                    if not 0 <= row < height and not outside_rows:
                        b = [0.0] * len(b)
                    products = zip(standardised(a, eps), standardised(b, eps), strict=True)
                    scores.append(sum(p * q for p, q in products) / (patch**2 - 1))
            yield max(scores)


def naive(
    maps: Tensor,
    *,
    patch: int = 5,
    rows: int = 5,
    eps: float = 0.01,
    positive_threshold: float = 0.5,
    negative_threshold: float = 0.7,
    outside_rows: bool = True,
    pairs: tuple[Tensor, Tensor, Tensor] = (FIRST, SECOND, SAME),
) -> float:
    """The loss as its docstring says it, one patch at a time, in double precision."""
    images = maps.double().tolist()
    pulled: list[float] = []
    pushed: list[float] = []
    for a, b, same in zip(*(x.tolist() for x in pairs), strict=True):
        for one, other in zip(images[a], images[b], strict=True):
            for score in best_scores(one, other, patch, rows, eps, outside_rows):
                if same and score >= positive_threshold:
                    pulled.append(1 - score)
                elif not same and 0 < score <= negative_threshold:
                    pushed.append(score)
    return sum(sum(values) / len(values) for values in (pulled, pushed) if values)


@pytest.mark.parametrize("outside_rows", [False, True])
@pytest.mark.parametrize(
    ("shape", "patch", "rows"),
    [((2, 6, 5), 5, 5), ((1, 7, 4), 5, 3), ((2, 4, 7), 3, 5), ((1, 3, 3), 5, 5), ((3, 5, 1), 5, 1)],
)
def test_loss_equals_the_literal_loop(
    shape: tuple[int, int, int], patch: int, rows: int, outside_rows: bool
) -> None:
    maps = relu_maps(4, *shape, seed=sum(shape))
    found = cross_correlation_loss(
        maps, FIRST, SECOND, SAME, patch=patch, rows=rows, outside_rows=outside_rows
    )
    expected = naive(maps, patch=patch, rows=rows, outside_rows=outside_rows)
    assert expected > 0.1
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_loss_equals_the_literal_loop_on_maps_far_from_zero() -> None:
    maps = 50 + relu_maps(4, 2, 5, 4)
    found = cross_correlation_loss(maps, FIRST, SECOND, SAME)
    assert found.item() == pytest.approx(naive(maps), abs=1e-5)


@pytest.mark.parametrize("thresholds", [(0.2, 0.4), (0.5, 0.7), (0.9, 0.3)])
def test_thresholds_zero_what_the_loop_zeroes(thresholds: tuple[float, float]) -> None:
    maps = relu_maps(4, 2, 6, 5, seed=8)
    settings = dict(zip(("positive_threshold", "negative_threshold"), thresholds, strict=True))
    found = cross_correlation_loss(maps, FIRST, SECOND, SAME, **settings)
    assert found.item() == pytest.approx(naive(maps, **settings), abs=1e-5)


@pytest.mark.parametrize("outside_rows", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_gradient_is_that_of_the_loss(symmetric: bool, outside_rows: bool) -> None:
    maps = relu_maps(4, 1, 4, 3, dtype=torch.float64).requires_grad_()

    def loss(x: Tensor) -> Tensor:
        return cross_correlation_loss(
            x,
            FIRST,
            SECOND,
            SAME,
            positive_threshold=0.3,
            symmetric=symmetric,
            outside_rows=outside_rows,
            chunk_pairs=3,
        )

    assert torch.autograd.gradcheck(loss, (maps,))


def test_each_pair_pulls_on_both_of_its_maps() -> None:
    maps = relu_maps(4, 2, 6, 5).requires_grad_()
    cross_correlation_loss(maps, FIRST[:1], SECOND[:1], SAME[:1]).backward()
    assert maps.grad is not None
    moved = maps.grad.flatten(1).ne(0).any(1)
    assert moved.tolist() == [True, True, False, False]


def test_a_step_against_the_gradient_raises_a_positive_pairs_score() -> None:
    maps = relu_maps(2, 4, 8, 6).requires_grad_()
    pair = (torch.tensor([0]), torch.tensor([1]), torch.tensor([True]))
    before = cross_correlation_loss(maps, *pair, **ALL)
    (gradient,) = torch.autograd.grad(before, maps)
    after = cross_correlation_loss(maps - 0.5 * gradient, *pair, **ALL)
    assert after.item() < before.item()


def test_free_memory_chooses_how_many_pairs_a_gpu_computes_at_once() -> None:
    search = Search(patch=5, rows=5, sigma_eps=0.01, outside_rows=True)
    shape = (192, 32, 72, 28)  # Pool1 of the paper's images
    gib = 2**30 // 4
    assert [pairs_that_fit(shape, search, free) for free in (0, 4 * gib, 8 * gib)] == [1, 24, 48]
    # However much is free, no array gets more elements than 32 bits count.
    largest = 32 * 72 * 28 * 5 * 28
    assert pairs_that_fit(shape, search, 1000 * gib) == (2**31 - 1) // largest


def test_free_memory_does_not_choose_where_it_must_not_change_the_last_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class OnGpu:
        device, shape = torch.device("cuda"), (192, 32, 72, 28)

        def element_size(self) -> int:
            return 4

    search = Search(patch=5, rows=5, sigma_eps=0.01, outside_rows=True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 * 2**30, 16 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 * 2**30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5 * 2**30)
    maps: Any = OnGpu()
    assert pairs_at_a_time(maps, search) == 48
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert pairs_at_a_time(maps, search) == CHUNK_PAIRS_FIXED


@pytest.mark.parametrize("chunk_pairs", [1, 2, 3, 50])
def test_chunk_size_changes_neither_loss_nor_gradient(chunk_pairs: int) -> None:
    def loss_and_gradient(chunk: int | None) -> tuple[Tensor, Tensor]:
        maps = relu_maps(4, 3, 7, 5).requires_grad_()
        loss = cross_correlation_loss(maps, FIRST, SECOND, SAME, chunk_pairs=chunk)
        return loss, torch.autograd.grad(loss, maps)[0]

    for found, expected in zip(
        loss_and_gradient(chunk_pairs), loss_and_gradient(None), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def one_pair(same: bool) -> tuple[Tensor, Tensor, Tensor]:
    return torch.tensor([0]), torch.tensor([1]), torch.tensor([same])


def twins() -> Tensor:
    """A map and its copy: every patch finds itself, and scores highest there."""
    return relu_maps(1, 1, 6, 5, seed=4).repeat(2, 1, 1, 1)


def test_a_patch_against_itself_scores_below_one() -> None:
    maps = twins()
    loss = cross_correlation_loss(maps, *one_pair(True), **ALL).item()
    # sum(a^2) / 24 is sigma^2, so with itself a patch scores (sigma / (sigma + 0.01))^2.
    image = maps[0, 0].tolist()
    scores = []
    for y in range(6):
        for x in range(5):
            values = torch.tensor(window(image, y, x, 5), dtype=torch.float64)
            scores.append((values.std() / (values.std() + 0.01)).item() ** 2)
    assert loss == pytest.approx(1 - sum(scores) / len(scores), abs=1e-5)
    assert 0.01 < loss < 0.1


def test_a_negative_pair_ignores_patterns_that_both_people_have() -> None:
    assert cross_correlation_loss(twins(), *one_pair(False)).item() == 0
    raised = cross_correlation_loss(twins(), *one_pair(False), negative_threshold=1.0)
    assert raised.item() > 0.9


def test_a_positive_pair_ignores_patches_without_a_counterpart() -> None:
    maps = torch.zeros(2, 1, 20, 5)
    maps[:, :, :6] = twins()
    maps[0, :, 12:16] = relu_maps(1, 4, 5, seed=9)  # nothing there on the second map
    both = cross_correlation_loss(maps, *one_pair(True), positive_threshold=-2.0).item()
    kept = cross_correlation_loss(maps, *one_pair(True)).item()
    assert kept < 0.1 < 0.3 < both


def test_a_negative_score_of_a_negative_pair_is_not_pushed() -> None:
    maps = torch.zeros(2, 1, 1, 1)
    maps[0], maps[1] = 1.0, -1.0  # the only candidate is the exact opposite
    loss = cross_correlation_loss(maps, *one_pair(False), rows=1, negative_threshold=1.0)
    assert loss.item() == 0
    pulled = cross_correlation_loss(maps, *one_pair(True), rows=1, positive_threshold=-1.0)
    assert pulled.item() == pytest.approx(1 + (0.2 / 0.21) ** 2, abs=1e-6)  # sigma is 1/5


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_dead_patches_of_the_first_map_count_in_no_mean(value: float) -> None:
    maps = torch.full((2, 1, 7, 7), value)
    maps[1] = relu_maps(1, 7, 7)
    alive = maps.clone()
    alive[0, 0, 0, 0] += 1.0
    kept = cross_correlation_loss(alive, *one_pair(True), positive_threshold=-2.0).item()
    assert kept == pytest.approx(
        naive(alive, positive_threshold=-2.0, pairs=one_pair(True)), abs=1e-5
    )
    if value == 0:  # 3x3 windows see the one live pixel; the other 40 would each add 1
        assert kept < 0.9
        assert cross_correlation_loss(maps, *one_pair(True), positive_threshold=-2.0).item() == 0


def test_a_patch_of_equal_values_is_dead_to_the_last_bit() -> None:
    maps = torch.full((2, 1, 9, 9), 0.1)  # 25 * 0.1 / 25 is not 0.1 in float32
    maps[1, 0, 4, 4] = 0.7
    found = cross_correlation_loss(maps, *one_pair(True), positive_threshold=-2.0)
    expected = naive(maps, positive_threshold=-2.0, pairs=one_pair(True))
    assert found.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("shift", "reached"), [(0, True), (2, True), (-2, True), (3, False)])
def test_the_search_reaches_two_rows_and_every_column(shift: int, reached: bool) -> None:
    pattern = 0.5 + torch.rand(5, 5, generator=torch.Generator().manual_seed(2))
    maps = torch.zeros(2, 1, 24, 16)
    maps[0, 0, 8:13, 0:5] = pattern
    maps[1, 0, 8 + shift : 13 + shift, 11:16] = pattern
    loss = cross_correlation_loss(maps, *one_pair(True), positive_threshold=0.95).item()
    assert (loss > 0) is reached  # within reach the copy scores above 0.95, and else nothing


def test_positives_only_leaves_negative_pairs_out() -> None:
    maps = relu_maps(4, 2, 6, 5).requires_grad_()
    found = cross_correlation_loss(maps, FIRST, SECOND, SAME, positives_only=True)
    expected = cross_correlation_loss(maps, FIRST[SAME], SECOND[SAME], SAME[SAME])
    assert found.item() == expected.item()
    assert found.item() < cross_correlation_loss(maps, FIRST, SECOND, SAME).item()


def test_symmetric_searches_both_ways() -> None:
    maps = relu_maps(4, 2, 6, 5)
    found = cross_correlation_loss(maps, FIRST, SECOND, SAME, symmetric=True)
    both = (torch.cat([FIRST, SECOND]), torch.cat([SECOND, FIRST]), torch.cat([SAME, SAME]))
    assert found.item() == pytest.approx(naive(maps, pairs=both), abs=1e-5)
    swapped = cross_correlation_loss(maps, SECOND, FIRST, SAME, symmetric=True)
    assert swapped.item() == pytest.approx(found.item(), abs=1e-6)
    assert cross_correlation_loss(maps, SECOND, FIRST, SAME).item() != pytest.approx(found.item())


@pytest.mark.parametrize("pairs", [0, 4])
def test_where_nothing_is_kept_loss_and_gradient_are_exactly_zero(pairs: int) -> None:
    maps = relu_maps(4, 2, 6, 5).requires_grad_()
    loss = cross_correlation_loss(
        maps,
        FIRST[:pairs],
        SECOND[:pairs],
        SAME[:pairs],
        positive_threshold=1.1,
        negative_threshold=0.0,
    )
    loss.backward()
    assert loss.item() == 0
    assert maps.grad is not None
    assert maps.grad.eq(0).all()


def test_maps_of_zeros_have_a_zero_gradient() -> None:
    maps = torch.zeros(4, 2, 6, 5, requires_grad=True)
    cross_correlation_loss(maps, FIRST, SECOND, SAME, **ALL).backward()
    assert maps.grad is not None
    assert maps.grad.eq(0).all()


def test_half_precision_is_computed_in_float32_under_autocast() -> None:
    maps = relu_maps(4, 2, 6, 5).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_correlation_loss(maps, FIRST, SECOND, SAME)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(naive(maps.detach()), abs=1e-5)
    assert maps.grad is not None
    assert maps.grad.dtype == torch.bfloat16


def test_channels_last_maps_give_the_same_loss_and_gradient() -> None:
    maps = relu_maps(4, 3, 6, 5)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        x = maps.clone(memory_format=layout).requires_grad_()
        loss = cross_correlation_loss(x, FIRST, SECOND, SAME)
        results.append((loss.item(), torch.autograd.grad(loss, x)[0]))
    assert results[0][0] == results[1][0]
    torch.testing.assert_close(results[0][1], results[1][1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 4}, "patch must be odd"),
        ({"patch": 1}, "at least 3"),
        ({"rows": 2}, "rows must be odd"),
        ({"chunk_pairs": 0}, "chunk_pairs must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cross_correlation_loss(relu_maps(4, 1, 4, 4), FIRST, SECOND, SAME, **settings)  # type: ignore[arg-type]


def test_maps_that_are_not_4d_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), found shape \(4, 6\)"):
        cross_correlation_loss(relu_maps(4, 6), FIRST, SECOND, SAME)


def test_in_float64_no_part_of_the_loss_is_rounded_to_float32() -> None:
    maps = relu_maps(4, 2, 6, 5, dtype=torch.float64)
    found = cross_correlation_loss(maps, FIRST, SECOND, SAME)
    assert found.item() == pytest.approx(naive(maps), rel=1e-13)
