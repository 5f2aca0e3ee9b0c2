"""Discrete Fourier transforms of many small maps, as matrix products.

A map of 40x15 is too small for a fast Fourier transform: it needs few multiplications, but much
time to gather the data. Two products with matrices of cosines and sines need more of them but run
at a CPU's full speed, as the channels, which come last, are side by side in each product. They
read only positions with data and compute only positions that are needed, so nothing is padded,
cut or mirrored.

The spectrum of a map on a torus of (h, w) is (h // 2 + 1, 2, w, C), real: for each row of
frequencies the real parts and then the imaginary ones. The lower half follows from the upper one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Matrix: TypeAlias = npt.NDArray[np.floating[Any]]


class Places(NamedTuple):
    """Positions of an array's rows and columns on a torus, in any order, also negative."""

    rows: Sequence[int]
    columns: Sequence[int]


def spectrum(x: Tensor, places: Places, size: tuple[int, int]) -> Tensor:
    """(N, rows, columns, C) -> (N, h // 2 + 1, 2, w, C), on a torus of ``size`` (h, w).

        out[f, :, g] = sum_rc x[r, c] * exp(-2 pi i (f rows[r] / h + g columns[c] / w))

    In the precision of ``x``; sums of bfloat16 products are float32, rounded once per product of
    matrices.
    """
    down, across = (_like(x, array) for array in _waves(places, size))
    half, channels = size[0] // 2 + 1, x.shape[-1]
    columns = torch.matmul(down, x.flatten(2)).view(-1, across.shape[1], channels)
    return torch.matmul(across, columns).view(len(x), half, 2, size[1], channels)


class Inverse:
    """The inverse of ``spectrum`` for one spectrum at a time, and its gradient."""

    def __init__(self, like: Tensor, places: Places, size: tuple[int, int]) -> None:
        self._places = places
        self._down, across = (_like(like, array) for array in _waves_back(places, size))
        self._across = across.expand(size[0] // 2 + 1, *across.shape)

    def values(self, waves: Tensor, out: Tensor | None = None) -> Tensor:
        """(h // 2 + 1, 2, w, C) -> (rows, columns, C), written to ``out`` if it is given."""
        columns = torch.bmm(self._across, waves.flatten(1, 2))
        columns = columns.view(self._down.shape[1], -1)
        if out is not None:
            return torch.mm(self._down, columns, out=out.flatten(1)).view_as(out)
        return torch.mm(self._down, columns).view(*map(len, self._places), -1)

    def gradient(self, change: Tensor) -> Tensor:
        """The gradient of ``values`` to the spectrum, from that to the values."""
        columns = torch.mm(self._down.t(), change.flatten(1))
        waves = torch.bmm(self._across.mT, columns.view(len(self._across), -1, change.shape[-1]))
        return waves.view(len(waves), 2, -1, change.shape[-1])


def _like(x: Tensor, array: Matrix) -> Tensor:
    return torch.from_numpy(array).to(x)


@functools.lru_cache(maxsize=64)
def _waves(places: Places, size: tuple[int, int]) -> tuple[Matrix, Matrix]:
    """Matrices of ``spectrum``, both from the left.

    The first, (2 * half, rows): for each frequency a row that gives the real part and one for the
    imaginary part. The second, (2 * w, 2 * columns): of all real parts and then all imaginary ones,
    to the same of the result.
    """
    height, width = size
    angles = 2 * np.pi / height * np.outer(np.arange(height // 2 + 1), places.rows)
    down = np.stack((np.cos(angles), -np.sin(angles)), 1).reshape(-1, len(places.rows))
    angles = 2 * np.pi / width * np.outer(np.arange(width), places.columns)
    cos, sin = np.cos(angles), np.sin(angles)
    return down, np.block([[cos, sin], [-sin, cos]])


@functools.lru_cache(maxsize=64)
def _waves_back(places: Places, size: tuple[int, int]) -> tuple[Matrix, Matrix]:
    """Matrices of ``Inverse``: those of ``spectrum`` transposed, with each frequency that
    represents two counted twice."""
    height, width = size
    down, across = _waves(places, size)
    counted = np.full(height // 2 + 1, 2.0)
    counted[0] = 1
    if height % 2 == 0:
        counted[-1] = 1
    return np.ascontiguousarray(down.T * (counted.repeat(2) / (height * width))), across.T.copy()
