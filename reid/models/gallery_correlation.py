"""One query's depth-wise correlations with many gallery images, as matrix products.

The same numbers as ``reid.models.correlation``, which compares aligned pairs. Where one side
is a single image, its half of each product can be laid out once for the whole gallery:

- the query's map, unfolded, meets the gallery's parts as one matrix product per channel;
- the query's parts become band matrices (Toeplitz) along the rows, which meet windows of the
  gallery's maps. Two rows of the answer share a third of their products (Winograd's F(2,2):
  y0 = (d0 - d1) g0 + d1 (g0 + g1), y1 = d1 (g0 + g1) - (d1 - d2) g1).

A level that is pooled 2x2 is pooled here, before its maps are whole in memory: the four
positions of each window are computed apart, and the largest is kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def same_padding(size: int) -> tuple[int, int]:
    """Zeros before and after for an answer as large as the input, as TensorFlow pads."""
    return (size - 1) // 2, size // 2


class GalleryCorrelation(nn.Module):
    """Correlations of one query with N gallery images at one level, in both directions.

    ``size`` is the maps' (height, width), ``kernel`` the parts' side. With ``pool`` the
    answer is max-pooled 2x2 as ``ceil_mode`` does. The height must be even.
    """

    window_index: Tensor
    band_index: Tensor

    def __init__(self, size: tuple[int, int], kernel: int, pool: bool) -> None:
        super().__init__()
        height, width = size
        if height % 2:
            raise ValueError(f"the maps' height must be even, found {height}")
        self.size, self.kernel, self.pool = size, kernel, pool
        self.out_size = (height // 2, -(-width // 2)) if pool else size
        self.before, self.after = same_padding(kernel)
        self.register_buffer("window_index", self._window_index(), persistent=False)
        self.register_buffer("band_index", self._band_index(), persistent=False)

    def _positions(self) -> Tensor:
        """(phases, 2, positions): rows and columns of the answer, those of a window apart.

        An odd last column stands for its missing neighbour: the largest stays the same.
        """
        width = self.size[1]
        rows, columns = self.out_size
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        if not self.pool:
            return torch.stack((y.flatten(), x.flatten()))[None]
        phases = [
            torch.stack(((2 * y + dy).flatten(), (2 * x + dx).clamp(max=width - 1).flatten()))
            for dy in (0, 1)
            for dx in (0, 1)
        ]
        return torch.stack(phases)

    def _window_index(self) -> Tensor:
        """(phases, kernel^2, positions) into the padded map, flattened."""
        padded_width = self.size[1] + self.kernel - 1
        y, x = self._positions()[:, 0, None], self._positions()[:, 1, None]
        tap = torch.arange(self.kernel)
        dy, dx = tap.repeat_interleave(self.kernel), tap.repeat(self.kernel)
        return (y + dy[:, None]) * padded_width + x + dx[:, None]

    def _band_index(self) -> Tensor:
        """(width in, columns out) into a kernel's row with a zero behind it.

        Pooled, the even columns of the answer come first, then the odd ones.
        """
        width = self.size[1]
        columns = torch.arange(width)
        if self.pool:
            columns = torch.arange(2 * self.out_size[1])
            columns = torch.cat((columns[0::2], columns[1::2])).clamp(max=width - 1)
        tap = torch.arange(width)[:, None] - columns[None, :] + self.before
        return torch.where((tap >= 0) & (tap < self.kernel), tap, self.kernel)

    def unfolded(self, query_map: Tensor) -> Tensor:
        """(C, H, W) -> (phases, C, kernel^2, positions): the query's side of ``with_map``."""
        pad = (self.before, self.after, self.before, self.after)
        flat = F.pad(query_map, pad).flatten(1)
        return flat[:, self.window_index].transpose(0, 1).contiguous()

    def with_map(self, unfolded: Tensor, parts: Tensor) -> Tensor:
        """The gallery's ``parts`` (N, S, C, k, k) over the query's map: (C, S, N, h * w)."""
        num, stripes, channels = parts.shape[:3]
        kernels = parts.permute(2, 1, 0, 3, 4).reshape(channels, stripes * num, -1)
        answer = torch.matmul(kernels, unfolded[0])
        for phase in range(1, len(unfolded)):
            answer = torch.maximum(answer, torch.matmul(kernels, unfolded[phase]))
        return answer.reshape(channels, stripes, num, -1)

    def bands(self, query_parts: Tensor) -> Tensor:
        """(S, C, k, k) -> (3, C, taps / 2 * W, columns * S): the query's side of ``with_parts``.

        The three are g0, g0 + g1 and -g1 of each pair of the kernel's rows; an odd kernel
        gets a last row of zeros.
        """
        stripes, channels, taps, _ = query_parts.shape
        kernels = F.pad(query_parts, (0, 1, 0, taps % 2))[..., self.band_index]
        halves = 2 if self.pool else 1
        kernels = kernels.view(*kernels.shape[:4], halves, -1).permute(1, 2, 3, 4, 0, 5)
        first, second = kernels[:, 0::2], kernels[:, 1::2]  # (C, taps / 2, W, halves, S, w)
        rows = torch.stack((first, first + second, -second))
        return rows.reshape(3, channels, -1, halves * stripes * self.out_size[1])

    def with_parts(self, bands: Tensor, maps: Tensor, stripes: int) -> Iterator[Tensor]:
        """The query's parts over the gallery's ``maps`` (N, C, H, W), phase by phase.

        Yields (C, n, S, w) or, without pooling, (C, n, 2, S, w): pair of rows ``i`` of phase
        ``p`` is pair ``i * phases + p`` of the gallery's stream of rows, see ``in_order``.
        """
        even_minus_odd, odd, odd_minus_even = self._streams(maps)
        rows = (self.kernel + 1) // 2
        num, width = odd.shape[1] // rows - 1, self.size[1]
        channels = odd.shape[0]
        for phase in range(rows):
            a, o, b = (
                stream[:, phase : phase + num * rows].reshape(channels, num, rows * width)
                for stream in (even_minus_odd, odd, odd_minus_even)
            )
            first, shared, second = (
                torch.matmul(windows, band) for windows, band in zip((a, o, b), bands, strict=True)
            )
            if self.pool:
                answer = torch.maximum(first, second) + shared
                answer = answer.view(channels, num, 2, stripes, -1)
                yield torch.maximum(answer[:, :, 0], answer[:, :, 1])
            else:
                answer = torch.stack((first + shared, second + shared), 2)
                yield answer.view(channels, num, 2, stripes, -1)

    def _rows_per_image(self) -> int:
        """Rows of the stream that an image takes, with the zeros that it shares with the next."""
        rows = self.size[0] + max(self.before, self.after)
        return rows + rows % 2

    def _streams(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(C, M, W) each: even rows minus odd ones, odd rows, odd minus the next even ones."""
        num, channels = maps.shape[:2]
        height, rows = self.size[0], self._rows_per_image()
        image = F.pad(maps.transpose(0, 1), (0, 0, self.before, rows - height - self.before))
        stream = image.reshape(channels, num * rows, -1)
        taps = self.kernel + self.kernel % 2
        # Windows are cut in multiples of their length: the last ones reach over the end.
        stream = F.pad(stream, (0, 0, 0, 2 * taps + (-num * rows) % taps))
        even, odd = stream[:, 0::2], stream[:, 1::2]
        return even - odd, odd, odd - F.pad(even[:, 1:], (0, 0, 0, 1))

    def in_order(self, phases: list[Tensor], num: int) -> Tensor:
        """What each phase came to, (K, n, ...), as (K, num, h, ...) with the gallery's images."""
        pairs = self._rows_per_image() // 2
        stream = torch.stack(phases, 2).flatten(1, 2)[:, : num * pairs]
        return stream.view(len(stream), num, pairs, *stream.shape[2:])[:, :, : self.size[0] // 2]
