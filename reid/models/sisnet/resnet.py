"""ResNet-18, -34 and -50 without their classifier: an image in, its last feature map out.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, Table 1 and Figures 2
and 5. Names of parameters and the position of a bottleneck's stride are torchvision's, so that
its weights load: its stride is in the 3x3 convolution, the paper's in the first 1x1.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (N, in, H, W) -> (N, width, H / stride, W / stride)."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        out: Tensor = self.relu(residual + shortcut)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut: (N, in, H, W) -> (N, 4 * width, H / stride, W / stride)."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = _conv(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        out: Tensor = self.relu(residual + shortcut)
        return out


DEPTHS: dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}
"""Depth -> its block, and the number of blocks in each of the four layers (Table 1)."""


class ResNet(nn.Module):
    """(N, 3, H, W) -> (N, out_channels, H / 32, W / 32), or / 16 with ``last_stride`` 1.

    ``out_channels`` is 512 of depths 18 and 34, 2048 of depth 50; odd sizes are rounded up.
    ``last_stride`` is that of ``layer4``: 2 in the paper, 1 for a finer last map (Sun et al.,
    ECCV 2018). Raises ValueError for another depth or stride.
    """

    def __init__(self, depth: int, last_stride: int) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"depth must be one of {', '.join(map(str, DEPTHS))}; found {depth}")
        if last_stride not in (1, 2):
            raise ValueError(f"last_stride must be 1 or 2, found {last_stride}")
        block, (two, three, four, five) = DEPTHS[depth]
        grown = block.expansion
        self.out_channels = 512 * grown
        self.conv1 = _conv(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _layer(block, 64, 64, two, 1)
        self.layer2 = _layer(block, 64 * grown, 128, three, 2)
        self.layer3 = _layer(block, 128 * grown, 256, four, 2)
        self.layer4 = _layer(block, 256 * grown, 512, five, last_stride)

    def forward(self, x: Tensor) -> Tensor:
        """Sizes for depth 50 on 256x128 images."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (N, 64, 64, 32)
        x = self.layer1(x)  # (N, 256, 64, 32)
        x = self.layer2(x)  # (N, 512, 32, 16)
        x = self.layer3(x)  # (N, 1024, 16, 8)
        out: Tensor = self.layer4(x)  # (N, 2048, 8, 4); last_stride 1: 16x8
        return out


def _layer(
    block: type[BasicBlock | Bottleneck], in_channels: int, width: int, blocks: int, stride: int
) -> nn.Sequential:
    """Blocks of one width; the first has the stride."""
    rest = [block(width * block.expansion, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(block(in_channels, width, stride), *rest)


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """A projection shortcut if the size changes, else None (option B of the paper).

    ``layer4`` with stride 1 still changes the channels, so every depth has the same parameters.
    """
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


def _conv(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Without a bias, because batch normalisation follows; zero-padded to size / stride.

    Initialised as in He et al., ICCV 2015, for a ReLU (fan-out), as torchvision documents.
    """
    conv = nn.Conv2d(in_channels, out_channels, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
