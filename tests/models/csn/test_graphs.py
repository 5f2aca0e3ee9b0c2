"""CSN's graphs answer as the network that was trained, whatever the order of the sums."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid.models.csn import compare as csn_compare
from reid.models.csn.compare import FastCompare, PlainCompare
from reid.models.csn.gallery_correlation import GalleryCorrelation, MapsTile, PartsTile
from reid.models.csn.graphs import pair_graphs
from reid.models.csn.network import Csn, pair_score
from reid.models.csn.settings import CsnSettings
from reid.models.graphs import Graph
from tests.operations import Waits, counted

READINGS: dict[str, dict[str, Any]] = {
    "the paper's": {},
    "three levels": {"levels": (2, 3, 4)},
    "level 2": {"levels": (2,)},
    "level 4": {"levels": (4,)},
    "undivided": {"divide": False},
    "centre crop": {"attention": "centre_crop"},
    "normalised": {"normalise_similarity": True},
    "classification only": {"classification_only": True},
    "one more pool": {"extra_sim_pool": True},
    "even parts lie lower": {"even_padding": "before"},
    "the probability counts less": {"probability_weight": 0.3},
}


def lively(**reading: Any) -> Csn:
    """Random batch norms, and logits small enough that a probability shows every change."""
    torch.manual_seed(3)
    network = Csn(CsnSettings(**reading)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    images = torch.randn(4, 3, 160, 60)
    with torch.inference_mode():
        logits = network(images, torch.tensor([0, 1, 2]), torch.tensor([1, 2, 3])).logits
    network.classify.weight.data /= logits.std()
    return network


def graphs_by_name(network: Csn, size: tuple[int, int] = (160, 60)) -> dict[str, Graph]:
    return {graph.name: graph for graph in pair_graphs(network, (3, *size), True)}


def test_a_level_that_is_not_pooled_may_have_an_odd_height():
    network = lively()
    found = graphs_by_name(network, (72, 60))  # level 2 is 18 rows high, and pooled; level 3 is 9
    assert isinstance(found["compare"].module, FastCompare)
    images = torch.randn(3, 3, 72, 60)
    with torch.inference_mode():
        arrays = found["describe"].module(images)
        scores = found["compare"].module(*(array[:1] for array in arrays), *arrays)
        expected = found["pair"].module(images[:1].expand(3, -1, -1, -1), images)
    torch.testing.assert_close(scores[1:], expected[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())
def test_one_query_against_many_scores_as_pair_by_pair(reading, monkeypatch):
    monkeypatch.setattr(csn_compare, "TILE", 4)
    network = lively(**reading)
    found = graphs_by_name(network)
    num = 7
    with torch.inference_mode():
        images = torch.randn(num, 3, 160, 60)
        described = network.describe(images)
        zeros, gallery = torch.zeros(num, dtype=torch.int64), torch.arange(num)
        similarity = network.similarity(described.rows(zeros), described.rows(gallery))
        weight = reading.get("probability_weight", 1.0)
        logits = network.head(similarity)
        expected = pair_score(logits, described.vector[:1], described.vector, weight)
        arrays = found["describe"].module(images)
        scores = found["compare"].module(*(array[:1] for array in arrays), *arrays)
    other = gallery > 0  # an image against itself has an infinite score, nearly
    assert expected[other].std() > 1e-3
    torch.testing.assert_close(scores[other], expected[other], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())
def test_arrays_are_those_that_the_graphs_list(reading):
    found = graphs_by_name(lively(**reading))
    images = torch.randn(2, 3, 160, 60)
    with torch.inference_mode():
        arrays = found["describe"].module(images)
        shapes = [tuple(array.shape) for array in arrays]
        assert shapes == [(2, *spec.shape) for spec in found["describe"].outputs]
        names = [spec.name for spec in found["describe"].outputs]
        expected = [f"query_{name}" for name in names] + [f"gallery_{name}" for name in names]
        assert [spec.name for spec in found["compare"].inputs] == expected
        assert found["pair"].module(images, images.flip(0)).shape == (2,)


def test_threads_share_the_tiles_and_leave_pytorchs_count_alone():
    compare = graphs_by_name(lively())["compare"]
    arrays = [torch.rand(7 if spec.batched else 1, *spec.shape) for spec in compare.inputs]
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with torch.inference_mode():
                found.append(compare.module(*arrays))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0].shape == (7,)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_what_is_kept_for_the_next_gallery_changes_no_answer(monkeypatch):
    monkeypatch.setattr(csn_compare, "TILE", 3)
    compare = graphs_by_name(lively())["compare"]
    modes = (torch.inference_mode, torch.no_grad, torch.inference_mode)
    galleries = [(spec.shape, spec.batched) for spec in compare.inputs]
    for seed, (num, mode) in enumerate(itertools.product((5, 1, 3, 2, 5), modes)):
        torch.manual_seed(seed)  # another query, another gallery
        arrays = [torch.rand(num if batched else 1, *shape) for shape, batched in galleries]
        fresh = graphs_by_name(lively())["compare"]
        with mode():
            found, expected = compare.module(*arrays), fresh.module(*arrays)
        assert torch.equal(found, expected)


def test_weights_are_folded_once_and_again_when_they_change(monkeypatch):
    folded = []
    fold = FastCompare._conv4
    monkeypatch.setattr(FastCompare, "_conv4", lambda self: folded.append(self) or fold(self))
    network = lively(levels=(4,), normalise_similarity=True)
    compare = graphs_by_name(network)["compare"]
    arrays = [torch.rand(2 if spec.batched else 1, *spec.shape) for spec in compare.inputs]
    with torch.no_grad():
        before = [compare.module(*arrays) for _ in range(2)]
        assert torch.equal(*before)
        assert len(folded) == 1
        for number, changed in enumerate(
            [network.conv4.bn.running_var, network.conv5.conv.weight, network.similarity_bn.bias]
        ):
            changed *= 1.5
            found, fresh = compare.module(*arrays), graphs_by_name(network)["compare"]
            assert not torch.equal(found, before[0])
            assert torch.equal(found, fresh.module(*arrays))
            assert len(folded) == 3 + 2 * number


@pytest.mark.parametrize("reading", [{}, {"extra_sim_pool": True}])
def test_a_gallery_in_float16_scores_as_the_same_numbers_in_float32(reading):
    found = graphs_by_name(lively(**reading))
    assert found["compare"].module.takes_half
    with torch.inference_mode():
        arrays = found["describe"].module(torch.randn(5, 3, 160, 60))
        query, gallery = [array[:1] for array in arrays], [array.half() for array in arrays]
        scores = found["compare"].module(*query, *gallery)
        expected = found["compare"].module(*query, *(array.float() for array in gallery))
    torch.testing.assert_close(scores, expected, rtol=1e-6, atol=1e-6)


def test_the_pair_graph_scores_as_describing_apart():
    network = lively()
    found = graphs_by_name(network)
    first, second = torch.randn(2, 3, 3, 160, 60)
    with torch.inference_mode():
        pairs = found["pair"].module(first, second)
        one, other = found["describe"].module(first), found["describe"].module(second)
        apart = [
            found["compare"].module(*(x[i : i + 1] for x in one), *(x[i : i + 1] for x in other))
            for i in range(3)
        ]
    torch.testing.assert_close(pairs, torch.cat(apart), rtol=1e-4, atol=1e-5)


def test_readings_without_a_fast_form_are_compared_by_the_formula():
    assert isinstance(graphs_by_name(lively())["compare"].module, FastCompare)
    assert isinstance(graphs_by_name(lively(extra_sim_pool=True))["compare"].module, PlainCompare)
    odd_height = graphs_by_name(lively(), (148, 60))  # 37 rows at level 2
    assert isinstance(odd_height["compare"].module, PlainCompare)


def naive_correlation(maps: Tensor, part: Tensor, even: str) -> Tensor:
    """(H, W) under (k, k): zeros outside, as TensorFlow's SAME with fewer before, or mirrored."""
    height, width = maps.shape
    side = part.shape[0]
    before = (side - 1) // 2 if even == "after" else side // 2
    answer = torch.zeros(height, width)
    for y in range(height):
        for x in range(width):
            for dy in range(side):
                for dx in range(side):
                    row, column = y + dy - before, x + dx - before
                    if 0 <= row < height and 0 <= column < width:
                        answer[y, x] += maps[row, column] * part[dy, dx]
    return answer


def naive_pool(answer: Tensor) -> Tensor:
    height, width = answer.shape
    return torch.stack(
        [
            torch.stack([answer[y : y + 2, x : x + 2].max() for x in range(0, width, 2)])
            for y in range(0, height, 2)
        ]
    )


@pytest.mark.parametrize("even", ["after", "before"])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize(("size", "side"), [((6, 5), 4), ((6, 4), 3), ((4, 7), 4), ((8, 3), 1)])
def test_fast_forms_equal_a_literal_loop(size, side, pool, even):
    torch.manual_seed(0)
    channels, stripes, num = 2, 3, 4
    maps, query_map = torch.randn(num, channels, *size), torch.randn(channels, *size)
    parts = torch.randn(num, stripes, channels, side, side)
    query_parts = torch.randn(stripes, channels, side, side)
    correlation = GalleryCorrelation(size, side, pool, even)
    height, width = correlation.out_size
    every = slice(None)
    bands = correlation.bands(query_parts)
    tile = MapsTile(correlation, maps, channels, bands)
    phases = [
        phase.t().reshape(channels, stripes, -1, width).clone().movedim(2, 0)
        for phase in tile.similarity(maps, list(bands), every)
    ]
    under_query = correlation.in_order(phases, num)
    unfolded = [list(half) for half in correlation.unfolded(query_map)]
    tile = PartsTile(correlation, parts, channels, torch.float32)
    under_gallery = tile.similarity(parts, unfolded, every).t()
    under_gallery = under_gallery.view(channels, stripes, num, height, width)
    for c in range(channels):
        for n in range(num):
            for s in range(stripes):
                one = naive_correlation(maps[n, c], query_parts[s, c], even)
                other = naive_correlation(query_map[c], parts[n, s, c], even)
                if pool:
                    one, other = naive_pool(one), naive_pool(other)
                torch.testing.assert_close(under_query[n, :, c, s], one, rtol=1e-5, atol=1e-5)
                torch.testing.assert_close(under_gallery[c, s, n], other, rtol=1e-5, atol=1e-5)


def test_an_odd_height_is_refused():
    with pytest.raises(ValueError, match="must be even, found 5"):
        GalleryCorrelation((5, 4), 3, pool=True)


@pytest.mark.parametrize(("levels", "most"), [((2, 3), 280), ((2, 3, 4), 400)])
def test_a_compare_on_a_gpu_starts_few_operations_and_waits_for_none(levels, most):
    """On the meta device, which computes nothing and takes the path of a GPU: 251 and 361."""
    compare = graphs_by_name(lively(levels=levels))["compare"]
    module = compare.module.to("meta")

    def started(num: int) -> int:
        kinds = [torch.float16 if spec.batched else torch.float32 for spec in compare.inputs]
        arrays = [
            torch.zeros(num if spec.batched else 1, *spec.shape, dtype=kind, device="meta")
            for spec, kind in zip(compare.inputs, kinds, strict=True)
        ]
        with torch.inference_mode():
            module(*arrays)  # makes the arrays for this size
            with counted() as counts, Waits() as waits:
                module(*arrays)
        assert waits.names == []
        return counts.total()

    assert started(64) == started(1250) < most
