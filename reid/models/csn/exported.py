"""CSN's comparing graphs for export, with any batch size and for all settings.

They give the results of ``FastCompare`` and ``Pair`` (``reid.models.csn.graphs``), whose tiles,
memory views and transforms are for a CPU and cannot be exported. Here each correlation is one
matrix product per channel: TensorRT supports that with a dynamic batch, while a grouped
convolution has a constant number of groups, and constant kernels.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid.models.csn.correlation import same_padding
from reid.models.csn.network import Csn, pair_score


class PairScore(nn.Module):
    """Eq. 7 in float32; it is a module so that its name appears in the graph.

    (P, 2) logits and the two sides' vectors, (P or 1, D) -> (P,).
    """

    def forward(self, logits: Tensor, first_vector: Tensor, second_vector: Tensor) -> Tensor:
        return pair_score(logits, first_vector, second_vector)


class _Correlation(nn.Module):
    """One direction of a level: maps (H, W), parts (k, k), then ``pools`` 2x2 MAX pools."""

    columns: Tensor
    rows: Tensor

    def __init__(self, size: tuple[int, int], kernel: int, pools: int, even_padding: str) -> None:
        super().__init__()
        self.size, self.kernel, self.pools = size, kernel, pools
        self.before, self.after = same_padding(kernel, even_padding)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)

    def _pooled(self, answer: Tensor) -> Tensor:
        for _ in range(self.pools):
            answer = self.pool(answer)
        return answer


class MapUnderParts(_Correlation):
    """One map (1, C, H, W) with N images' parts (N, S, C, k, k) -> (N, S * C, h, w).

    The map is laid out as (C, k * k, H * W): a column per position with its window, the taps
    column by column.
    """

    def __init__(self, size: tuple[int, int], kernel: int, pools: int, even_padding: str) -> None:
        super().__init__(size, kernel, pools, even_padding)
        tap, padded_height = torch.arange(kernel)[:, None], size[0] + kernel - 1
        window = (tap + torch.arange(size[0])).flatten()
        columns = (tap + torch.arange(size[1])).flatten()
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("rows", (tap * padded_height + window).flatten(), persistent=False)

    def forward(self, one_map: Tensor, parts: Tensor) -> Tensor:
        stripes, channels = parts.shape[1:3]
        padded = F.pad(one_map[0], (self.before, self.after) * 2)
        shifted = padded.index_select(2, self.columns)
        shifted = shifted.view(channels, -1, self.kernel, self.size[1]).transpose(1, 2)
        unfolded = shifted.flatten(1, 2).index_select(1, self.rows)
        kernels = parts.permute(2, 0, 1, 4, 3).reshape(channels, -1, self.kernel**2)
        answer = torch.matmul(kernels, unfolded.view(channels, self.kernel**2, -1))
        answer = self._pooled(answer.view(channels, -1, *self.size))
        by_image = answer.view(channels, -1, stripes, *answer.shape[2:])
        return by_image.permute(1, 2, 0, 3, 4).flatten(1, 2)


class MapsUnderParts(_Correlation):
    """Maps (N, C, H, W) with parts (N or 1, S, C, k, k) -> (N, S * C, h, w).

    The parts' rows become band matrices (Toeplitz), multiplied by windows of k whole rows.
    """

    def __init__(self, size: tuple[int, int], kernel: int, pools: int, even_padding: str) -> None:
        super().__init__(size, kernel, pools, even_padding)
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
        self.query_parts = nn.ModuleList(MapsUnderParts(*level) for level in levels)
        self.score = PairScore()

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
        self.score = PairScore()

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
