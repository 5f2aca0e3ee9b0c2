"""Transforms as matrix products against PyTorch's fast ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reid.models.csn.spectra import Places, spectrum, values

SIZES = [(9, 6), (8, 7), (1, 1), (2, 5)]


def on_torus(x: Tensor, places: Places, size: tuple[int, int]) -> Tensor:
    """``x`` at its places, each modulo the size of the torus, zeros elsewhere."""
    torus = torch.zeros(*x.shape[:-2], *size, dtype=x.dtype)
    for r, row in enumerate(places.rows):
        for c, column in enumerate(places.columns):
            torus[..., row % size[0], column % size[1]] = x[..., r, c]
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
    shape = (3, 2, len(places.rows), len(places.columns))
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", SIZES)
def test_a_spectrum_is_the_upper_half_of_the_fast_transform(size: tuple[int, int]) -> None:
    for places in places_in(size):
        x = numbers(places)
        expected = torch.fft.fft2(on_torus(x, places, size))[..., : size[0] // 2 + 1, :]
        torch.testing.assert_close(spectrum(x, places, size), expected)


@pytest.mark.parametrize("size", SIZES)
def test_values_are_those_of_the_fast_inverse_at_the_places(size: tuple[int, int]) -> None:
    torus = numbers(Places(range(size[0]), range(size[1])))
    half = torch.fft.fft2(torus)[..., : size[0] // 2 + 1, :]
    for places in places_in(size):
        rows = torch.tensor([row % size[0] for row in places.rows])
        columns = torch.tensor([column % size[1] for column in places.columns])
        expected = torus[..., rows[:, None], columns]
        torch.testing.assert_close(values(half, places, size), expected)


@pytest.mark.parametrize("size", SIZES)
def test_a_mirrored_spectrum_is_the_conjugate(size: tuple[int, int]) -> None:
    for places in places_in(size):
        x = numbers(places)
        there = spectrum(x, places.mirrored(), size)
        torch.testing.assert_close(there, spectrum(x, places, size).conj().resolve_conj())
        back = values(there, places.mirrored(), size)
        torch.testing.assert_close(back, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_keep_their_precision(dtype: torch.dtype) -> None:
    places = Places(range(4), range(3))
    x = numbers(places, dtype)
    back = values(spectrum(x, places, (5, 5)), places, (5, 5))
    assert back.dtype == dtype
    torch.testing.assert_close(back, x)


@pytest.mark.parametrize("layout", ["channels last", "turned over"])
def test_a_strided_array_is_taken_as_it_lies(layout: str) -> None:
    places = Places(range(4), range(3))
    x = numbers(places)
    strided = (
        x.to(memory_format=torch.channels_last)
        if layout == "channels last"
        else x.transpose(2, 3).contiguous().transpose(2, 3)
    )
    assert not strided.is_contiguous()
    torch.testing.assert_close(spectrum(strided, places, (5, 5)), spectrum(x, places, (5, 5)))
