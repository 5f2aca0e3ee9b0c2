"""CSN's comparing graphs for export, with any batch size and for all settings.

They give the results of ``FastCompare`` and ``Pair`` (``reid.models.csn.graphs``), whose tiles,
memory views and transforms are for a CPU and cannot be exported. Here each correlation is one or
three matrix products per channel: TensorRT supports that with a dynamic batch, while a grouped
convolution has a constant number of groups, and constant kernels.

One query is compared with all images of a batch, so its half of each product is laid out once, and
the images' rows are the rows of one product, channel by channel. Where a level is pooled, the
positions of a pool lie side by side: their maximum is taken before the results are put in order.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid.models.csn.correlation import same_padding
from reid.models.csn.gallery_correlation import kernel_factors, map_factors
from reid.models.csn.network import Csn, pair_score


class PairScore(nn.Module):
    """Eq. 7 in float32; it is a module so that its name appears in the graph.

    (P, 2) logits and the two sides' vectors, (P or 1, D) -> (P,). ``weight`` is that of p.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, logits: Tensor, first_vector: Tensor, second_vector: Tensor) -> Tensor:
        return pair_score(logits, first_vector, second_vector, self.weight)


class _Correlation(nn.Module):
    """One direction of a level: maps (H, W), parts (k, k), then ``pools`` 2x2 MAX pools."""

    columns: Tensor
    rows: Tensor

    def __init__(
        self, size: tuple[int, int], kernel: int, pools: int, even_padding: str, inside: bool
    ) -> None:
        """With ``inside`` the first pool is a part of the product."""
        super().__init__()
        self.size, self.kernel, self.inside = size, kernel, inside
        self.pools = pools - inside
        self.before, self.after = same_padding(kernel, even_padding)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        height, width = size
        self.out_size = (-(-height // 2), -(-width // 2)) if inside else size

    def _pooled(self, answer: Tensor) -> Tensor:
        for _ in range(self.pools):
            answer = self.pool(answer)
        return answer

    def _places(self, length: int) -> Tensor:
        """(1, length), or with ``inside`` (2, n): the even positions, then the odd ones.

        A last one without a neighbour is used twice, which does not change the maximum.
        """
        if not self.inside:
            return torch.arange(length)[None]
        places = torch.arange(length + length % 2).clamp(max=length - 1)
        return torch.stack((places[0::2], places[1::2]))


class MapUnderParts(_Correlation):
    """One map (1, C, H, W) with N images' parts (N, S, C, k, k) -> (N, S * C, h, w).

    The map is laid out as (C, k * k, positions): a column per position with its window.
    """

    def __init__(self, size: tuple[int, int], kernel: int, pools: int, even_padding: str) -> None:
        super().__init__(size, kernel, pools, even_padding, inside=pools > 0)
        tap, padded_height = torch.arange(kernel)[:, None], size[0] + kernel - 1
        rows = tap[:, None] + tap * padded_height + self._places(size[0]).flatten()
        columns = tap + self._places(size[1]).flatten()
        self.register_buffer("columns", columns.flatten(), persistent=False)
        self.register_buffer("rows", rows.flatten(), persistent=False)

    def forward(self, one_map: Tensor, parts: Tensor) -> Tensor:
        stripes, channels = parts.shape[1:3]
        padded = F.pad(one_map[0], (self.before, self.after) * 2)
        shifted = padded.index_select(2, self.columns)
        shifted = shifted.view(channels, padded.shape[1], self.kernel, -1).transpose(1, 2)
        unfolded = shifted.flatten(1, 2).index_select(1, self.rows)
        kernels = parts.permute(2, 0, 1, 3, 4).reshape(channels, -1, self.kernel**2)
        answer = torch.matmul(kernels, unfolded.view(channels, self.kernel**2, -1))
        if self.inside:
            height, width = self.out_size
            answer = _larger(answer.view(channels, -1, 2, 2 * height * width))
            answer = _larger(answer.view(channels, -1, 2, width))
        answer = self._pooled(answer.view(channels, -1, *self.out_size))
        by_image = answer.view(channels, -1, stripes, *answer.shape[2:])
        return by_image.permute(1, 2, 0, 3, 4).flatten(1, 2)


class MapsUnderQuery(_Correlation):
    """N images' maps (N, C, H, W) with one query's parts (1, S, C, k, k) -> (N, S * C, h, w).

    The parts' rows become band matrices (Toeplitz), multiplied by windows of k whole rows. With a
    pool inside, the larger of two rows takes three products of half as many rows each, by
    Winograd's F(2,2) (``reid.models.csn.gallery_correlation``).
    """

    def __init__(self, size: tuple[int, int], kernel: int, pools: int, even_padding: str) -> None:
        super().__init__(size, kernel, pools, even_padding, inside=pools > 0 and size[0] % 2 == 0)
        self.lanes = 1 + self.inside
        self.more = kernel % self.lanes  # a row of zeros makes an odd kernel's rows even
        self.taps = (kernel + self.more) // self.lanes
        tap = torch.arange(size[1])[:, None] - self._places(size[1]).flatten() + self.before
        columns = torch.where((tap >= 0) & (tap < kernel), tap, kernel)  # or the zero after a row
        rows = torch.arange(self.out_size[0])[:, None] + torch.arange(self.taps)
        self.register_buffer("columns", columns.flatten(), persistent=False)
        self.register_buffer("rows", rows.flatten(), persistent=False)

    def forward(self, maps: Tensor, parts: Tensor) -> Tensor:
        stripes, channels = parts.shape[1:3]
        (height, width), (high, wide) = self.size, self.out_size
        bands = F.pad(parts[0], (0, 1, 0, self.more)).index_select(3, self.columns)
        bands = bands.view(stripes, channels, self.taps, self.lanes, width, self.lanes, wide)
        bands = bands.permute(3, 1, 2, 4, 5, 0, 6).flatten(4).flatten(2, 3)
        num = high + self.taps - 1 + self.inside  # rows of the first lane; the second has one less
        below = self.lanes * num - height - self.before
        rows = F.pad(maps.transpose(0, 1), (0, 0, self.before, below))
        rows = rows.view(channels, -1, num, self.lanes, width)
        products = [
            torch.matmul(self._windows(factor), kernel)
            for factor, kernel in zip(
                map_factors([rows[..., : num - lane, lane, :] for lane in range(self.lanes)]),
                kernel_factors(bands.unbind()),
                strict=True,
            )
        ]
        answer = products[0]
        if self.inside:
            first, shared, second = products
            answer = torch.maximum(first, second) + shared
            answer = _larger(answer.view(channels, -1, 2, stripes * wide))
        answer = answer.view(channels, -1, high, stripes, wide).permute(1, 3, 0, 2, 4)
        return self._pooled(answer.flatten(1, 2))

    def _windows(self, rows: Tensor) -> Tensor:
        """(C, N, rows, W) -> (C, N * h, taps * W)."""
        windows = rows.index_select(2, self.rows)
        return windows.view(rows.shape[0], -1, self.taps * self.size[1])


class MapsUnderParts(_Correlation):
    """Maps (N, C, H, W) with as many images' parts (N, S, C, k, k) -> (N, S * C, h, w).

    The parts' rows become band matrices (Toeplitz), multiplied by windows of k whole rows.
    """

    def __init__(self, size: tuple[int, int], kernel: int, pools: int, even_padding: str) -> None:
        super().__init__(size, kernel, pools, even_padding, inside=False)
        column = torch.arange(size[1])
        tap = column[:, None] - column + self.before
        inside = (tap >= 0) & (tap < kernel)  # else the zero after a kernel's row
        columns = torch.where(inside, tap, kernel).flatten()
        rows = (torch.arange(size[0])[:, None] + torch.arange(kernel)).flatten()
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, maps: Tensor, parts: Tensor) -> Tensor:
        stripes, channels = parts.shape[1:3]
        height, width = self.size
        bands = F.pad(parts, (0, 1)).index_select(4, self.columns)
        bands = bands.view(-1, stripes, channels, self.kernel * width, width)
        padded = F.pad(maps, (0, 0, self.before, self.after)).index_select(2, self.rows)
        windows = padded.view(-1, channels, height, self.kernel * width)
        answer = torch.matmul(windows, bands.permute(0, 2, 3, 1, 4).flatten(3))
        answer = answer.view(-1, channels, height, stripes, width).permute(0, 3, 1, 2, 4)
        return self._pooled(answer.flatten(1, 2))


def _larger(halves: Tensor) -> Tensor:
    """(C, M, 2, L) -> (C, M, 1, L); the exporter would give ``amax`` of float16 two casts."""
    return F.max_pool2d(halves, (2, 1))


Sizes = tuple[tuple[int, int], ...]
"""(height, width) of each level's maps."""


class CompareGraph(nn.Module):
    """A query's description (1, ...) and N gallery images' (N, ...) -> scores, (N,) float32.

    The arrays are those of ``describe``, the query's first.
    """

    def __init__(self, network: Csn, sizes: Sizes) -> None:
        super().__init__()
        self.network = network
        levels = _levels(network, sizes)
        self.query_map = nn.ModuleList(MapUnderParts(*level) for level in levels)
        self.query_parts = nn.ModuleList(MapsUnderQuery(*level) for level in levels)
        self.score = PairScore(network.settings.probability_weight)

    def forward(self, *arrays: Tensor) -> Tensor:
        kind = self.network.classify.weight.dtype
        query, gallery = arrays[: len(arrays) // 2], arrays[len(arrays) // 2 :]
        similarities = []
        for level in range(len(self.network.settings.levels)):
            pair = slice(2 * level, 2 * level + 2)
            query_map, query_parts = (x.to(kind) for x in query[pair])
            maps, parts = (x.to(kind) for x in gallery[pair])
            similarities.append(self.query_map[level](query_map, parts))
            similarities.append(self.query_parts[level](maps, query_parts))
        logits = self.network.head(torch.cat(similarities, 1))
        # The vectors stay float32: the score is steep where they nearly agree.
        has_vector = self.network.ranking is not None
        vectors = (query[-1], gallery[-1]) if has_vector else (logits[:, :0],) * 2
        out: Tensor = self.score(logits, *vectors)
        return out


class PairGraph(nn.Module):
    """Two images each, (N, 3, 160, 60) -> the score of Eq. 7, (N,) float32."""

    def __init__(self, network: Csn, sizes: Sizes) -> None:
        super().__init__()
        self.network = network
        self.correlation = nn.ModuleList(
            MapsUnderParts(*level) for level in _levels(network, sizes)
        )
        self.score = PairScore(network.settings.probability_weight)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        kind = self.network.classify.weight.dtype
        one, other = (self.network.describe(image.to(kind)) for image in (first, second))
        similarities = [
            correlation(maps.maps[level], parts.parts[level])
            for level, correlation in enumerate(self.correlation)
            for maps, parts in ((one, other), (other, one))
        ]
        logits = self.network.head(torch.cat(similarities, 1))
        out: Tensor = self.score(logits, one.vector, other.vector)
        return out


def _levels(network: Csn, sizes: Sizes) -> list[tuple[tuple[int, int], int, int, str]]:
    """Each level's size, its parts' side, the MAX pools after its similarities, and the side of an
    even part's extra zero.

    An extra pool of all similarities is an extra pool of each level.
    """
    return [
        (
            size,
            cast(int, attend.size),
            pools + network.settings.extra_sim_pool,
            network.settings.even_padding,
        )
        for size, attend, pools in zip(
            sizes, network.attend, network.similarity_pools(), strict=True
        )
    ]
