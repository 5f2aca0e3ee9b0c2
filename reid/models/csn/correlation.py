"""The similarity of CSN: the attended parts of one image slid over the maps of another.

Guo and Cheung, "Efficient and Deep Person Re-Identification using Multi-Level Similarity",
CVPR 2018, Eq. 2: a depth-wise cross-correlation of stride 1, zero-padded to the size of the
maps. An even part's padding is uneven; that the extra zeros come after it is inferred.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from reid.models.csn.settings import DEFAULTS, WORDS
from reid.models.csn.spectra import Inverse, Places, spectrum

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
    ``spectra``  products of ``spectra``; the result in the precision of ``maps``.
    ``auto``     ``spectra`` on a CPU, else ``conv``.

    Raises ValueError for another form. On a CPU spectra are fastest for maps and parts of the
    paper's sizes (``tests/benchmarks/README.md``).
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}; found {form!r}")
    if by_spectra(form, maps.device):
        each = torch.arange(len(maps), device=maps.device)
        out = correlate_spectra(spectra(maps, parts, even_padding), each, each, pool)
        return out.to(maps.dtype)
    out = _by_convolution(maps, parts, even_padding)
    return F.max_pool2d(out, 2, ceil_mode=True) if pool else out


def by_spectra(form: str, device: torch.device) -> bool:
    """Whether ``correlate`` computes this form by spectra on this device."""
    return form == "spectra" or (form == "auto" and device.type == "cpu")


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


class Spectra(NamedTuple):
    """Spectra of N images' maps and parts at one level, each (N, h // 2 + 1, 2, w, S * C).

    Those of the maps are repeated for each of the S stripes, so that the two are alike. The torus,
    (h, w), is larger than the maps, ``size``, by the longer side of the parts' ``padding``, because
    a window that leaves the torus at one end continues at the other.
    """

    maps: Tensor
    parts: Tensor
    size: tuple[int, int]
    padding: tuple[int, int]

    @property
    def torus(self) -> tuple[int, int]:
        return self.size[0] + max(self.padding), self.size[1] + max(self.padding)


def spectra(maps: Tensor, parts: Tensor, even_padding: str = DEFAULTS.even_padding) -> Spectra:
    """(N, C, H, W) maps and (N, S, C, k, k) parts of N images -> their spectra.

    In bfloat16 for bfloat16 maps, as under autocast on a CPU, else at least float32.
    """
    (stripes, channels), kind = parts.shape[1:3], _precision(maps)
    before, after = padding = same_padding(parts.shape[-1], even_padding)
    window = range(before, -after - 1, -1)
    height, width = maps.shape[2:]
    torus = height + max(padding), width + max(padding)
    with torch.autocast(maps.device.type, enabled=False):
        last = maps.to(kind).permute(0, 2, 3, 1).contiguous()
        of_maps = spectrum(last, Places(range(height), range(width)), torus)
        last = parts.to(kind).permute(0, 3, 4, 1, 2).flatten(3).contiguous()
        of_parts = spectrum(last, Places(window, window), torus)
    repeated = of_maps[..., None, :].expand(*of_maps.shape[:-1], stripes, channels)
    return Spectra(repeated.flatten(-2), of_parts, (height, width), padding)


def correlate_spectra(images: Spectra, first: Tensor, second: Tensor, pool: bool = False) -> Tensor:
    """``correlate`` of the maps at ``first`` with the parts at ``second``, (P,) int64 each.

    An image's spectra serve all its pairs. (P, S * C, H, W), or half of that with ``pool``, with
    the channels last in memory.
    """
    with torch.autocast(first.device.type, enabled=False):  # it would round float32 products
        out: Tensor = cast(Any, _Products).apply(
            images.maps, images.parts, first, second, images.size, images.torus, pool
        )
    return out.permute(0, 3, 1, 2)


def _precision(maps: Tensor) -> torch.dtype:
    if maps.dtype == torch.bfloat16 or maps.element_size() >= 4:
        return maps.dtype
    return torch.float32  # sums of float16 could overflow


class _Products(torch.autograd.Function):
    """Values of products of spectra, pair by pair, so that a pair stays in a CPU's cache.

    (N, h // 2 + 1, 2, w, C) of maps and of parts -> (P, H, W, C). A result to be pooled is
    computed with its even positions first, so that the two halves can be compared.
    """

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        parts: Tensor,
        first: Tensor,
        second: Tensor,
        size: tuple[int, int],
        torus: tuple[int, int],
        pool: bool,
    ) -> Tensor:
        places = [_even_first(length) if pool else range(length) for length in size]
        ctx.inverse = Inverse(maps, Places(*places), torus)
        ctx.pairs = list(zip(first.tolist(), second.tolist(), strict=True))
        height, width = (-(-length // 2) if pool else length for length in size)
        shape, channels = (len(ctx.pairs), height), maps.shape[-1]
        out = maps.new_empty(*shape, width, channels)
        later: tuple[Tensor, ...] = ()
        if pool and any(ctx.needs_input_grad):
            later = maps.new_empty(*shape, 2 * width, channels), torch.empty_like(out)
        for pair, (i, j) in enumerate(ctx.pairs):
            waves = _product(maps[i], parts[j])
            if pool:
                rows = maps.new_empty(height, 2 * width, channels)
                later_row, later_column = (x[pair] for x in later) if later else (None, None)
                _larger_half(ctx.inverse.values(waves), 0, rows, later_row)
                _larger_half(rows, 1, out[pair], later_column)
            else:
                ctx.inverse.values(waves, out[pair])
        ctx.save_for_backward(maps, parts, *later)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, parts, *later = ctx.saved_tensors
        to_maps, to_parts = torch.zeros_like(maps), torch.zeros_like(parts)
        for pair, (i, j) in enumerate(ctx.pairs):
            change = gradient[pair]
            if later:
                later_row, later_column = (x[pair] for x in later)
                change = _to_halves(_to_halves(change, later_column, 1), later_row, 0)
            change = ctx.inverse.gradient(change)
            _add_conjugate_product(to_maps[i], change, parts[j])
            _add_conjugate_product(to_parts[j], change, maps[i])
        return to_maps, to_parts, None, None, None, None, None


def _product(x: Tensor, y: Tensor) -> Tensor:
    """``x * y`` of complex numbers, (half, 2, w, C)."""
    (x_re, x_im), (y_re, y_im) = x.unbind(1), y.unbind(1)
    out = torch.empty_like(x)
    re, im = out.unbind(1)
    torch.mul(x_re, y_re, out=re).addcmul_(x_im, y_im, value=-1)
    torch.mul(x_im, y_re, out=im).addcmul_(x_re, y_im)
    return out


def _add_conjugate_product(total: Tensor, x: Tensor, y: Tensor) -> None:
    """``total += x * conjugate(y)`` of complex numbers, (half, 2, w, C)."""
    (re, im), (x_re, x_im), (y_re, y_im) = total.unbind(1), x.unbind(1), y.unbind(1)
    re.addcmul_(x_re, y_re).addcmul_(x_im, y_im)
    im.addcmul_(x_im, y_re).addcmul_(x_re, y_im, value=-1)


def _even_first(length: int) -> tuple[int, ...]:
    """0, 2, 4, ... and then 1, 3, 5, ...; the last position of an odd length is its own pair."""
    return (*range(0, length, 2), *(min(place, length - 1) for place in range(1, length + 1, 2)))


def _larger_half(x: Tensor, axis: int, larger: Tensor, later: Tensor | None) -> None:
    """Write the larger of each entry of the first half and its counterpart to ``larger``.

    And 1 to ``later`` where it is the second half's, else 0.
    """
    first, second = x.chunk(2, axis)
    torch.maximum(first, second, out=larger)
    if later is not None:
        # Numbers instead of booleans: the backward pass multiplies by them, which is faster.
        torch.gt(second, first, out=later)


def _to_halves(gradient: Tensor, second: Tensor, axis: int) -> Tensor:
    """The gradient of ``_larger_half``: each entry in one half, zero in the other."""
    size = list(gradient.shape)
    size[axis] *= 2
    out = gradient.new_empty(size)
    one, other = out.chunk(2, axis)
    torch.mul(gradient, second, out=other)
    torch.sub(gradient, other, out=one)
    return out
