"""CSN's test stages: describe an image once, compare it with many, or score a pair as it comes.

``describe`` gives what a gallery stores. ``compare`` takes one stored query and N stored
gallery images. ``pair`` takes N pairs of images, as the paper ran the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from reid.models.csn import CHANNELS, Csn, CsnDescription, pair_score
from reid.models.gallery_correlation import GalleryCorrelation
from reid.models.stages import Stage
from reid.types import ArraySpec

TILE = 64
"""Gallery images compared at once: their similarities (0.4 MB each, before pooling 1.4 MB)
stay in a processor's cache. Exported graphs take the batch that they are given."""

QUERY, GALLERY = "query_", "gallery_"
"""Prefixes of ``compare``'s inputs: each of ``describe``'s outputs comes twice."""


class DescribeStage(nn.Module):
    """(N, 3, 160, 60) -> per level maps and parts, then the vector; float32."""

    def __init__(self, network: Csn) -> None:
        super().__init__()
        self.network = network

    def forward(self, data: Tensor) -> tuple[Tensor, ...]:
        described = self.network.describe(data.to(self.network.classify.weight.dtype))
        arrays = [x for level in zip(described.maps, described.parts, strict=True) for x in level]
        if described.vector.shape[1]:
            arrays.append(described.vector)
        return tuple(array.float() for array in arrays)


class PairStage(nn.Module):
    """Two images each, (N, 3, 160, 60) -> the score of Eq. 7, (N,) float32."""

    def __init__(self, network: Csn) -> None:
        super().__init__()
        self.network = network

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        kind = self.network.classify.weight.dtype
        one, other = (self.network.describe(image.to(kind)) for image in (first, second))
        logits = self.network.head(self.network.similarity(one, other))
        return pair_score(logits, one.vector, other.vector)


class CompareStage(nn.Module):
    """One query's description (1, ...) and N gallery images' (N, ...) -> scores, (N,) float32.

    The arrays come as ``describe`` gives them, the query's first. The answer is
    ``network.head(network.similarity(query, gallery))`` and Eq. 7, in another order of the
    same sums: conv4 looks at one place, so it is summed level by level and direction by
    direction, and the concatenated similarities are never whole.
    """

    def __init__(self, network: Csn, sizes: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.network = network
        self.levels = nn.ModuleList(
            GalleryCorrelation(size, cast(int, attend.size), pool=pools > 0)
            for size, attend, pools in zip(
                sizes, network.attend, network.similarity_pools(), strict=True
            )
        )

    def forward(self, *arrays: Tensor) -> Tensor:
        query, gallery = _sides(arrays, self.network)
        pairs = list(zip(self._correlations(), query.maps, query.parts, strict=True))
        unfolded = [correlation.unfolded(maps[0]) for correlation, maps, _ in pairs]
        bands = [correlation.bands(parts[0]) for correlation, _, parts in pairs]
        weight, bias = self._conv4()
        scores = []
        for tile in _tiles(gallery):
            conv4 = bias[:, None, None, None]
            for level, (maps, parts) in enumerate(zip(tile.maps, tile.parts, strict=True)):
                conv4 = conv4 + self._under_gallery(unfolded[level], parts, level, weight)
                conv4 = conv4 + self._under_query(bands[level], maps, level, weight)
            logits = self.network.decide(self._activated(conv4.transpose(0, 1)))
            scores.append(pair_score(logits, query.vector, tile.vector))
        return torch.cat(scores)

    def _correlations(self) -> list[GalleryCorrelation]:
        return [cast(GalleryCorrelation, level) for level in self.levels]

    def _conv4(self) -> tuple[Tensor, Tensor]:
        """conv4 as (levels, 2 directions, 32, channels * stripes), and its bias.

        ``similarity_bn``, where there is one, is a scale and a shift of conv4's inputs.
        """
        network = self.network
        weight, bias = network.conv4.conv.weight.flatten(1), network.conv4.conv.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        if network.similarity_bn is not None:
            scale, shift = _scale_and_shift(network.similarity_bn)
            bias = bias + weight @ shift
            weight = weight * scale
        split = weight.view(len(weight), len(self.levels), 2, -1, CHANNELS)
        return split.permute(1, 2, 0, 4, 3).flatten(3), bias

    def _activated(self, conv4: Tensor) -> Tensor:
        block = self.network.conv4
        out: Tensor = block.relu(block.bn(conv4))
        return out

    def _under_gallery(self, unfolded: Tensor, parts: Tensor, level: int, weight: Tensor) -> Tensor:
        """The query's map under the gallery's parts: its share of conv4, (32, N, h, w)."""
        correlation = self._correlations()[level]
        answer = correlation.with_map(unfolded, parts)
        mixed = torch.matmul(weight[level, 0], answer.flatten(2).flatten(0, 1))
        return mixed.view(len(mixed), -1, *correlation.out_size)

    def _under_query(self, bands: Tensor, maps: Tensor, level: int, weight: Tensor) -> Tensor:
        """The gallery's maps under the query's parts: their share of conv4, (32, N, h, w)."""
        correlation = self._correlations()[level]
        phases = []
        for phase in correlation.with_parts(bands, maps, weight.shape[3] // CHANNELS):
            columns = phase.movedim(-2, 1)  # (C, S, n, ..., w)
            mixed = torch.matmul(weight[level, 1], columns.flatten(2).flatten(0, 1))
            phases.append(mixed.view(len(mixed), -1, *columns.shape[3:]))
        in_order = correlation.in_order(phases, maps.shape[0])
        return in_order.reshape(len(in_order), -1, *correlation.out_size)


class PlainCompareStage(nn.Module):
    """CompareStage's answer by ``network.similarity`` itself, for the rarer readings."""

    def __init__(self, network: Csn) -> None:
        super().__init__()
        self.network = network

    def forward(self, *arrays: Tensor) -> Tensor:
        query, gallery = _sides(arrays, self.network)
        scores = []
        for tile in _tiles(gallery):
            num = tile.maps[0].shape[0]
            one = query.rows(torch.zeros(num, dtype=torch.int64, device=tile.vector.device))
            logits = self.network.head(self.network.similarity(one, tile))
            scores.append(pair_score(logits, one.vector, tile.vector))
        return torch.cat(scores)


def _scale_and_shift(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Batch normalisation at test as (C,) factors and summands."""
    state = bn.state_dict()
    scale = state["weight"] / torch.sqrt(state["running_var"] + bn.eps)
    return scale, state["bias"] - scale * state["running_mean"]


def _sides(arrays: tuple[Tensor, ...], network: Csn) -> tuple[CsnDescription, CsnDescription]:
    """``describe``'s arrays twice -> the query's and the gallery's descriptions."""
    kind = network.classify.weight.dtype
    halves = arrays[: len(arrays) // 2], arrays[len(arrays) // 2 :]
    query, gallery = (_parted([x.to(kind) for x in half], len(network.levels)) for half in halves)
    return query, gallery


def _parted(arrays: list[Tensor], levels: int) -> CsnDescription:
    """Maps, parts and vector, (N, 0) where the network has none; the transforms are not kept."""
    if len(arrays) == 2 * levels:
        arrays.append(arrays[0].new_empty(arrays[0].shape[0], 0))
    return CsnDescription(tuple(arrays[0:-1:2]), tuple(arrays[1::2]), arrays[-1], ())


def _tiles(gallery: CsnDescription) -> Iterator[CsnDescription]:
    """Pieces of TILE images, in order; the whole where a graph is being exported."""
    num = gallery.vector.shape[0]
    if torch.compiler.is_exporting():
        yield gallery
        return
    for start in range(0, num, TILE):
        rows = slice(start, start + TILE)
        yield CsnDescription(
            tuple(x[rows] for x in gallery.maps),
            tuple(x[rows] for x in gallery.parts),
            gallery.vector[rows],
            (),
        )


def pair_stages(
    network: nn.Module, input_shape: tuple[int, int, int], normalise: bool
) -> tuple[Stage, ...]:
    """``describe``, ``compare`` and ``pair``. The vectors are of length 1 whatever is asked.

    The names of ``describe``'s outputs are ``maps2``, ``parts2``, ..., ``vector``; those of
    ``compare``'s inputs have ``query_`` and ``gallery_`` before them.
    """
    csn = cast(Csn, network)
    weight = csn.classify.weight
    with torch.no_grad():
        shapes = [
            tuple(output.shape[1:])
            for output in DescribeStage(csn)(
                torch.zeros(1, *input_shape, dtype=weight.dtype, device=weight.device)
            )
        ]
    names = [f"{kind}{level}" for level in csn.levels for kind in ("maps", "parts")]
    described = tuple(map(ArraySpec, (*names, "vector"), shapes))
    sizes = tuple(shape[1:] for shape in shapes[0 : 2 * len(csn.levels) : 2])
    fast = not csn.extra_sim_pool and max(csn.similarity_pools()) <= 1
    fast = fast and all(height % 2 == 0 for height, _ in sizes)
    compared = tuple(
        ArraySpec(prefix + spec.name, spec.shape, batched=prefix == GALLERY)
        for prefix in (QUERY, GALLERY)
        for spec in described
    )
    score = (ArraySpec("score", ()),)
    images = tuple(ArraySpec(name, input_shape) for name in ("first", "second"))
    compare = CompareStage(csn, sizes) if fast else PlainCompareStage(csn)
    return (
        Stage("describe", DescribeStage(csn), (ArraySpec("data", input_shape),), described),
        Stage("compare", compare, compared, score),
        Stage("pair", PairStage(csn), images, score),
    )
