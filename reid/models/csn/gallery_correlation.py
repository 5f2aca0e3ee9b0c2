"""One query's depth-wise correlations with many gallery images, as matrix products.

It gives the results of ``reid.models.csn.correlation``, which compares aligned pairs. With a
single query, its half of each product is laid out once for the whole gallery:

- the query's unfolded map is multiplied by the gallery's parts, one matrix product per channel;
- the query's parts become band matrices (Toeplitz) along the rows, which are multiplied by
  windows of the gallery's maps.

A level that is pooled 2x2 is pooled before its maps are stored as a whole: the even and the odd
columns of the result are computed separately, and so are its rows, which share a third of their
products
(Winograd's F(2,2): y0 = (d0 - d1) g0 + d1 (g0 + g1), y1 = d1 (g0 + g1) + (d2 - d1) g1).

``GalleryCorrelation`` is the query's side. The gallery's side is tiles: arrays for intermediate
results, some channels at a time. They are allocated once and reused for every block of channels
and every tile of that size, because writing into new memory is slow. Their views are created once
too, so that threads seldom wait for the GIL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid.models.csn.correlation import same_padding
from reid.models.csn.settings import DEFAULTS


class GalleryCorrelation(nn.Module):
    """How one query is correlated with gallery images at one level, in both directions.

    ``size`` is the maps' (height, width), ``kernel`` the parts' side k. With ``pool`` the result
    is max-pooled 2x2 with ``ceil_mode``; then the height must be even. ``out_size`` is the
    result's (h, w). In the shapes below ``rows`` is the kernel's number of rows (of pairs of rows
    with ``pool``), and ``factors`` is 1, or 3 with ``pool``. ``lanes`` is 1, or 2 with ``pool``,
    where even and odd rows are stored separately.
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
        self.more = kernel % 2 if pool else 0  # a row of zeros makes an odd kernel's rows even
        self.lanes = 1 + pool
        self.rows = (kernel + self.more) // self.lanes
        columns, tap = self._columns(), torch.arange(kernel)
        self.register_buffer("column_index", columns[:, None] + tap[:, None], persistent=False)
        band = torch.arange(width)[:, None] - columns.flatten() + self.before
        band = torch.where((band >= 0) & (band < kernel), band, kernel)
        self.register_buffer("band_index", band, persistent=False)

    def _columns(self) -> Tensor:
        """(halves, w): columns of the result; with ``pool`` the even ones, then the odd ones.

        A last column without a neighbour is used twice, which does not change the maximum.
        """
        if not self.pool:
            return torch.arange(self.size[1])[None]
        columns = torch.arange(2 * self.out_size[1]).clamp(max=self.size[1] - 1)
        return torch.stack((columns[0::2], columns[1::2]))

    def unfolded(self, query_map: Tensor) -> Tensor:
        """(C, H, W) -> (halves, factors, C, rows * k, h * w): for a gallery's parts."""
        pad = (self.before, self.after, self.before, self.after + self.more)
        lanes = self._in_lanes(F.pad(query_map, pad))
        columns = torch.stack(map_factors(lanes))[..., self.column_index]
        columns = columns.permute(3, 0, 1, 4, 2, 5)
        height = self.out_size[0]
        taps = [columns[..., tap : tap + height, :] for tap in range(self.rows)]
        return torch.stack(taps, 3).flatten(5).flatten(3, 4)

    def bands(self, query_parts: Tensor) -> Tensor:
        """(S, C, k, k) -> (factors, C, rows * W, halves * S * w): for a gallery's maps."""
        kernels = F.pad(query_parts, (0, 1, 0, self.more))[..., self.band_index]
        kernels = kernels.view(*kernels.shape[:4], -1, self.out_size[1]).permute(1, 4, 0, 5, 2, 3)
        lanes = self._in_lanes(kernels)
        factors = [factor.flatten(4).flatten(1, 3) for factor in kernel_factors(lanes)]
        return torch.stack(factors).transpose(2, 3).contiguous()

    def in_order(self, phases: list[Tensor], num: int) -> Tensor:
        """The results of each phase of a tile of maps, (n, ...), by image: (num, h, ...)."""
        rows = self.rows_per_image // self.lanes
        stream = torch.stack(phases, 1).flatten(0, 1)[: num * rows]
        return stream.view(num, rows, *stream.shape[1:])[:, : self.out_size[0]]

    @property
    def rows_per_image(self) -> int:
        """Rows of a map in the stream, including the zeros it shares with the next."""
        rows = self.size[0] + max(self.before, self.after)
        return rows + rows % self.lanes

    def _in_lanes(self, rows: Tensor) -> tuple[Tensor, ...]:
        """(..., M, W) -> its rows by lane."""
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


class PartsTile:
    """N gallery images' parts over one query's map, ``channels`` at a time.

    ``like`` is an example of such parts, (N, S, C, k, k), of any precision; ``kind`` is the
    result's precision.
    """

    def __init__(
        self, correlation: GalleryCorrelation, like: Tensor, channels: int, kind: torch.dtype
    ) -> None:
        num, stripes, all_channels, side, _ = like.shape
        places = torch.arange(like.numel() // side, device=like.device)
        places = places.view(num, stripes, all_channels, side).permute(2, 1, 0, 3)
        places = F.pad(places, (0, correlation.more))
        with torch.inference_mode(
            False
        ):  # inference tensors could not be written outside that mode
            self._lanes = [
                _Rows(places[..., lane :: correlation.lanes], side, channels, like.dtype, kind)
                for lane in range(correlation.lanes)
            ]
            lanes = [lane.values.flatten(3).flatten(1, 2) for lane in self._lanes]
            self._zeros = self._lanes[1].values[..., -1, :] if correlation.more else None
            self._kernels = kernel_factors(lanes)
            place = like.new_empty(0, dtype=kind)
            answer = (channels, stripes * num, correlation.out_size[0] * correlation.out_size[1])
            self._halves = [place.new_empty(answer) for _ in range(correlation.lanes)]
            self._other = place.new_empty(answer) if correlation.pool else None
            self._answer = self._halves[0].view(channels * stripes, -1).t()

    def similarity(
        self, parts: Tensor, unfolded: Sequence[Sequence[Tensor]], block: slice
    ) -> Tensor:
        """(N * h * w, c * S) for the channels ``block`` of ``unfolded``, by half and factor.

        The result is in the tile's arrays until they are used again.
        """
        for lane in self._lanes:
            lane.take(parts, block)
        if self._zeros is not None:
            self._zeros.zero_()  # the row that makes an odd kernel's rows even
        if len(self._kernels) == 3:
            kernel_factors(self._kernels[::2], out=self._kernels[1])
        for half, factors in zip(self._halves, unfolded, strict=True):
            _products(self._kernels, factors, half, self._other)
        if len(self._halves) == 2:
            torch.maximum(*self._halves, out=self._halves[0])
        return self._answer


class MapsTile:
    """N gallery images' maps under one query's parts, ``channels`` at a time.

    ``like`` is an example of such maps, (N, C, H, W), of any precision; ``bands`` are a query's.
    """

    def __init__(
        self, correlation: GalleryCorrelation, like: Tensor, channels: int, bands: Tensor
    ) -> None:
        lanes, width = correlation.lanes, correlation.out_size[1]
        with torch.inference_mode(False):
            self._lanes, self._zeros = _streams(correlation, like, channels, bands.dtype)
            streams = [lane.values.flatten(1, 2) for lane in self._lanes]
            if lanes == 2:
                streams[1] = streams[1][:, :-1]
            self._streams = streams
            self._factors = map_factors(streams)
            rows = correlation.rows
            num = self._factors[0].shape[1] // rows - 1
            self._windows = [
                [
                    factor[:, at : at + num * rows].view(channels, num, -1)
                    for factor in self._factors
                ]
                for at in range(rows)
            ]
            self._both = bands.new_empty(channels, num, bands.shape[-1])
            self._other = torch.empty_like(self._both) if lanes == 2 else None
            self._halves = [
                half.view(channels, num, -1, width).transpose(1, 2)
                for half in self._both.chunk(lanes, 2)
            ]
            self._in_rows = bands.new_empty(self._halves[0].shape)
            self._answer = self._in_rows.flatten(2).flatten(0, 1).t()

    def similarity(self, maps: Tensor, bands: Sequence[Tensor], block: slice) -> Iterator[Tensor]:
        """(n * w, c * S) for the channels ``block`` of ``bands``, by factor, phase by phase.

        Row ``i`` of phase ``p`` is row ``i * rows + p`` of all images stacked, see ``in_order``.
        The result is in the tile's arrays until the next call.
        """
        for lane in self._lanes:
            lane.take(maps, block)
        for zeros in self._zeros:
            zeros.zero_()
        if len(self._factors) == 3:
            map_factors(self._streams, out=self._factors[::2])
        for windows in self._windows:
            _products(windows, bands, self._both, self._other)
            if len(self._halves) == 2:
                torch.maximum(*self._halves, out=self._in_rows)
            else:
                self._in_rows.copy_(self._halves[0])
            yield self._answer


class _Rows:
    """Rows of an array, gathered one by one, which is faster than copying strided views.

    ``places``, (C, ...), are the indices of all rows; ``values``, (channels, ..., width), are some
    channels' rows in order, converted to ``kind``.
    """

    def __init__(
        self, places: Tensor, width: int, channels: int, stored: torch.dtype, kind: torch.dtype
    ) -> None:
        self._places = places.flatten(1).contiguous()
        size = (channels * self._places.shape[1], width)
        self._taken = torch.empty(size, dtype=stored, device=places.device)
        self._widened = self._taken if stored == kind else torch.empty_like(self._taken, dtype=kind)
        self.values = self._widened.view(channels, *places.shape[1:], width)

    def take(self, array: Tensor, block: slice) -> None:
        """Fill ``values`` with the channels ``block`` of an array (..., width)."""
        rows = array.reshape(-1, array.shape[-1])
        torch.index_select(rows, 0, self._places[block].view(-1), out=self._taken)
        if self._widened is not self._taken:
            self._widened.copy_(self._taken)


def _streams(
    correlation: GalleryCorrelation, like: Tensor, channels: int, kind: torch.dtype
) -> tuple[list[_Rows], list[Tensor]]:
    """By lane, the stacked maps, (c, images, rows, W), followed by images of zeros.

    Windows start at multiples of their length, so the last ones reach past the end. Rows of zeros
    are gathered from anywhere; the second result marks them, to be set to zero.
    """
    num, all_channels, height, width = like.shape
    rows, before, lanes = correlation.rows_per_image, correlation.before, correlation.lanes
    spare = -(-3 * (correlation.kernel + 1) // rows)
    places = torch.arange(num * all_channels * height, device=like.device)
    places = places.view(num, all_channels, height).transpose(0, 1)
    places = F.pad(places, (before, rows - height - before, 0, spare))
    streams, zeros = [], []
    for lane in range(lanes):
        stream = _Rows(places[..., lane::lanes], width, channels, like.dtype, kind)
        first = (lane - before) % lanes  # of a map's rows in this lane
        start = (before + first) // lanes
        stop = start + len(range(first, height, lanes))
        values = stream.values
        zeros += [values[:, :num, :start], values[:, :num, stop:], values[:, num:]]
        streams.append(stream)
    return streams, [rows for rows in zeros if rows.numel()]


def _products(
    left: Sequence[Tensor], right: Sequence[Tensor], out: Tensor, other: Tensor | None
) -> None:
    """The factors' matrix products into ``out``; for three factors the larger of the two rows, with
    ``other`` as work space."""
    torch.bmm(left[0], right[0], out=out)
    if other is not None:
        torch.bmm(left[2], right[2], out=other)
        torch.maximum(out, other, out=out).baddbmm_(left[1], right[1])
