"""Tiles of gallery images under one query: the gallery's side of ``GalleryCorrelation``.

A tile has the arrays in which its intermediate results come and go, some channels at a time.
They are taken once and used for every block of channels and every tile of that size: what a
product writes into new memory has to be fetched first, which took a third of its time. The
views of them are taken once too, so that threads seldom wait for each other's interpreter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from reid.models.csn.gallery_correlation import GalleryCorrelation, kernel_factors, map_factors


class PartsTile:
    """N gallery images' parts over one query's map, ``channels`` at a time.

    ``like`` is such parts, (N, S, C, k, k), of any precision; ``kind`` is that of the answer.
    """

    def __init__(
        self, correlation: GalleryCorrelation, like: Tensor, channels: int, kind: torch.dtype
    ) -> None:
        num, stripes, all_channels, side, _ = like.shape
        places = torch.arange(like.numel() // side, device=like.device)
        places = places.view(num, stripes, all_channels, side).permute(2, 1, 0, 3)
        places = F.pad(places, (0, correlation.more))
        with torch.inference_mode(False):  # else they could not be written without that mode
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
        """(N * h * w, c * S) of the channels ``block``, by half and factor what ``unfolded`` has
        of them. It lies in the tile's arrays until they are used again."""
        for lane in self._lanes:
            lane.take(parts, block)
        if self._zeros is not None:
            self._zeros.zero_()  # a row that makes pairs of an odd kernel's
        if len(self._kernels) == 3:
            kernel_factors(self._kernels[::2], out=self._kernels[1])
        for half, factors in zip(self._halves, unfolded, strict=True):
            _products(self._kernels, factors, half, self._other)
        if len(self._halves) == 2:
            torch.maximum(*self._halves, out=self._halves[0])
        return self._answer


class MapsTile:
    """N gallery images' maps under one query's parts, ``channels`` at a time.

    ``like`` is such maps, (N, C, H, W), of any precision, and ``bands`` a query's.
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
        """(n * w, c * S) of the channels ``block``, by factor what ``bands`` has of them, phase
        by phase: row ``i`` of phase ``p`` is row ``i * rows + p`` of all the images under each
        other, see ``in_order``. It lies in the tile's arrays until the next."""
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
    """Rows of an array, one by one: a copy of views with strides took 1.2 to 3 times as long.

    ``places``, (C, ...), are those of all the array's rows; ``values``, (channels, ..., width),
    are some channels' rows, which become ``kind`` when they lie in order.
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
    """By lane, the maps under each other, (c, images, rows, W), images of zeros behind them.

    Windows are cut in multiples of their length, so the last ones reach over the end. Rows of
    zeros are taken from anywhere; they are the second answer, to be made zeros.
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
        first = (lane - before) % lanes  # of a map's rows, that lies in this lane
        start = (before + first) // lanes
        stop = start + len(range(first, height, lanes))
        values = stream.values
        zeros += [values[:, :num, :start], values[:, :num, stop:], values[:, num:]]
        streams.append(stream)
    return streams, [rows for rows in zeros if rows.numel()]


def _products(
    left: Sequence[Tensor], right: Sequence[Tensor], out: Tensor, other: Tensor | None
) -> None:
    """The factors' matrix products into ``out``; of three, by way of ``other``, the larger of the
    two rows."""
    torch.bmm(left[0], right[0], out=out)
    if other is not None:
        torch.bmm(left[2], right[2], out=other)
        torch.maximum(out, other, out=out).baddbmm_(left[1], right[1])
