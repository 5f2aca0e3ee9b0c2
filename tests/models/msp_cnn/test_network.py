"""The graph of MSP-CNN: parameters, blob sizes, fillers, the embedding's place."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from reid.errors import ConfigError
from reid.models.msp_cnn.network import MspCnn
from reid.models.msp_cnn.settings import MspCnnSettings

BLOBS = {
    "conv1": (32, 144, 56),
    "conv2": (32, 144, 56),
    "conv3": (32, 144, 56),
    "pool1": (32, 72, 28),
    "inception_1a": (256, 72, 28),
    "inception_1b": (384, 36, 14),
    "inception_2a": (512, 36, 14),
    "inception_2b": (768, 18, 7),
    "inception_3a": (1024, 18, 7),
    "inception_3b": (1536, 9, 4),
    "global_pool": (1536, 1, 1),
    "fc7": (256,),
    "fc7_bn": (256,),
    "fc7_relu": (256,),
    "fc7_dropout": (256,),
    "fc8": (751,),
}
"""The sizes of the reference graph at 3x144x56, in its order; 751 is Market-1501's."""

WIDTHS_A = {"inception_1a": 64, "inception_2a": 128, "inception_3a": 256}
WIDTHS_B = {"inception_1b": 64, "inception_2b": 128, "inception_3b": 256}
POOLS = {"inception_1b": 256, "inception_2b": 512, "inception_3b": 1024}
"""Channels that the stride-2 modules' pools pass through."""


@pytest.fixture(scope="module")
def network() -> MspCnn:
    torch.manual_seed(0)
    return MspCnn(751).eval()


@pytest.fixture(scope="module")
def shapes(network: MspCnn) -> dict[str, tuple[int, ...]]:
    """The output shape of every module for one full-size image, in the order they ran."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[name] = tuple(output.shape[1:])

        return network.get_submodule(name).register_forward_hook(hook)

    handles = [note(name) for name, _ in network.named_modules() if name]
    with torch.no_grad():
        network(torch.rand(1, 3, 144, 56))
    for handle in handles:
        handle.remove()
    return found


def test_parameters_are_the_reference_graphs(network: MspCnn) -> None:
    counts = {name: parameter.numel() for name, parameter in network.named_parameters()}
    without_fc8 = sum(n for name, n in counts.items() if not name.startswith("fc8"))
    backbone = sum(n for name, n in counts.items() if not name.startswith("fc"))
    assert without_fc8 == 6_753_920
    assert backbone == 6_359_936


def test_every_blob_has_the_tables_size(shapes: dict[str, tuple[int, ...]]) -> None:
    assert [name for name in shapes if "." not in name] == list(BLOBS)
    assert {name: shapes[name] for name in BLOBS} == BLOBS


def test_every_branch_has_the_tables_width(shapes: dict[str, tuple[int, ...]]) -> None:
    for block, width in WIDTHS_A.items():
        for branch in (
            "conv_1x1",
            "conv_3x3_reduce",
            "conv_3x3",
            "double_3x3_reduce",
            "double_3x3_1",
            "double_3x3_2",
            "pool_proj",
        ):
            assert shapes[f"{block}.{branch}"] == (width, *BLOBS[block][1:])
    for block, width in WIDTHS_B.items():
        for branch in ("conv_3x3", "double_3x3_2"):
            assert shapes[f"{block}.{branch}"] == (width, *BLOBS[block][1:])
        assert shapes[f"{block}.pool"] == (POOLS[block], *BLOBS[block][1:])


def convolutions(network: MspCnn) -> Iterator[nn.Conv2d]:
    yield from (module for module in network.modules() if isinstance(module, nn.Conv2d))


def test_weights_start_uniform_within_xaviers_bound(network: MspCnn) -> None:
    layers: list[nn.Conv2d | nn.Linear] = [*convolutions(network), network.fc7]
    assert len(layers) == 3 + 3 * 7 + 3 * 5 + 1
    for layer in layers:
        bound = math.sqrt(3 / layer.weight[0].numel())
        largest = layer.weight.abs().max().item()
        assert 0.98 * bound < largest <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_biases_and_normalisation_start_as_the_fillers_say(network: MspCnn) -> None:
    for layer in convolutions(network):
        assert layer.bias is not None
        assert layer.bias.eq(0.2).all()
    assert network.fc7.bias.eq(0).all()
    assert network.fc8.bias.eq(0).all()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()
            assert (module.eps, module.momentum) == (1e-5, 0.1)


def test_fc8_starts_gaussian(network: MspCnn) -> None:
    assert network.fc8.weight.std().item() == pytest.approx(0.001, rel=0.01)
    assert network.fc8.weight.mean().item() == pytest.approx(0, abs=1e-5)
    assert network.fc8.weight.abs().max().item() > 0.003  # a uniform one ends at 0.0017


def test_dropout_is_on_fc7_alone_and_one_half(network: MspCnn) -> None:
    dropouts = [(n, m.p) for n, m in network.named_modules() if isinstance(m, nn.Dropout)]
    assert dropouts == [("fc7_dropout", 0.5)]


def test_global_pool_averages_the_whole_map(network: MspCnn) -> None:
    x = torch.rand(2, 5, 9, 4)
    caffes = nn.functional.avg_pool2d(x, (9, 4), stride=1)
    torch.testing.assert_close(network.global_pool(x), caffes)
    smaller = x[:, :, :5, :2]
    torch.testing.assert_close(network.global_pool(smaller).flatten(1), smaller.mean((2, 3)))


@pytest.mark.parametrize("size", [(144, 56), (72, 28), (96, 40), (108, 42), (33, 17)])
def test_smaller_images_pass_too(network: MspCnn, size: tuple[int, int]) -> None:
    with torch.no_grad():
        output = network(torch.rand(2, 3, *size))
    assert output.pool1.shape == (2, 32, math.ceil(size[0] / 2), math.ceil(size[1] / 2))
    assert output.fc7.shape == (2, 256)
    assert output.fc8.shape == (2, 751)


def test_embedding_is_taken_before_or_after_the_relu(network: MspCnn) -> None:
    x = torch.rand(2, 3, 72, 28)
    relu = MspCnn(751, MspCnnSettings(embed_at="relu")).eval()
    relu.load_state_dict(network.state_dict())
    with torch.no_grad():
        before, after = network.embed(x), relu.embed(x)
        outputs = network(x), relu(x)
    assert before.lt(0).any()
    torch.testing.assert_close(after, before.clamp(min=0))
    torch.testing.assert_close(outputs[0].fc7, before)
    torch.testing.assert_close(outputs[1].fc7, after)
    torch.testing.assert_close(outputs[0].fc8, outputs[1].fc8)  # always behind the ReLU


def test_fc8_sees_fc7_behind_its_relu(network: MspCnn) -> None:
    x = torch.rand(2, 3, 72, 28)
    with torch.no_grad():
        output = network(x)
        expected = network.fc8(output.fc7.clamp(min=0))
    torch.testing.assert_close(output.fc8, expected)


def test_another_place_of_the_embedding_is_refused() -> None:
    with pytest.raises(ConfigError, match="bn or relu, found 'fc8'"):
        MspCnnSettings(embed_at="fc8")


def kept_bytes(network: MspCnn, images: Tensor) -> int:
    """Bytes of the maps that wait for the backward pass, parameters left out."""
    own = {parameter.data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(images)
    return sum(kept.values())


def test_recomputing_the_low_level_changes_memory_and_nothing_else() -> None:
    images = torch.randn(3, 3, 64, 24, generator=torch.Generator().manual_seed(0))
    networks = []
    for recompute in (False, True):
        torch.manual_seed(1)
        networks.append(
            MspCnn(5, MspCnnSettings(dropout_ratio=0.0, recompute_low_level=recompute)).train()
        )
    for network in networks:
        output = network(images)
        torch.autograd.backward(output.fc8.square().sum() + output.pool1.square().sum())
    plain, recomputing = networks
    for (name, kept), again in zip(plain.named_parameters(), recomputing.parameters(), strict=True):
        assert kept.grad is not None, name
        assert again.grad is not None, name
        assert torch.equal(kept.grad, again.grad), name
    for (name, kept), again in zip(plain.named_buffers(), recomputing.buffers(), strict=True):
        assert torch.equal(kept, again), name
    assert kept_bytes(recomputing, images) < 0.85 * kept_bytes(plain, images)
