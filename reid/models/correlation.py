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

from reid.models.spectra import Places, spectrum, values

FORMS = ("auto", "conv", "spectra")
"""How ``correlate`` computes; the results differ by rounding alone."""


def correlate(maps: Tensor, parts: Tensor, form: str = "auto") -> Tensor:
    """(P, C, H, W) maps, (P, S, C, k, k) parts -> (P, S * C, H, W), row by row.

        out[p, s * C + c, y, x] =
            sum_ij parts[p, s, c, i, j] * maps[p, c, y + i - (k - 1) // 2, x + j - (k - 1) // 2]

    with zeros outside the maps. The forms:

    ``conv``     a grouped convolution with P * C groups.
    ``spectra``  products of spectra; at least float32, the result in the precision of ``maps``.
    ``auto``     ``spectra`` on a CPU, else ``conv``.

    Raises ValueError for another form. Best of ten, forward and backward of eight pairs, C = 96,
    S = 3, on two CPU cores (AVX-512): 40x15 maps with k = 10: conv 0.17 s, spectra 0.02 s, with
    fast transforms 0.05 s; 20x8 maps with k = 5: 0.014, 0.008 and 0.019 s. Products with Toeplitz
    matrices of the parts' rows took longer than fast transforms (AVX2). All timed by hand.
    """
    if form not in FORMS:
        raise ValueError(f"form is one of {', '.join(FORMS)}; found {form!r}")
    if form == "spectra" or (form == "auto" and maps.device.type == "cpu"):
        return _by_spectra(maps, parts)
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


def _by_spectra(maps: Tensor, parts: Tensor) -> Tensor:
    single = [x if x.element_size() >= 4 else x.float() for x in (maps, parts)]
    with torch.autocast(maps.device.type, enabled=False):  # it would multiply in bfloat16
        out: Tensor = cast(Any, _BySpectra).apply(*single)
    return out.flatten(1, 2).to(maps.dtype)


class _BySpectra(torch.autograd.Function):
    """``correlate`` as a product of spectra: (P, C, H, W), (P, S, C, k, k) -> (P, S, C, H, W).

    A window that leaves the torus at its end comes back before the answer's first place, so as
    many places more than the maps have as a part has behind its centre are enough.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, parts: Tensor) -> Tensor:
        height, width = maps.shape[-2:]
        before, after = same_padding(parts.shape[-1])
        window = range(before, -after - 1, -1)
        ctx.size = size = (height + after, width + after)
        ctx.maps, ctx.parts = Places(range(height), range(width)), Places(window, window)
        signal = spectrum(maps, ctx.maps, size)
        kernel = spectrum(parts, ctx.parts, size)
        ctx.save_for_backward(signal, kernel)
        return values(signal[:, None] * kernel, ctx.maps, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        signal, kernel = ctx.saved_tensors
        with torch.autocast(gradient.device.type, enabled=False):
            change = spectrum(gradient, ctx.maps, ctx.size)
            to_maps = values((change * kernel.conj()).sum(1), ctx.maps, ctx.size)
            to_parts = values(change * signal[:, None].conj(), ctx.parts, ctx.size)
        return to_maps, to_parts
