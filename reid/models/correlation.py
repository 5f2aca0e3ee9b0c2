"""The similarity of CSN: the attended parts of one image slid over the maps of another.

Guo and Cheung, "Efficient and Deep Person Re-Identification using Multi-Level Similarity",
CVPR 2018, Eq. 2: a depth-wise cross-correlation of stride 1, zero-padded to the size of the
maps. Where an even part's padding is uneven, "SAME" of TensorFlow is inferred.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

FORMS = ("auto", "conv", "fft")
"""How ``correlate`` computes; the results differ by rounding alone."""


def correlate(maps: Tensor, parts: Tensor, form: str = "auto") -> Tensor:
    """(P, C, H, W) maps, (P, S, C, k, k) parts -> (P, S * C, H, W), row by row.

        out[p, s * C + c, y, x] =
            sum_ij parts[p, s, c, i, j] * maps[p, c, y + i - (k - 1) // 2, x + j - (k - 1) // 2]

    with zeros outside the maps. The forms:

    ``conv``     a grouped convolution with P * C groups.
    ``fft``      products of spectra; at least float32, the result in the precision of ``maps``.
    ``auto``     ``fft`` on a CPU, else ``conv``.

    Raises ValueError for another form. Best of ten, forward and backward of 32 pairs, C = 96,
    S = 3, on two CPU cores (AVX2): 40x15 maps with k = 10: conv 0.71 s, fft 0.14 s (eight pairs
    at a time, as ``Csn.logits`` takes them; all in one transform 0.31 s); 20x8 maps with k = 5:
    0.045 and 0.044 s. Products with Toeplitz matrices of the parts' rows, gradient written out,
    took 0.22 s and 0.04 s.
    """
    if form not in FORMS:
        raise ValueError(f"form is one of {', '.join(FORMS)}; found {form!r}")
    if form == "fft" or (form == "auto" and maps.device.type == "cpu"):
        return _by_fft(maps, parts)
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
    single = [x if x.element_size() >= 4 else x.float() for x in (maps, parts)]
    out: Tensor = cast(Any, _BySpectra).apply(*single)
    return out.flatten(1, 2).to(maps.dtype)


class _BySpectra(torch.autograd.Function):
    """``correlate`` as a product of spectra: (P, C, H, W), (P, S, C, k, k) -> (P, S, C, H, W).

    A window that leaves the transform at its end comes back before the answer's first place,
    so ``after`` zeros in all are enough. The gradient is written out because the one of a real
    transform is taken as a complex one, twice the work.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, parts: Tensor) -> Tensor:
        (height, width), after = maps.shape[-2:], same_padding(parts.shape[-1])[1]
        size = (height + after, width + after)
        signal = torch.fft.rfft2(maps, s=size)
        kernel = torch.fft.rfft2(parts.flip(-1, -2), s=size)
        ctx.save_for_backward(signal, kernel)
        ctx.size, ctx.after, ctx.kernel_size = size, after, parts.shape[-1]
        out: Tensor = torch.fft.irfft2(signal[:, None] * kernel, s=size)
        return out[..., after:, after:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        signal, kernel = ctx.saved_tensors
        after, side = ctx.after, ctx.kernel_size
        spectrum = torch.fft.rfft2(F.pad(gradient, (after, 0, after, 0)))
        to_maps = torch.fft.irfft2((spectrum * kernel.conj()).sum(1), s=ctx.size)
        to_parts = torch.fft.irfft2(spectrum * signal[:, None].conj(), s=ctx.size)
        height, width = gradient.shape[-2:]
        return to_maps[..., :height, :width], to_parts[..., :side, :side].flip(-1, -2)
