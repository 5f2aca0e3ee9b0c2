"""Discrete Fourier transforms of many small maps, as matrix products.

A map of 40x15 is too small for a fast Fourier transform: it needs few multiplications, but much
time to gather the data. Two products with matrices of cosines and sines need more of them but run
at a CPU's full speed. They read only positions with data and compute only positions that are
needed, so nothing is padded, cut or mirrored.
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

    def mirrored(self) -> Places:
        """The negated positions: a spectrum there, or its inverse, is the conjugate's."""
        return Places(tuple(-row for row in self.rows), tuple(-column for column in self.columns))


def spectrum(x: Tensor, places: Places, size: tuple[int, int]) -> Tensor:
    """(..., rows, columns) real -> (..., h // 2 + 1, w) complex, on a torus of ``size`` (h, w).

        out[f, g] = sum_rc x[r, c] * exp(-2 pi i (f rows[r] / h + g columns[c] / w))

    The lower half of the first axis follows from the upper half. float32 or float64.
    """
    half, width, num_columns = size[0] // 2 + 1, size[1], len(places.columns)
    down, across = (_on(x, array) for array in _waves(places, size, _kind(x)))
    columns = torch.matmul(down, x).reshape(*x.shape[:-2], half, 2 * num_columns)
    out = torch.matmul(columns, across).reshape(*columns.shape[:-1], width, 2)
    return torch.view_as_complex(out)


def values(waves: Tensor, places: Places, size: tuple[int, int]) -> Tensor:
    """The inverse of ``spectrum``: (..., h // 2 + 1, w) complex -> (..., rows, columns) real."""
    numbers = torch.view_as_real(waves)
    down, across = (_on(numbers, array) for array in _waves_back(places, size, _kind(numbers)))
    columns = torch.matmul(numbers.flatten(-2), across)
    return torch.matmul(
        down, columns.reshape(*columns.shape[:-2], down.shape[1], len(places.columns))
    )


def _kind(x: Tensor) -> str:
    return "float64" if x.dtype == torch.float64 else "float32"


def _on(x: Tensor, array: Matrix) -> Tensor:
    return torch.from_numpy(array).to(x.device)


@functools.lru_cache(maxsize=64)
def _waves(places: Places, size: tuple[int, int], kind: str) -> tuple[Matrix, Matrix]:
    """Matrices of ``spectrum``.

    The first, (2 * half, rows), from the left: for each frequency a row that gives the real part
    and one for the imaginary part. The second, (2 * columns, 2 * w), from the right: of all real
    parts and then all imaginary ones, to complex numbers.
    """
    height, width = size
    angles = 2 * np.pi / height * np.outer(np.arange(height // 2 + 1), places.rows)
    down = np.stack((np.cos(angles), -np.sin(angles)), 1).reshape(-1, len(places.rows))
    angles = 2 * np.pi / width * np.outer(places.columns, np.arange(width))
    cos, sin = np.cos(angles), np.sin(angles)
    across = np.concatenate((np.stack((cos, -sin), 2), np.stack((sin, cos), 2)))
    return down.astype(kind), across.reshape(-1, 2 * width).astype(kind)


@functools.lru_cache(maxsize=64)
def _waves_back(places: Places, size: tuple[int, int], kind: str) -> tuple[Matrix, Matrix]:
    """Matrices of ``values``: those of ``spectrum`` transposed, with each frequency that represents
    two counted twice."""
    height, width = size
    down, across = _waves(places, size, "float64")
    counted = np.full(height // 2 + 1, 2.0)
    counted[0] = 1
    if height % 2 == 0:
        counted[-1] = 1
    back = down.T * (counted.repeat(2) / (height * width))
    return np.ascontiguousarray(back, kind), np.ascontiguousarray(across.T, kind)
