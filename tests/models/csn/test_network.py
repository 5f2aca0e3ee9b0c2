"""The graph of CSN: Table 5's sizes, the order of its channels, and what it shares."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid.errors import ConfigError
from reid.models.csn import CSN
from reid.models.csn.correlation import FORMS, correlate
from reid.models.csn.network import Csn, CsnDescription, pair_score
from reid.models.csn.settings import CsnSettings

BASE: dict[str, Any] = {}
EXTENDED: dict[str, Any] = {"levels": (2, 3, 4)}
ABLATIONS: dict[str, dict[str, Any]] = {
    "cls": {"classification_only": True},
    "L2": {"levels": (2,)},
    "L3": {"levels": (3,)},
    "L4": {"levels": (4,)},
    "C1": {"levels": (2, 3, 4), "divide": False},
    "C2": {"levels": (2, 3, 4), "attention": "centre_crop"},
    "C4": EXTENDED,
    "base": BASE,
    "printed 10x4": {"extra_sim_pool": True},
    "conv3 pooled": {"levels": (2, 3, 4), "pool_conv3": "on"},
    "normalised": {"normalise_similarity": True},
}
"""The rows of Tables 3 and 4, and the readings that change the graph."""


def images(number: int, height: int = 160, width: int = 60) -> Tensor:
    return torch.randn(number, 3, height, width, generator=torch.Generator().manual_seed(0))


def network_of(**settings: Any) -> Csn:
    """In evaluation mode, with batch norms that do something and parts that differ."""
    torch.manual_seed(0)
    network = Csn(CsnSettings(**settings)).eval()
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
        if name.endswith("transform"):
            nn.init.normal_(module.weight, std=0.02)
    return network


def operations_of_a_pair(network: Csn) -> int:
    """Two for each product that is summed: convolutions, linear layers, correlations."""
    products = 0

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal products
        products += output.numel() * layer.weight[0].numel()  # type: ignore[index]

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        both = network.describe(images(2))
        first, second = both.rows(torch.tensor([0])), both.rows(torch.tensor([1]))
        network.head(network.similarity(first, second))
    for maps, parts in zip(both.maps, both.parts, strict=True):
        products += parts.numel() * math.prod(maps.shape[2:])  # of both directions
    return 2 * products


@pytest.mark.parametrize(
    ("settings", "parameters", "operations", "printed"),
    [
        (BASE, 562_162, 959_211_472, "0.96"),
        (EXTENDED, 813_944, 1_305_892_816, "1.31"),
        ({"ranking_sharing": "shared"}, 478_930, 959_211_472, "0.96"),
        ({"ranking_sharing": "separate"}, 645_394, 959_211_472, "0.96"),
        ({"extra_sim_pool": True}, 562_162, 947_192_272, "0.95"),
    ],
)
def test_parameters_and_operations_of_a_pair_are_table_5s(
    settings: dict[str, Any], parameters: int, operations: int, printed: str
) -> None:
    network = Csn(CsnSettings(**settings)).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    found = operations_of_a_pair(network)
    assert found == operations
    assert f"{found / 1e9:.2f}" == printed


@pytest.mark.parametrize(
    ("settings", "maps", "parts", "similarity"),
    [
        (BASE, [(40, 15), (20, 8)], [10, 5], (1152, 20, 8)),
        (EXTENDED, [(40, 15), (40, 15), (20, 8)], [10, 5, 3], (1728, 20, 8)),
        (ABLATIONS["L2"], [(40, 15)], [10], (576, 20, 8)),
        (ABLATIONS["L3"], [(20, 8)], [5], (576, 20, 8)),
        (ABLATIONS["L4"], [(20, 8)], [3], (576, 20, 8)),
        (ABLATIONS["printed 10x4"], [(40, 15), (20, 8)], [10, 5], (1152, 10, 4)),
        (ABLATIONS["conv3 pooled"], [(40, 15), (20, 8), (10, 4)], [10, 5, 3], (1728, 10, 4)),
    ],
)
def test_maps_parts_and_similarities_have_the_papers_sizes(
    settings: dict[str, Any],
    maps: list[tuple[int, int]],
    parts: list[int],
    similarity: tuple[int, ...],
) -> None:
    network = network_of(**settings)
    with torch.no_grad():
        described = network.describe(images(2))
        found = network.similarity(described, described)
    assert [tuple(x.shape) for x in described.maps] == [(2, 96, *size) for size in maps]
    assert [tuple(x.shape) for x in described.parts] == [(2, 3, 96, f, f) for f in parts]
    assert [tuple(x.shape) for x in described.thetas] == [(2, 3, 2, 3)] * len(parts)
    assert described.vector.shape == (2, 256)
    assert found.shape == (2, *similarity)


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_trains_all_that_it_has(name: str) -> None:
    torch.manual_seed(0)
    network = Csn(CsnSettings(**ABLATIONS[name])).train()
    first, second = torch.tensor([0, 0]), torch.tensor([1, 2])
    output = network(images(3, 80, 40), first, second)
    (output.logits.square().sum() + output.vector[0].sum()).backward()
    assert output.logits.shape == (2, 2)
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    for parameter_name in ("conv1.conv.weight", "classify.weight"):
        gradient = network.get_parameter(parameter_name).grad
        assert gradient is not None
        assert gradient.abs().max() > 0


def test_the_attention_learns_from_the_logits() -> None:
    network = network_of()
    network(images(2, 80, 40), torch.tensor([0]), torch.tensor([1])).logits[0, 1].backward()
    for attend in network.attend:
        for name, parameter in attend.named_parameters():
            if name.startswith(("transform", "loc_conv1.conv.weight")):
                assert parameter.grad is not None
                assert parameter.grad.abs().max() > 0, name


def test_batch_pairs_are_those_of_separately_described_images() -> None:
    network = network_of()
    x = images(3, 80, 40)
    first, second = torch.tensor([0, 2, 0, 1]), torch.tensor([1, 0, 2, 1])
    with torch.no_grad():
        together = network(x, first, second)
        described = [network.describe(image[None]) for image in x]
        for row, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            alone = network.head(network.similarity(described[a], described[b]))
            torch.testing.assert_close(together.logits[row : row + 1], alone, rtol=0, atol=1e-4)
    vectors = torch.cat([image.vector for image in described])
    torch.testing.assert_close(together.vector, vectors, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        BASE,
        EXTENDED,
        ABLATIONS["normalised"],
        ABLATIONS["conv3 pooled"],
        ABLATIONS["printed 10x4"],
    ],
)
def test_compared_images_have_the_logits_and_gradient_of_rows_by_convolution(
    settings: dict[str, Any],
) -> None:
    first, second = torch.arange(19) % 3, torch.arange(19) % 2
    weight = torch.randn(19, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def result(form: str) -> list[Tensor]:
        network = network_of(**{**settings, "correlation_form": form}).double()
        described = network.describe(images(3, 80, 40).double())
        if form == "conv":
            one, other = described.rows(first), described.rows(second)
            logits = network.head(network.similarity(one, other))
        else:
            logits = network.compare(described, first, second)
        torch.autograd.backward((logits * weight).sum())
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        return [logits.detach(), *gradients]

    for found, expected in zip(result("spectra"), result("conv"), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("form", ["auto", "conv", "spectra"])
def test_every_form_compares_by_index_as_by_rows(form: str) -> None:
    network = network_of(correlation_form=form)
    first, second = torch.tensor([0, 2, 0]), torch.tensor([1, 0, 2])
    with torch.no_grad():
        described = network.describe(images(3, 80, 40))
        expected = network.logits(described.rows(first), described.rows(second))
        found = network.compare(described, first, second)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_an_image_is_described_once_however_many_pairs_it_is_in() -> None:
    network = network_of()
    described: list[int] = []
    network.conv1.register_forward_hook(lambda _m, inputs, _o: described.append(len(inputs[0])))
    network(images(2, 80, 40), torch.zeros(5).long(), torch.ones(5).long())
    assert described == [2]


def test_the_head_does_not_care_about_the_order_of_pairs() -> None:
    network = network_of()
    similarity = torch.rand(4, 1152, 20, 8, generator=torch.Generator().manual_seed(1))
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        torch.testing.assert_close(network.head(similarity)[order], network.head(similarity[order]))


def random_description(seed: int, pairs: int = 2) -> CsnDescription:
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.randn(pairs, *shape, generator=generator)

    return CsnDescription(
        maps=(rand(96, 40, 15), rand(96, 20, 8)),
        parts=(rand(3, 96, 10, 10), rand(3, 96, 5, 5)),
        vector=rand(256),
        thetas=(rand(3, 2, 3), rand(3, 2, 3)),
    )


def test_similarities_run_by_level_direction_stripe_and_channel() -> None:
    network = network_of()
    first, second = random_description(0), random_description(1)
    found = network.similarity(first, second).view(2, 2, 2, 3, 96, 20, 8)
    for level in range(2):
        for direction, (one, other) in enumerate(((first, second), (second, first))):
            for stripe in range(3):
                part = other.parts[level][:, stripe : stripe + 1]
                expected = correlate(one.maps[level], part, "conv")
                if level == 0:
                    expected = nn.functional.max_pool2d(expected, 2, ceil_mode=True)
                torch.testing.assert_close(
                    found[:, level, direction, stripe], expected, rtol=0, atol=1e-3
                )


def test_swapping_the_images_swaps_the_directions() -> None:
    network = network_of()
    first, second = random_description(0), random_description(1)
    there = network.similarity(first, second).view(2, 2, 2, 288, 20, 8)
    back = network.similarity(second, first).view(2, 2, 2, 288, 20, 8)
    torch.testing.assert_close(back, there.flip(2))


def test_normalised_similarities_go_through_their_batch_norm_first() -> None:
    network = network_of(normalise_similarity=True)
    similarity = 100 * torch.rand(2, 1152, 20, 8)
    assert network.similarity_bn is not None
    with torch.no_grad():
        expected = network.decide(network.conv4(network.similarity_bn(similarity)))
        torch.testing.assert_close(network.head(similarity), expected)


def test_the_score_is_probability_plus_a_fifth_of_the_inverse_distance() -> None:
    logits = torch.tensor([[0.0, 0.0], [1.0, 3.0], [0.0, 2.0]])
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]])
    second = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [0.6, 0.8]])
    probability = math.exp(2) / (1 + math.exp(2))
    expected = [
        0.5 + 0.2 / (math.sqrt(2) + 1e-4),
        probability + 0.2 / (2 + 1e-4),
        probability + 0.2 / 1e-4,  # the same vector: the epsilon alone
    ]
    assert pair_score(logits, first, second).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_probability_has_a_weight_in_the_score() -> None:
    logits = torch.tensor([[0.0, 0.0], [1.0, 3.0]])
    vectors = torch.tensor([[1.0, 0.0]] * 2), torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    expected = [
        0.25 * 0.5 + 0.2 / (math.sqrt(2) + 1e-4),
        0.25 * math.exp(2) / (1 + math.exp(2)) + 0.2 / (2 + 1e-4),
    ]
    assert pair_score(logits, *vectors, 0.25).tolist() == pytest.approx(expected, rel=1e-5)


def test_a_network_that_only_classifies_scores_by_probability_alone() -> None:
    network = network_of(classification_only=True)
    with torch.no_grad():
        output = network(images(2, 80, 40), torch.tensor([0]), torch.tensor([1]))
    assert output.vector.shape == (2, 0)
    score = pair_score(output.logits, output.vector[:1], output.vector[1:])
    torch.testing.assert_close(score, output.logits.softmax(1)[:, 1])


@pytest.mark.parametrize("size", [(160, 60), (73, 37), (128, 64), (256, 128), (161, 59)])
@pytest.mark.parametrize("name", ["C2", "conv3 pooled"])
def test_sizes_without_a_problem_pass(size: tuple[int, int], name: str) -> None:
    assert CSN.size_problem(*size) == ""
    network = network_of(**{**ABLATIONS[name], "attention": "centre_crop"})
    with torch.no_grad():
        output = network(images(2, *size), torch.tensor([0]), torch.tensor([1]))
    assert output.logits.isfinite().all()


@pytest.mark.parametrize("size", [(72, 60), (160, 36)])
def test_smaller_images_have_a_problem_for_a_reason(size: tuple[int, int]) -> None:
    assert (
        CSN.size_problem(*size) == f"csn takes images of at least 73x37, found {size[0]}x{size[1]}"
    )
    network = network_of(attention="centre_crop")
    with torch.no_grad():
        stripe = network.describe(images(1, *size)).parts[0].shape[3:]
    assert min(stripe) < 10  # no room for the paper's part


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"probability_weight": 1.5}, r"probability_weight must be from 0 to 1, found 1\.5"),
        (
            {"probability_weight": 0.5, "classification_only": True},
            r"probability_weight .*network.classification_only",
        ),
        ({"levels": ()}, r"levels must be some of 2, 3, 4 in this order, found \[\]"),
        ({"levels": (3, 2)}, "in this order"),
        ({"levels": (1, 2)}, "some of 2, 3, 4"),
        ({"attention": "crop"}, "one of stn, centre_crop; found 'crop'"),
        ({"pool_conv3": "yes"}, "one of auto, on, off; found 'yes'"),
        ({"ranking_sharing": "all"}, "found 'all'"),
    ],
)
def test_settings_that_are_none_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CsnSettings(**settings)


@pytest.mark.parametrize("form", FORMS)
def test_channels_last_gives_the_same_logits_and_gradient(form: str) -> None:
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        network = network_of(correlation_form=form).to(memory_format=layout)  # type: ignore[call-overload]
        x = images(2, 80, 40).contiguous(memory_format=layout)
        logits = network(x, torch.tensor([0]), torch.tensor([1])).logits
        logits[0, 1].backward()
        gradient = network.get_parameter("conv1.conv.weight").grad
        assert gradient is not None
        results.append((logits.detach(), gradient.contiguous()))
    (plain, plain_gradient), (last, last_gradient) = results
    torch.testing.assert_close(last, plain, rtol=1e-3, atol=1e-4)
    # Of all together: where two places of a map tie but for rounding, the gradient takes either.
    off = torch.linalg.vector_norm(last_gradient - plain_gradient)
    assert off <= 5e-3 * torch.linalg.vector_norm(plain_gradient)


def test_mixed_precision_keeps_the_vector_in_float32() -> None:
    network = network_of()
    pair = torch.tensor([0]), torch.tensor([1])
    with torch.no_grad():
        plain = network(images(2), *pair)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network(images(2), *pair)
    assert mixed.vector.dtype == torch.float32
    torch.testing.assert_close(mixed.vector, plain.vector, rtol=0, atol=0.02)
    torch.testing.assert_close(mixed.logits.float(), plain.logits, rtol=0.02, atol=0.02)
