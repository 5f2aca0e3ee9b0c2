"""CSN's test stages: describe an image once, compare it with many, or score a pair as it comes.

``describe`` gives what a gallery stores. ``compare`` takes one stored query and N stored
gallery images. ``pair`` takes N pairs of images, as the paper ran the network.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from reid.models.csn import CHANNELS, Csn, CsnDescription, pair_score
from reid.models.csn_graph import CompareGraph, PairGraph
from reid.models.gallery_correlation import GalleryCorrelation
from reid.models.stages import Stage
from reid.types import ArraySpec

TILE, BLOCK = 64, 32
"""Gallery images, and channels of them, compared at once: what lies between two products
(4 MB) stays in a processor's cache."""

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
        logits = self.network.logits(one, other)
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
        levels = list(zip(self._correlations(), query.maps, query.parts, strict=True))
        layouts = [partial(one.unfolded, maps[0]) for one, maps, _ in levels]
        layouts += [partial(one.bands, parts[0]) for one, _, parts in levels]
        device = query.vector.device
        laid_out = _all(layouts, device)
        sides = list(zip(laid_out[: len(levels)], laid_out[len(levels) :], strict=True))
        weight, bias = self._conv4()

        def scores(tile: CsnDescription) -> Tensor:
            conv4 = bias
            for level, (unfolded, bands) in enumerate(sides):
                to_query, to_gallery = weight[level]
                conv4 = conv4 + self._under_gallery(level, unfolded, tile.parts[level], to_query)
                conv4 = conv4 + self._under_query(level, bands, tile.maps[level], to_gallery)
            logits = self.network.decide(self._activated(conv4.permute(0, 3, 1, 2)))
            return pair_score(logits, query.vector, tile.vector)

        return torch.cat(_all([partial(scores, tile) for tile in _tiles(gallery)], device))

    def _correlations(self) -> list[GalleryCorrelation]:
        return [cast(GalleryCorrelation, level) for level in self.levels]

    def _conv4(self) -> tuple[Tensor, Tensor]:
        """conv4 as (levels, 2 directions, channels, stripes, 32), and its bias.

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
        return split.permute(1, 2, 4, 3, 0).contiguous(), bias

    def _activated(self, conv4: Tensor) -> Tensor:
        block = self.network.conv4
        out: Tensor = block.relu(block.bn(conv4))
        return out

    def _under_gallery(self, level: int, unfolded: Tensor, parts: Tensor, weight: Tensor) -> Tensor:
        """The query's map under the gallery's parts: its share of conv4, (N, h, w, 32)."""
        correlation = self._correlations()[level]
        mixed = None
        for block in _blocks():
            answers = correlation.with_map(unfolded[:, :, block], parts[:, :, block])
            mixed = _mixed(answers, weight[block], mixed)
        return cast(Tensor, mixed).view(len(parts), *correlation.out_size, -1)

    def _under_query(self, level: int, bands: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
        """The gallery's maps under the query's parts: their share of conv4, (N, h, w, 32)."""
        correlation = self._correlations()[level]
        mixed: dict[int, Tensor] = {}
        for block in _blocks():
            answers = correlation.with_parts(bands[:, block], maps[:, block])
            for phase, answer in enumerate(answers):
                mixed[phase] = _mixed(answer, weight[block], mixed.get(phase))
        width = correlation.out_size[1]
        phases = [phase.view(-1, width, weight.shape[-1]) for phase in mixed.values()]
        return correlation.in_order(phases, len(maps))


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
            logits = self.network.logits(one, tile)
            scores.append(pair_score(logits, one.vector, tile.vector))
        return torch.cat(scores)


def _blocks() -> Iterator[slice]:
    """BLOCK channels each, in order."""
    return (slice(start, start + BLOCK) for start in range(0, CHANNELS, BLOCK))


def _mixed(answers: Tensor, weight: Tensor, before: Tensor | None) -> Tensor:
    """conv4 of some channels' answers, (C, S * ...) under (C, S, 32), (places, 32), added to
    what it came to ``before``, in its place.

    With the places in rows this product is 1.7 times as fast as with conv4's outputs in rows.
    """
    rows = weight.flatten(0, 1)
    columns = answers.reshape(len(rows), -1).t()
    return columns @ rows if before is None else before.addmm_(columns, rows)


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
    """Pieces of TILE images, in order, or smaller ones so that each thread has one.

    Another device than a processor has no use for pieces: it has what there is at once.
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


def _all(jobs: Sequence[Callable[[], Tensor]], device: torch.device) -> list[Tensor]:
    """Every job's answer, in order; on a processor a thread works through a job alone.

    The products are too small to be shared: on two cores 1250 pairs took 0.9 of the time that
    they take with both threads in each product, and where other programs ran beside them, so
    that the threads waited for each other, 0.3 of it.
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
        torch.set_num_threads(threads)  # a thread's count is also that of threads yet to come


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that compute alone. They stay, and so does the memory that they work in."""
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


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
    # CompareStage pools a level once at most, by pairs of rows.
    fast = not csn.extra_sim_pool and all(
        pools == 0 or (pools == 1 and height % 2 == 0)
        for pools, (height, _) in zip(csn.similarity_pools(), sizes, strict=True)
    )
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
        Stage("compare", compare, compared, score, graph=CompareGraph(csn, sizes)),
        Stage("pair", PairStage(csn), images, score, graph=PairGraph(csn, sizes), on_request=True),
    )
