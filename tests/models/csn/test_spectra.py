"""Transforms as matrix products against PyTorch's fast ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reid.models.csn.spectra import Inverse, Places, spectrum

SIZES = [(9, 6), (8, 7), (1, 1), (2, 5)]


def on_torus(x: Tensor, places: Places, size: tuple[int, int]) -> Tensor:
    """(N, rows, columns, C) at its places, each modulo the size of the torus, zeros elsewhere:
    (N, C, h, w)."""
    torus = torch.zeros(len(x), x.shape[-1], *size, dtype=x.dtype)
    for r, row in enumerate(places.rows):
        for c, column in enumerate(places.columns):
            torus[..., row % size[0], column % size[1]] = x[:, r, c]
    return torus


def places_in(size: tuple[int, int]) -> list[Places]:
    """All places, some of them, and some around the origin in falling order."""
    height, width = size
    return [
        Places(range(height), range(width)),
        Places(range(height // 2, height), range(1)),
        Places(range(height // 2, height // 2 - height, -1), range(0, -width, -1)),
    ]


def numbers(places: Places, dtype: torch.dtype = torch.float64) -> Tensor:
    shape = (3, len(places.rows), len(places.columns), 2)
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def real_and_imaginary(waves: Tensor) -> Tensor:
    """(N, C, half, w) complex -> the layout of ``spectrum``."""
    return torch.view_as_real(waves).permute(0, 2, 4, 3, 1)


@pytest.mark.parametrize("size", SIZES)
def test_a_spectrum_is_the_upper_half_of_the_fast_transform(size: tuple[int, int]) -> None:
    for places in places_in(size):
        x = numbers(places)
        half = torch.fft.fft2(on_torus(x, places, size))[..., : size[0] // 2 + 1, :]
        torch.testing.assert_close(spectrum(x, places, size), real_and_imaginary(half))


@pytest.mark.parametrize("size", SIZES)
def test_values_are_those_of_the_fast_inverse_at_the_places(size: tuple[int, int]) -> None:
    torus = numbers(Places(range(size[0]), range(size[1]))).permute(0, 3, 1, 2)
    waves = real_and_imaginary(torch.fft.fft2(torus)[..., : size[0] // 2 + 1, :])
    for places in places_in(size):
        rows = torch.tensor([row % size[0] for row in places.rows])
        columns = torch.tensor([column % size[1] for column in places.columns])
        expected = torus[..., rows[:, None], columns].permute(0, 2, 3, 1)
        inverse = Inverse(waves, places, size)
        torch.testing.assert_close(torch.stack([*map(inverse.values, waves)]), expected)


@pytest.mark.parametrize("size", SIZES)
def test_the_gradient_of_values_is_the_one_that_autograd_finds(size: tuple[int, int]) -> None:
    for places in places_in(size):
        change = numbers(places)[0]
        waves = torch.zeros(size[0] // 2 + 1, 2, size[1], 2).double().requires_grad_()
        inverse = Inverse(waves, places, size)
        (expected,) = torch.autograd.grad((inverse.values(waves) * change).sum(), waves)
        torch.testing.assert_close(inverse.gradient(change), expected)


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.bfloat16, 0.02), (torch.float32, 1e-6), (torch.float64, 1e-15)]
)
def test_numbers_keep_their_precision(dtype: torch.dtype, error: float) -> None:
    places = Places(range(4), range(3))
    x = numbers(places, dtype)
    waves = spectrum(x, places, (5, 5))
    back = Inverse(waves, places, (5, 5)).values(waves[0])
    assert (waves.dtype, back.dtype) == (dtype, dtype)
    torch.testing.assert_close(back, x[0], rtol=0, atol=2 * error)
    assert (back - x[0]).abs().max() > error / 100  # not in a higher precision


@pytest.mark.parametrize("layout", ["channels first", "turned over"])
def test_a_strided_array_is_taken_as_it_lies(layout: str) -> None:
    places = Places(range(4), range(3))
    x = numbers(places)
    strided = (
        x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        if layout == "channels first"
        else x.transpose(1, 2).contiguous().transpose(1, 2)
    )
    assert not strided.is_contiguous()
    torch.testing.assert_close(spectrum(strided, places, (5, 5)), spectrum(x, places, (5, 5)))
