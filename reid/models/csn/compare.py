"""CSN's ``compare`` in PyTorch: one stored query, and tiles of stored gallery images.

It gives the results of ``Csn.similarity`` and ``Csn.head``, with sums in another order.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid.models.csn.gallery_correlation import GalleryCorrelation, MapsTile, PartsTile
from reid.models.csn.network import CHANNELS, Csn, CsnDescription, pair_score

TILE, BLOCK = 64, 8
"""Gallery images and channels compared at once; intermediate results (1 MB) stay in a CPU's
cache."""

KEPT_SIZES = 2
"""Tile sizes whose arrays are kept (the full size and the last): on a CPU, with two levels, 17 MB
per size and thread. The last query takes 25 MB."""

HEAD_TILE = 16
"""Gallery images per call of conv6, 1.3 MB."""


class _QuerySide(NamedTuple):
    """A level of the query, by block of channels: its unfolded map, by half and factor, and its
    parts as bands, by factor. See ``GalleryCorrelation``."""

    unfolded: list[list[list[Tensor]]]
    bands: list[list[Tensor]]


class _Folded(NamedTuple):
    """conv4 as ``FastCompare._conv4`` returns it, and conv5 and conv6 as ``_head`` does."""

    conv4: list[list[list[Tensor]]]
    bias: Tensor
    head: list[Tensor]


class FastCompare(nn.Module):
    """One query's description (1, ...) and N gallery images' (N, ...) -> scores, (N,) float32.

    The arrays are those of ``describe``, the query's first. The result is
    ``network.head(network.similarity(query, gallery))`` and Eq. 7, with sums in another order:
    conv4 is 1x1, so it is summed level by level and direction by direction, and the concatenated
    similarities are never stored as a whole.
    """

    takes_half = True
    """A gallery stored in float16 is converted to float32 block by block."""

    def __init__(self, network: Csn, sizes: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.network = network
        self.levels = nn.ModuleList(
            GalleryCorrelation(
                size, cast(int, attend.size), pools > 0, network.settings.even_padding
            )
            for size, attend, pools in zip(
                sizes, network.attend, network.similarity_pools(), strict=True
            )
        )
        self._free: dict[Hashable, deque[list[tuple[PartsTile, MapsTile]]]] = {}
        self._last: tuple[tuple[Tensor, ...], list[_QuerySide]] | None = None
        self._folded: tuple[Hashable, _Folded] | None = None

    def forward(self, *arrays: Tensor) -> Tensor:
        query, gallery = _sides(arrays, self.network)
        device = query.vector.device
        sides = self._query_sides(query)
        weights, bias, head = self._weights()
        weight = self.network.settings.probability_weight

        def scores(tile: CsnDescription) -> Tensor:
            with self._tiles_of(tile, sides) as levels:
                conv4 = bias
                for level, (parts, maps) in enumerate(levels):
                    to_query, to_gallery = weights[level]
                    side = sides[level]
                    conv4 = conv4 + self._under_gallery(
                        level, side, parts, tile.parts[level], to_query
                    )
                    conv4 = conv4 + self._under_query(
                        level, side, maps, tile.maps[level], to_gallery
                    )
            logits = self._decided(conv4.relu_(), head)
            return pair_score(logits, query.vector, tile.vector, weight)

        return torch.cat(
            all_of([functools.partial(scores, tile) for tile in _tiles(gallery)], device)
        )

    def _query_sides(self, query: CsnDescription) -> list[_QuerySide]:
        """Each level's layout of the query; the last is kept, as galleries come in pieces.

        On a GPU it is made anew, in fewer launches than a look at the last one would wait for.
        """
        given = (*query.maps, *query.parts)
        on_cpu = query.vector.device.type == "cpu"
        if self._last is None or not on_cpu or not all(map(_same, self._last[0], given)):
            levels = list(zip(self._correlations(), query.maps, query.parts, strict=True))
            layouts = [functools.partial(one.unfolded, maps[0]) for one, maps, _ in levels]
            layouts += [functools.partial(one.bands, parts[0]) for one, _, parts in levels]
            laid_out = all_of(layouts, query.vector.device)
            blocks = _blocks(query.vector.device)
            sides = [
                _QuerySide(
                    [[list(half[:, block]) for half in unfolded] for block in blocks],
                    [list(bands[:, block]) for block in blocks],
                )
                for unfolded, bands in zip(
                    laid_out[: len(levels)], laid_out[len(levels) :], strict=True
                )
            ]
            self._last = tuple(array.clone() for array in given), sides
        return self._last[1]

    @contextmanager
    def _tiles_of(
        self, tile: CsnDescription, sides: list[_QuerySide]
    ) -> Iterator[list[tuple[PartsTile, MapsTile]]]:
        """Each level's arrays for one thread, kept for the next tile."""
        like = sides[0].bands[0][0]
        key = (len(tile.vector), tile.parts[0].dtype, like.dtype, like.device, len(like))
        if key not in self._free and len(self._free) >= KEPT_SIZES:
            self._free.clear()
        free = self._free.setdefault(key, deque())
        try:
            levels = free.pop()
        except IndexError:
            levels = [
                (
                    PartsTile(correlation, parts, len(like), like.dtype),
                    MapsTile(correlation, maps, len(like), side.bands[0][0]),
                )
                for correlation, parts, maps, side in zip(
                    self._correlations(), tile.parts, tile.maps, sides, strict=True
                )
            ]
        yield levels
        free.append(levels)

    def _correlations(self) -> list[GalleryCorrelation]:
        return [cast(GalleryCorrelation, level) for level in self.levels]

    def _weights(self) -> _Folded:
        """The folded weights, kept until the network's change."""
        network = self.network
        parts = [network.conv4, network.conv5, network.conv6, network.similarity_bn]
        key = tuple(
            (x.data_ptr(), -1 if x.is_inference() else x._version, x.dtype)
            for part in parts
            if part is not None
            for x in part.state_dict(keep_vars=True).values()
        )
        if self._folded is None or self._folded[0] != key:
            self._folded = key, _Folded(*self._conv4(), self._head())
        return self._folded[1]

    def _conv4(self) -> tuple[list[list[list[Tensor]]], Tensor]:
        """conv4 by level, direction and block of channels, (channels * stripes, 32), and its bias.

        Batch normalisation is folded in: scale and shift of its outputs and, with
        ``similarity_bn``, of its inputs.
        """
        network = self.network
        weight, bias = network.conv4.conv.weight.flatten(1), network.conv4.conv.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        if network.similarity_bn is not None:
            scale, shift = _scale_and_shift(network.similarity_bn, weight.shape[1], weight)
            bias = bias + weight @ shift
            weight = weight * scale
        scale, shift = _scale_and_shift(network.conv4.bn, len(weight), weight)
        weight, bias = weight * scale[:, None], bias * scale + shift
        split = weight.view(len(weight), len(self.levels), 2, -1, CHANNELS)
        levels, blocks = split.permute(1, 2, 4, 3, 0).contiguous(), _blocks(weight.device)
        return [
            [[direction[block].flatten(0, 1) for block in blocks] for direction in level]
            for level in levels
        ], bias

    def _head(self) -> list[Tensor]:
        """Weights and biases of conv5 and conv6, with batch normalisation folded in."""
        found: list[Tensor] = []
        for block in (self.network.conv5, self.network.conv6):
            scale, shift = _scale_and_shift(block.bn, len(block.conv.weight), block.conv.weight)
            bias = shift if block.conv.bias is None else block.conv.bias * scale + shift
            found += [block.conv.weight * scale[:, None, None, None], bias]
        return found

    def _decided(self, conv4: Tensor, head: list[Tensor]) -> Tensor:
        """(N, 20, 8, 32), activated -> (N, 2): the network's ``decide``.

        conv6 widens 32 channels to 500, which are averaged before they leave the cache.
        """
        weight5, bias5, weight6, bias6 = head
        conv5 = F.conv2d(conv4.permute(0, 3, 1, 2), weight5, bias5, padding=1).relu_()
        pooled = self.network.pool(conv5).permute(0, 2, 3, 1).flatten(1, 2)
        weights = weight6.flatten(1).t()
        pieces = pooled.split(HEAD_TILE if conv4.device.type == "cpu" else len(conv4))
        means = [(piece @ weights).add_(bias6).relu_().mean(1) for piece in pieces]
        out: Tensor = self.network.classify(torch.cat(means))
        return out

    def _under_gallery(
        self, level: int, side: _QuerySide, tile: PartsTile, parts: Tensor, weights: list[Tensor]
    ) -> Tensor:
        """The query's map with the gallery's parts: its share of conv4, (N, h, w, 32)."""
        mixed = None
        blocks = _blocks(parts.device)
        for block, unfolded, weight in zip(blocks, side.unfolded, weights, strict=True):
            mixed = _mixed(tile.similarity(parts, unfolded, block), weight, mixed)
        return cast(Tensor, mixed).view(len(parts), *self._correlations()[level].out_size, -1)

    def _under_query(
        self, level: int, side: _QuerySide, tile: MapsTile, maps: Tensor, weights: list[Tensor]
    ) -> Tensor:
        """The gallery's maps with the query's parts: their share of conv4, (N, h, w, 32)."""
        mixed: dict[int, Tensor] = {}
        blocks = _blocks(maps.device)
        for block, bands, weight in zip(blocks, side.bands, weights, strict=True):
            for phase, similarity in enumerate(tile.similarity(maps, bands, block)):
                mixed[phase] = _mixed(similarity, weight, mixed.get(phase))
        correlation = self._correlations()[level]
        width = correlation.out_size[1]
        phases = [phase.view(-1, width, phase.shape[-1]) for phase in mixed.values()]
        return correlation.in_order(phases, len(maps))


class PlainCompare(nn.Module):
    """FastCompare's result by ``network.similarity`` itself, for less common settings."""

    takes_half = True

    def __init__(self, network: Csn) -> None:
        super().__init__()
        self.network = network

    def forward(self, *arrays: Tensor) -> Tensor:
        query, gallery = _sides(arrays, self.network)
        scores = []
        kind, weight = query.vector.dtype, self.network.settings.probability_weight
        for piece in _tiles(gallery):
            tile = CsnDescription(
                tuple(x.to(kind) for x in piece.maps),
                tuple(x.to(kind) for x in piece.parts),
                piece.vector.to(kind),
                (),
            )
            num = len(tile.vector)
            one = query.rows(torch.zeros(num, dtype=torch.int64, device=tile.vector.device))
            logits = self.network.logits(one, tile)
            scores.append(pair_score(logits, one.vector, tile.vector, weight))
        return torch.cat(scores)


def _blocks(device: torch.device) -> list[slice]:
    """Channels compared at once, in order; all on a device other than a CPU, because each block
    costs launches."""
    size = BLOCK if device.type == "cpu" else CHANNELS
    return [slice(start, start + size) for start in range(0, CHANNELS, size)]


def _mixed(similarity: Tensor, weight: Tensor, before: Tensor | None) -> Tensor:
    """conv4 of some channels' similarity, (positions, inputs) by (inputs, 32), added to ``before``
    in place.

    The rows of this product are the positions, not conv4's outputs, because that is faster.
    """
    return similarity @ weight if before is None else before.addmm_(similarity, weight)


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two arrays have the same values, precision and device."""
    alike = one.device == other.device and one.dtype == other.dtype
    return alike and torch.equal(one, other)


def _scale_and_shift(bn: nn.Module, num_channels: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Batch normalisation at test as (C,) scale and shift; an export may have folded it."""
    if not isinstance(bn, nn.BatchNorm2d):
        return like.new_ones(num_channels), like.new_zeros(num_channels)
    state = bn.state_dict()
    scale = state["weight"] / torch.sqrt(state["running_var"] + bn.eps)
    return scale, state["bias"] - scale * state["running_mean"]


def _sides(arrays: tuple[Tensor, ...], network: Csn) -> tuple[CsnDescription, CsnDescription]:
    """``describe``'s arrays twice -> the query's description, in the network's precision, and
    the gallery's as it is."""
    kind, half = network.classify.weight.dtype, len(arrays) // 2
    query = _parted([x.to(kind) for x in arrays[:half]], len(network.settings.levels))
    return query, _parted(list(arrays[half:]), len(network.settings.levels))


def _parted(arrays: list[Tensor], levels: int) -> CsnDescription:
    """Maps, parts and vector, (N, 0) if the network has none; transforms are not stored."""
    if len(arrays) == 2 * levels:
        arrays.append(arrays[0].new_empty(arrays[0].shape[0], 0))
    return CsnDescription(tuple(arrays[0:-1:2]), tuple(arrays[1::2]), arrays[-1], ())


def _tiles(gallery: CsnDescription) -> Iterator[CsnDescription]:
    """Pieces of TILE images, in order, or smaller ones so that each thread has one.

    A device other than a CPU needs no pieces and gets all images at once.
    """
    num = size = len(gallery.vector)
    if gallery.vector.device.type == "cpu":
        size = min(TILE, -(-num // torch.get_num_threads()))
    for start in range(0, num, size):
        rows = slice(start, start + size)
        yield CsnDescription(
            tuple(x[rows] for x in gallery.maps),
            tuple(x[rows] for x in gallery.parts),
            gallery.vector[rows],
            (),
        )


def all_of(jobs: Sequence[Callable[[], Tensor]], device: torch.device) -> list[Tensor]:
    """Every job's result, in order; on a CPU each job runs in one thread.

    The products are too small to be split among threads, which would wait for each other, most of
    all on a busy machine.
    """
    threads = torch.get_num_threads()
    if len(jobs) < 2 or threads < 2 or device.type != "cpu":
        return [job() for job in jobs]

    def alone(job: Callable[[], Tensor]) -> Tensor:
        with torch.inference_mode():
            return job()

    try:
        return list(_pool(threads).map(alone, jobs))
    finally:
        torch.set_num_threads(threads)  # also sets the count of later threads


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Worker threads, each computing alone; they and their memory are kept."""
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
