"""One query's depth-wise correlations with many gallery images, as matrix products.

The same numbers as ``reid.models.correlation``, which compares aligned pairs. Where one side
is a single image, its half of each product can be laid out once for the whole gallery:

- the query's map, unfolded, meets the gallery's parts as one matrix product per channel;
- the query's parts become band matrices (Toeplitz) along the rows, which meet windows of the
  gallery's maps.

A level that is pooled 2x2 is pooled here, before its maps are whole in memory: the even and
the odd columns of the answer come apart, and so do its rows, which share a third of their
products (Winograd's F(2,2): y0 = (d0 - d1) g0 + d1 (g0 + g1), y1 = d1 (g0 + g1) + (d2 - d1) g1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid.models.correlation import same_padding


class GalleryCorrelation(nn.Module):
    """Correlations of one query with N gallery images at one level, in both directions.

    ``size`` is the maps' (height, width), ``kernel`` the parts' side k. With ``pool`` the answer
    is max-pooled 2x2 as ``ceil_mode`` does; then the height must be even. ``out_size`` is the
    answer's (h, w). In the shapes below ``rows`` is the kernel's number of rows, of pairs of
    rows with ``pool``, and ``factors`` 1, or 3 with ``pool``.
    """

    column_index: Tensor
    band_index: Tensor

    def __init__(self, size: tuple[int, int], kernel: int, pool: bool) -> None:
        super().__init__()
        height, width = size
        if pool and height % 2:
            raise ValueError(f"the maps' height must be even, found {height}")
        self.size, self.kernel, self.pool = size, kernel, pool
        self.out_size = (height // 2, -(-width // 2)) if pool else size
        self.before, self.after = same_padding(kernel)
        self.more = kernel % 2 if pool else 0  # a row of zeros makes pairs of an odd kernel's
        self.rows = (kernel + self.more) // (2 if pool else 1)
        columns, tap = self._columns(), torch.arange(kernel)
        self.register_buffer("column_index", columns[:, None] + tap[:, None], persistent=False)
        band = torch.arange(width)[:, None] - columns.flatten() + self.before
        band = torch.where((band >= 0) & (band < kernel), band, kernel)
        self.register_buffer("band_index", band, persistent=False)

    def _columns(self) -> Tensor:
        """(halves, w): columns of the answer; with ``pool`` the even ones, then the odd ones.

        An odd last column stands for its missing neighbour: the largest stays the same.
        """
        if not self.pool:
            return torch.arange(self.size[1])[None]
        columns = torch.arange(2 * self.out_size[1]).clamp(max=self.size[1] - 1)
        return torch.stack((columns[0::2], columns[1::2]))

    def unfolded(self, query_map: Tensor) -> Tensor:
        """(C, H, W) -> (halves, factors, C, rows * k, h * w): the query's side of ``with_map``."""
        pad = (self.before, self.after, self.before, self.after + self.more)
        columns = torch.stack(self._maps(F.pad(query_map, pad)))[..., self.column_index]
        columns = columns.permute(3, 0, 1, 4, 2, 5)
        height = self.out_size[0]
        taps = [columns[..., tap : tap + height, :] for tap in range(self.rows)]
        return torch.stack(taps, 3).flatten(5).flatten(3, 4)

    def with_map(self, unfolded: Tensor, parts: Tensor) -> Tensor:
        """The gallery's ``parts`` (N, S, C, k, k) over the query's map: (C, S * N, h * w)."""
        padded = F.pad(parts, (0, 0, 0, self.more)) if self.more else parts
        factors = self._kernels(padded.permute(2, 1, 0, 3, 4))
        kernels = [factor.flatten(3).flatten(1, 2) for factor in factors]
        return self._larger(*(self._products(kernels, half) for half in unfolded))

    def bands(self, query_parts: Tensor) -> Tensor:
        """(S, C, k, k) -> (factors, C, rows * W, halves * S * w).

        The query's side of ``with_parts``.
        """
        kernels = F.pad(query_parts, (0, 1, 0, self.more))[..., self.band_index]
        kernels = kernels.view(*kernels.shape[:4], -1, self.out_size[1]).permute(1, 4, 0, 5, 2, 3)
        factors = [factor.flatten(4).flatten(1, 3) for factor in self._kernels(kernels)]
        return torch.stack(factors).transpose(2, 3).contiguous()

    def with_parts(self, bands: Tensor, maps: Tensor) -> Iterator[Tensor]:
        """The query's parts over the gallery's ``maps`` (N, C, H, W), phase by phase.

        Yields (C, S, n, w), ``rows`` times: row ``i`` of phase ``p`` is row ``i * rows + p`` of
        all the answers, image under image, see ``in_order``.
        """
        streams, width = self._streams(maps), self.out_size[1]
        num = streams[0].shape[1] // self.rows - 1
        for phase in range(self.rows):
            rows = [stream[:, phase : phase + num * self.rows] for stream in streams]
            windows = [row.reshape(len(row), num, -1) for row in rows]
            answer = self._larger(*self._products(windows, bands).chunk(1 + self.pool, 2))
            yield answer.reshape(len(answer), num, -1, width).transpose(1, 2)

    def in_order(self, phases: list[Tensor], num: int) -> Tensor:
        """What each phase came to, (n, ...), as the gallery's images: (num, h, ...)."""
        rows = self._rows_per_image() // (1 + self.pool)
        stream = torch.stack(phases, 1).flatten(0, 1)[: num * rows]
        return stream.view(num, rows, *stream.shape[1:])[:, : self.out_size[0]]

    def _rows_per_image(self) -> int:
        """Rows that an image takes in the stream, with the zeros that it shares with the next."""
        rows = self.size[0] + max(self.before, self.after)
        return rows + rows % 2 if self.pool else rows

    def _streams(self, maps: Tensor) -> tuple[Tensor, ...]:
        """The gallery's maps under each other, (C, M, W), and images of zeros behind them.

        Windows are cut in multiples of their length, so the last ones reach over the end.
        """
        rows = self._rows_per_image()
        spare = -(-3 * (self.kernel + 1) // rows)
        pad = (0, 0, self.before, rows - self.size[0] - self.before, 0, spare)
        stream = F.pad(maps.transpose(0, 1), pad).flatten(1, 2)
        return self._maps(stream[:, :-1])

    def _maps(self, rows: Tensor) -> tuple[Tensor, ...]:
        """(..., M, W), M odd with ``pool`` -> the maps' factors: d0 - d1, d1 and d2 - d1."""
        if not self.pool:
            return (rows,)
        even, odd = rows[..., 0::2, :], rows[..., 1::2, :].contiguous()
        return even[..., :-1, :] - odd, odd, even[..., 1:, :] - odd

    def _kernels(self, kernels: Tensor) -> tuple[Tensor, ...]:
        """(..., k, m) -> the kernels' factors, (..., rows, m): g0, g0 + g1 and g1."""
        if not self.pool:
            return (kernels,)
        first, second = (kernels[..., row::2, :].contiguous() for row in (0, 1))
        return first, first + second, second

    def _products(
        self, left: Sequence[Tensor] | Tensor, right: Sequence[Tensor] | Tensor
    ) -> Tensor:
        """The factors' matrix products; with ``pool`` the larger of the two rows."""
        if not self.pool:
            return torch.bmm(left[0], right[0])
        rows = self._larger(torch.bmm(left[0], right[0]), torch.bmm(left[2], right[2]))
        return rows.baddbmm_(left[1], right[1])

    def _larger(self, first: Tensor, *second: Tensor) -> Tensor:
        """The larger of each two entries, in the place of the first; one alone stays."""
        return torch.maximum(first, *second, out=first) if second else first
