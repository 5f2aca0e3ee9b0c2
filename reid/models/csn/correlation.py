"""The similarity of CSN: the attended parts of one image slid over the maps of another.

Guo and Cheung, "Efficient and Deep Person Re-Identification using Multi-Level Similarity",
CVPR 2018, Eq. 2: a depth-wise cross-correlation of stride 1, zero-padded to the size of the
maps. An even part's padding is uneven; that the extra zeros come after it is inferred.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from reid.models.csn.settings import DEFAULTS, WORDS
from reid.models.csn.spectra import Places, spectrum, values

FORMS = WORDS["correlation_form"]
"""How ``correlate`` computes; results differ only by rounding."""

EVEN_PADDINGS = WORDS["even_padding"]
"""Where an even part has the extra row and column of zeros."""


def correlate(
    maps: Tensor,
    parts: Tensor,
    form: str = DEFAULTS.correlation_form,
    pool: bool = False,
    even_padding: str = DEFAULTS.even_padding,
) -> Tensor:
    """(P, C, H, W) maps, (P, S, C, k, k) parts -> (P, S * C, H, W), row by row.

        out[p, s * C + c, y, x] =
            sum_ij parts[p, s, c, i, j] * maps[p, c, y + i - before, x + j - before]

    with zeros outside the maps and ``before`` of ``same_padding``. With ``pool`` a 2x2 MAX pool of
    it, an odd side rounded up: (P, S * C, ceil(H / 2), ceil(W / 2)); among equal values any one may
    get the gradient. The forms:

    ``conv``     a grouped convolution with P * C groups.
    ``spectra``  products of spectra; at least float32, the result in the precision of ``maps``.
    ``auto``     ``spectra`` on a CPU, else ``conv``.

    Raises ValueError for another form. On a CPU spectra are fastest for maps and parts of the
    paper's sizes (``tests/benchmarks/README.md``).
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}; found {form!r}")
    if form == "spectra" or (form == "auto" and maps.device.type == "cpu"):
        return _by_spectra(maps, parts, pool, even_padding)
    out = _by_convolution(maps, parts, even_padding)
    return F.max_pool2d(out, 2, ceil_mode=True) if pool else out


def same_padding(size: int, even: str = DEFAULTS.even_padding) -> tuple[int, int]:
    """Zeros before and after, so that a kernel of this size keeps the map's size.

    An even kernel has one more ``after`` (TensorFlow's "SAME"), or ``before``. Raises ValueError
    for any other ``even``.
    """
    if even not in EVEN_PADDINGS:
        raise ValueError(f"even_padding must be one of {', '.join(EVEN_PADDINGS)}; found {even!r}")
    less, more = (size - 1) // 2, size // 2
    return (less, more) if even == "after" else (more, less)


def _by_convolution(maps: Tensor, parts: Tensor, even_padding: str) -> Tensor:
    pairs, channels, height, width = maps.shape
    size = parts.shape[-1]
    if not pairs:  # torch rejects zero groups
        return maps.new_zeros(0, channels * parts.shape[1], height, width)
    images = F.pad(
        maps.reshape(1, pairs * channels, height, width), same_padding(size, even_padding) * 2
    )
    filters = parts.transpose(1, 2).reshape(-1, 1, size, size)
    out = F.conv2d(images, filters, groups=pairs * channels)
    return out.reshape(pairs, channels, -1, height, width).transpose(1, 2).flatten(1, 2)


def _by_spectra(maps: Tensor, parts: Tensor, pool: bool, even_padding: str) -> Tensor:
    padding = same_padding(parts.shape[-1], even_padding)
    single = [x if x.element_size() >= 4 else x.float() for x in (maps, parts)]
    with torch.autocast(maps.device.type, enabled=False):  # autocast would multiply in bfloat16
        out: Tensor = cast(Any, _BySpectra).apply(*single, pool, padding)
    return out.flatten(1, 2).to(maps.dtype)


class _BySpectra(torch.autograd.Function):
    """``correlate`` as a product of spectra: (P, C, H, W), (P, S, C, k, k) -> (P, S, C, H, W).

    A window that leaves the torus at one end continues at the other, so the torus is larger than
    the maps by the padding's longer side, filled with zeros. A result to be pooled is computed
    with its even positions first, so that the two halves can be compared.
    """

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, parts: Tensor, pool: bool, padding: tuple[int, int]
    ) -> Tensor:
        height, width = maps.shape[-2:]
        before, after = padding
        window = range(before, -after - 1, -1)
        ctx.size = size = (height + max(padding), width + max(padding))
        ctx.maps, ctx.parts = Places(range(height), range(width)), Places(window, window)
        ctx.out = Places(_even_first(height), _even_first(width)) if pool else ctx.maps
        signal = spectrum(maps, ctx.maps, size)
        kernel = spectrum(parts, ctx.parts, size)
        out = values(signal[:, None] * kernel, ctx.out, size)
        if not pool:
            ctx.save_for_backward(signal, kernel, None, None)
            return out
        remember = any(ctx.needs_input_grad)
        out, later_row = _larger_half(out, -2, remember)
        out, later_column = _larger_half(out, -1, remember)
        ctx.save_for_backward(signal, kernel, later_row, later_column)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        signal, kernel, later_row, later_column = ctx.saved_tensors
        if later_row is not None:
            gradient = _to_halves(_to_halves(gradient, later_column, -1), later_row, -2)
        with torch.autocast(gradient.device.type, enabled=False):
            # Conjugate this gradient and the result, so that no spectrum has to be reversed.
            change = spectrum(gradient, ctx.out.mirrored(), ctx.size)
            to_maps = values(_summed_products(change, kernel), ctx.maps.mirrored(), ctx.size)
            to_parts = values(change * signal[:, None], ctx.parts.mirrored(), ctx.size)
        return to_maps, to_parts, None, None


def _even_first(length: int) -> tuple[int, ...]:
    """0, 2, 4, ... and then 1, 3, 5, ...; the last position of an odd length is its own pair."""
    return (*range(0, length, 2), *(min(place, length - 1) for place in range(1, length + 1, 2)))


def _larger_half(x: Tensor, axis: int, remember: bool) -> tuple[Tensor, Tensor | None]:
    """The larger of each entry of the first half and its counterpart.

    With ``remember`` also 1 where it is the first half's.
    """
    first, second = x.chunk(2, axis)
    larger = torch.maximum(first, second)
    # Numbers instead of booleans: the backward pass multiplies by them, which is faster.
    return larger, torch.gt(second, first, out=torch.empty_like(larger)) if remember else None


def _to_halves(gradient: Tensor, second: Tensor, axis: int) -> Tensor:
    """The gradient of ``_larger_half``: each entry in one half, zero in the other."""
    size = list(gradient.shape)
    size[axis] *= 2
    out = gradient.new_empty(size)
    one, other = out.chunk(2, axis)
    torch.mul(gradient, second, out=other)
    torch.sub(gradient, other, out=one)
    return out


def _summed_products(x: Tensor, y: Tensor) -> Tensor:
    """``(x * y).sum(1)`` without storing all products."""
    out = x[:, 0] * y[:, 0]
    for one, other in zip(x.unbind(1)[1:], y.unbind(1)[1:], strict=True):
        out.addcmul_(one, other)
    return out
