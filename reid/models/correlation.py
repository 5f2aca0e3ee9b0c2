"""The similarity of CSN: the attended parts of one image slid over the maps of another.

Guo and Cheung, "Efficient and Deep Person Re-Identification using Multi-Level Similarity",
CVPR 2018, Eq. 2: a depth-wise cross-correlation of stride 1, zero-padded to the size of the
maps. Where an even part's padding is uneven, "SAME" of TensorFlow is inferred.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FORMS = ("auto", "conv", "fft")
"""How ``correlate`` computes; the results differ by rounding alone."""

_FFT_CHUNK = 8
"""Pairs per transform: what a few pairs need stays in the cache."""


def correlate(maps: Tensor, parts: Tensor, form: str = "auto") -> Tensor:
    """(P, C, H, W) maps, (P, S, C, k, k) parts -> (P, S * C, H, W), row by row.

        out[p, s * C + c, y, x] =
            sum_ij parts[p, s, c, i, j] * maps[p, c, y + i - (k - 1) // 2, x + j - (k - 1) // 2]

    with zeros outside the maps. The forms:

    ``conv``     a grouped convolution with P * C groups.
    ``fft``      products of spectra; at least float32, the result in the precision of ``maps``.
    ``auto``     ``fft`` on a CPU, else ``conv``.

    Raises ValueError for another form. Best of ten, forward and backward of 32 pairs, C = 96,
    S = 3, on two CPU cores (AVX2): 40x15 maps with k = 10: conv 0.71 s, fft 0.14 s (all pairs in
    one transform 0.31 s); 20x8 maps with k = 5: 0.045 and 0.044 s. Products with Toeplitz
    matrices of the parts' rows, gradient written out, took 0.22 s and 0.04 s.
    """
    if form not in FORMS:
        raise ValueError(f"form is one of {', '.join(FORMS)}; found {form!r}")
    if form == "fft" or (form == "auto" and maps.device.type == "cpu"):
        chunks = zip(torch.split(maps, _FFT_CHUNK), torch.split(parts, _FFT_CHUNK), strict=True)
        return torch.cat([_by_fft(*chunk) for chunk in chunks])
    return _by_convolution(maps, parts)


def same_padding(size: int) -> tuple[int, int]:
    """TensorFlow's "SAME" for a kernel of this size: zeros before, zeros after."""
    return (size - 1) // 2, size // 2


def _by_convolution(maps: Tensor, parts: Tensor) -> Tensor:
    pairs, channels, height, width = maps.shape
    size = parts.shape[-1]
    images = F.pad(maps.reshape(1, pairs * channels, height, width), same_padding(size) * 2)
    filters = parts.transpose(1, 2).reshape(-1, 1, size, size)
    out = F.conv2d(images, filters, groups=pairs * channels)
    return out.reshape(pairs, channels, -1, height, width).transpose(1, 2).flatten(1, 2)


def _by_fft(maps: Tensor, parts: Tensor) -> Tensor:
    height, width = maps.shape[-2:]
    before, after = same_padding(parts.shape[-1])
    # A window that leaves the transform at its end comes back at the zeros before the map,
    # so they serve as padding on both sides, and ``after`` zeros in all are enough.
    size = (height + after, width + after)
    at_least_single = [x if x.element_size() >= 4 else x.float() for x in (maps, parts)]
    padded = F.pad(at_least_single[0], (before, after - before) * 2)
    signal, kernel = torch.fft.rfft2(padded), torch.fft.rfft2(at_least_single[1], s=size)
    out: Tensor = torch.fft.irfft2(signal[:, None] * kernel.conj(), s=size)[..., :height, :width]
    return out.flatten(1, 2).to(maps.dtype)
