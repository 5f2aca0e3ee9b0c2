"""CSN's graphs: describe an image once, compare it with many, or score a pair of images.

``describe`` outputs what a gallery stores. ``compare`` takes one stored query and N stored
gallery images. ``pair`` takes N pairs of images, as in the paper.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from reid.models.csn.compare import FastCompare, PlainCompare
from reid.models.csn.exported import CompareGraph, PairGraph
from reid.models.csn.network import Csn, pair_score
from reid.models.graphs import Graph
from reid.types import ArraySpec

QUERY, GALLERY = "query_", "gallery_"
"""Prefixes of ``compare``'s inputs: each of ``describe``'s outputs is used twice."""


class Describe(nn.Module):
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


class Pair(nn.Module):
    """Two images each, (N, 3, 160, 60) -> the score of Eq. 7, (N,) float32."""

    def __init__(self, network: Csn) -> None:
        super().__init__()
        self.network = network

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        kind = self.network.classify.weight.dtype
        one, other = (self.network.describe(image.to(kind)) for image in (first, second))
        logits = self.network.logits(one, other)
        weight = self.network.settings.probability_weight
        return pair_score(logits, one.vector, other.vector, weight)


def comparer(network: Csn, sizes: tuple[tuple[int, int], ...]) -> nn.Module:
    """The module that compares stored descriptions; ``sizes`` are (height, width) of each level.

    It takes a query's arrays and N gallery images', from ``Describe``, and returns scores, (N,)
    float32: ``network.head(network.similarity(query, gallery))`` and Eq. 7, in the fastest form
    for these settings.
    """
    # FastCompare pools a level at most once, by pairs of rows.
    fast = not network.settings.extra_sim_pool and all(
        pools == 0 or (pools == 1 and height % 2 == 0)
        for pools, (height, _) in zip(network.similarity_pools(), sizes, strict=True)
    )
    return FastCompare(network, sizes) if fast else PlainCompare(network)


def pair_graphs(
    network: nn.Module, input_shape: tuple[int, int, int], normalise: bool
) -> tuple[Graph, ...]:
    """``describe``, ``compare`` and ``pair``. The vectors always have length 1.

    The names of ``describe``'s outputs are ``maps2``, ``parts2``, ..., ``vector``; those of
    ``compare``'s inputs have the prefixes ``query_`` and ``gallery_``.
    """
    csn = cast(Csn, network)
    weight = csn.classify.weight
    with torch.no_grad():
        shapes = [
            tuple(output.shape[1:])
            for output in Describe(csn)(
                torch.zeros(1, *input_shape, dtype=weight.dtype, device=weight.device)
            )
        ]
    names = [f"{kind}{level}" for level in csn.settings.levels for kind in ("maps", "parts")]
    described = tuple(map(ArraySpec, (*names, "vector"), shapes))
    sizes = tuple(shape[1:] for shape in shapes[0 : 2 * len(csn.settings.levels) : 2])
    compared = tuple(
        ArraySpec(prefix + spec.name, spec.shape, batched=prefix == GALLERY)
        for prefix in (QUERY, GALLERY)
        for spec in described
    )
    score = (ArraySpec("score", ()),)
    images = tuple(ArraySpec(name, input_shape) for name in ("first", "second"))
    compare = comparer(csn, sizes)
    return (
        Graph("describe", Describe(csn), (ArraySpec("data", input_shape),), described),
        Graph("compare", compare, compared, score, exported=CompareGraph(csn, sizes)),
        Graph("pair", Pair(csn), images, score, exported=PairGraph(csn, sizes), on_request=True),
    )
