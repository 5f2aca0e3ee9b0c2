"""ResNet: published counts, torchvision's names, Table 1's sizes, and a forward pass by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid.models.sisnet.resnet import DEPTHS, ResNet

PUBLISHED = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032}
"""Parameters of torchvision's models, a classifier of 1000 classes included."""

NAMES_18 = """
conv1 bn1
layer1.0.conv1 layer1.0.bn1 layer1.0.conv2 layer1.0.bn2
layer1.1.conv1 layer1.1.bn1 layer1.1.conv2 layer1.1.bn2
layer2.0.conv1 layer2.0.bn1 layer2.0.conv2 layer2.0.bn2 layer2.0.downsample.0 layer2.0.downsample.1
layer2.1.conv1 layer2.1.bn1 layer2.1.conv2 layer2.1.bn2
layer3.0.conv1 layer3.0.bn1 layer3.0.conv2 layer3.0.bn2 layer3.0.downsample.0 layer3.0.downsample.1
layer3.1.conv1 layer3.1.bn1 layer3.1.conv2 layer3.1.bn2
layer4.0.conv1 layer4.0.bn1 layer4.0.conv2 layer4.0.bn2 layer4.0.downsample.0 layer4.0.downsample.1
layer4.1.conv1 layer4.1.bn1 layer4.1.conv2 layer4.1.bn2
"""
"""The layers of torchvision's resnet18 that hold arrays, without its fc."""

BLOCKS_50 = {"layer1": 3, "layer2": 4, "layer3": 6, "layer4": 3}
BLOCK_50 = "conv1 bn1 conv2 bn2 conv3 bn3"
PROJECTION = "downsample.0 downsample.1"


def on_meta(depth: int, last_stride: int = 2) -> ResNet:
    """Sizes without numbers."""
    with torch.device("meta"):
        return ResNet(depth, last_stride)


def arrays_of(layers: list[str]) -> list[str]:
    """A convolution has a weight, a batch norm five arrays."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return [
        f"{layer}.{array}"
        for layer in layers
        for array in (norm if "bn" in layer or layer.endswith("downsample.1") else ("weight",))
    ]


@pytest.mark.parametrize(("depth", "published"), PUBLISHED.items())
def test_parameters_are_the_published_ones(depth: int, published: int) -> None:
    network = on_meta(depth)
    classifier = 1000 * network.out_channels + 1000
    assert sum(p.numel() for p in network.parameters()) + classifier == published


def test_names_are_torchvisions() -> None:
    assert list(on_meta(18).state_dict()) == arrays_of(NAMES_18.split())
    layers = ["conv1", "bn1"]
    for layer, blocks in BLOCKS_50.items():
        for block in range(blocks):
            words = f"{BLOCK_50} {PROJECTION}" if block == 0 else BLOCK_50
            layers += [f"{layer}.{block}.{word}" for word in words.split()]
    assert list(on_meta(50).state_dict()) == arrays_of(layers)


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_layer_has_table_1s_size(depth: int) -> None:
    network = on_meta(depth)
    grown = 4 if depth == 50 else 1
    expected = {
        "conv1": (64, 112, 112),
        "layer1": (64 * grown, 56, 56),
        "layer2": (128 * grown, 28, 28),
        "layer3": (256 * grown, 14, 14),
        "layer4": (512 * grown, 7, 7),
    }
    found: dict[str, tuple[int, ...]] = {}
    for name in expected:
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: found.update({name: output.shape[1:]})
        )
    out = network(torch.empty(1, 3, 224, 224, device="meta"))
    assert found == expected
    assert out.shape[1] == network.out_channels


@pytest.mark.parametrize(
    ("size", "last_stride", "expected"),
    [
        ((256, 128), 2, (8, 4)),
        ((256, 128), 1, (16, 8)),
        ((192, 96), 1, (12, 6)),
        ((250, 120), 1, (16, 8)),
        ((1, 1), 2, (1, 1)),
    ],
)
def test_the_last_stride_doubles_the_last_map(
    size: tuple[int, int], last_stride: int, expected: tuple[int, int]
) -> None:
    for depth in DEPTHS:
        out = on_meta(depth, last_stride)(torch.empty(2, 3, *size, device="meta"))
        assert out.shape[2:] == expected


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_last_stride_changes_no_parameter(depth: int) -> None:
    one, two = (on_meta(depth, stride).state_dict() for stride in (1, 2))
    assert {name: x.shape for name, x in one.items()} == {n: x.shape for n, x in two.items()}


def test_a_bottleneck_halves_in_its_3x3_convolution_as_torchvisions() -> None:
    halving = [
        name
        for name, module in on_meta(50).named_modules()
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2)
    ]
    in_blocks = [f"layer{n}.0.{name}" for n in (2, 3, 4) for name in ("conv2", "downsample.0")]
    assert halving == ["conv1", *in_blocks]


def by_hand(arrays: dict[str, Tensor], x: Tensor, depth: int) -> Tensor:
    """Equation 2 of the paper, y = relu(F(x) + W x), block after block, from the arrays alone."""

    def normalised(x: Tensor, conv: str, bn: str, stride: int, pad: int) -> Tensor:
        x = F.conv2d(x, arrays[f"{conv}.weight"], None, stride, pad)
        mean, var, weight, bias = (
            arrays[f"{bn}.{name}"][:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    x = normalised(x, "conv1", "bn1", 2, 3).clamp(min=0)
    x = F.max_pool2d(x, 3, 2, 1)
    for layer, blocks in enumerate(DEPTHS[depth][1], 1):
        for block in range(blocks):
            at = f"layer{layer}.{block}"
            stride = 2 if layer > 1 and block == 0 else 1
            steps = [(1, 0, 1), (2, 1, stride), (3, 0, 1)]
            if depth < 50:
                steps = [(1, 1, stride), (2, 1, 1)]
            out = x
            for number, pad, step in steps:
                out = normalised(out, f"{at}.conv{number}", f"{at}.bn{number}", step, pad)
                out = out.clamp(min=0) if (number, pad, step) != steps[-1] else out
            if f"{at}.downsample.0.weight" in arrays:
                x = normalised(x, f"{at}.downsample.0", f"{at}.downsample.1", stride, 0)
            x = (out + x).clamp(min=0)
    return x


@pytest.mark.parametrize("depth", [18, 50])
def test_the_forward_pass_is_the_papers(depth: int) -> None:
    torch.manual_seed(0)
    network = ResNet(depth, 2).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    x = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            network(x), by_hand(network.state_dict(), x, depth), rtol=1e-3, atol=1e-3
        )


def test_weights_start_as_he_et_al_say() -> None:
    torch.manual_seed(0)
    network = ResNet(18, 2)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
            assert module.weight.abs().max().item() > 3 * math.sqrt(2 / fan_out)  # Gaussian
            assert module.bias is None
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = ResNet(18, last_stride=1).train()
    network(torch.randn(2, 3, 32, 16)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_another_depth_or_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="18, 34, 50; found 101"):
        ResNet(101, 2)
    with pytest.raises(ValueError, match="1 or 2, found 3"):
        ResNet(18, last_stride=3)
