"""One query's depth-wise correlations with many gallery images, as matrix products.

The same numbers as ``reid.models.csn.correlation``, which compares aligned pairs. Where one side
is a single image, its half of each product can be laid out once for the whole gallery:

- the query's map, unfolded, meets the gallery's parts as one matrix product per channel;
- the query's parts become band matrices (Toeplitz) along the rows, which meet windows of the
  gallery's maps.

A level that is pooled 2x2 is pooled before its maps are whole in memory: the even and the odd
columns of the answer come apart, and so do its rows, which share a third of their products
(Winograd's F(2,2): y0 = (d0 - d1) g0 + d1 (g0 + g1), y1 = d1 (g0 + g1) + (d2 - d1) g1).

Here is the query's side; ``reid.models.csn.gallery_tiles`` has the gallery's, and the products.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid.models.csn.correlation import same_padding
from reid.models.csn.settings import DEFAULTS


class GalleryCorrelation(nn.Module):
    """How one query is correlated with gallery images at one level, in both directions.

    ``size`` is the maps' (height, width), ``kernel`` the parts' side k. With ``pool`` the answer
    is max-pooled 2x2 as ``ceil_mode`` does; then the height must be even. ``out_size`` is the
    answer's (h, w). In the shapes below ``rows`` is the kernel's number of rows, of pairs of
    rows with ``pool``, and ``factors`` 1, or 3 with ``pool``. ``lanes`` is 1, or 2 with
    ``pool``, where even rows and odd rows lie apart.
    """

    column_index: Tensor
    band_index: Tensor

    def __init__(
        self,
        size: tuple[int, int],
        kernel: int,
        pool: bool,
        even_padding: str = DEFAULTS.even_padding,
    ) -> None:
        super().__init__()
        height, width = size
        if pool and height % 2:
            raise ValueError(f"the maps' height must be even, found {height}")
        self.size, self.kernel, self.pool = size, kernel, pool
        self.out_size = (height // 2, -(-width // 2)) if pool else size
        self.before, self.after = same_padding(kernel, even_padding)
        self.more = kernel % 2 if pool else 0  # a row of zeros makes pairs of an odd kernel's
        self.lanes = 1 + pool
        self.rows = (kernel + self.more) // self.lanes
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
        """(C, H, W) -> (halves, factors, C, rows * k, h * w): what a gallery's parts meet."""
        pad = (self.before, self.after, self.before, self.after + self.more)
        lanes = self._in_lanes(F.pad(query_map, pad))
        columns = torch.stack(map_factors(lanes))[..., self.column_index]
        columns = columns.permute(3, 0, 1, 4, 2, 5)
        height = self.out_size[0]
        taps = [columns[..., tap : tap + height, :] for tap in range(self.rows)]
        return torch.stack(taps, 3).flatten(5).flatten(3, 4)

    def bands(self, query_parts: Tensor) -> Tensor:
        """(S, C, k, k) -> (factors, C, rows * W, halves * S * w): what a gallery's maps meet."""
        kernels = F.pad(query_parts, (0, 1, 0, self.more))[..., self.band_index]
        kernels = kernels.view(*kernels.shape[:4], -1, self.out_size[1]).permute(1, 4, 0, 5, 2, 3)
        lanes = self._in_lanes(kernels)
        factors = [factor.flatten(4).flatten(1, 3) for factor in kernel_factors(lanes)]
        return torch.stack(factors).transpose(2, 3).contiguous()

    def in_order(self, phases: list[Tensor], num: int) -> Tensor:
        """What each phase of a tile of maps came to, (n, ...), as its images: (num, h, ...)."""
        rows = self.rows_per_image // self.lanes
        stream = torch.stack(phases, 1).flatten(0, 1)[: num * rows]
        return stream.view(num, rows, *stream.shape[1:])[:, : self.out_size[0]]

    @property
    def rows_per_image(self) -> int:
        """Rows that a map takes in the stream, with the zeros that it shares with the next."""
        rows = self.size[0] + max(self.before, self.after)
        return rows + rows % self.lanes

    def _in_lanes(self, rows: Tensor) -> tuple[Tensor, ...]:
        """(..., M, W) -> by lane, its rows."""
        return tuple(rows[..., lane :: self.lanes, :] for lane in range(self.lanes))


def map_factors(
    lanes: Sequence[Tensor], out: Sequence[Tensor | None] = (None, None)
) -> tuple[Tensor, ...]:
    """Rows (..., M, W) of maps by lane -> their factors: with two lanes, of which the first has
    a row more, d0 - d1, d1 and d2 - d1. ``out`` takes the first and the last of three."""
    if len(lanes) == 1:
        return (lanes[0],)
    even, odd = lanes
    first = torch.sub(even[..., :-1, :], odd, out=out[0])
    return first, odd, torch.sub(even[..., 1:, :], odd, out=out[1])


def kernel_factors(lanes: Sequence[Tensor], out: Tensor | None = None) -> tuple[Tensor, ...]:
    """Kernels' rows by lane -> their factors: with two lanes g0, g0 + g1, in ``out``, and g1."""
    if len(lanes) == 1:
        return (lanes[0],)
    first, second = lanes
    return first, torch.add(first, second, out=out), second
