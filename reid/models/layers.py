"""The building blocks of the DGD / MSP-CNN graph, in Caffe's terms.

Attribute names are the prototxt's layer names, so that a state dict, ONNX nodes and the
reference prototxt have the same names. Source of every setting: the layer
graph ``models/individually/*`` of the DGD code that MSP-CNN builds on.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

BN_EPS = 1e-5
"""Caffe's ``bn_param.eps`` in the reference graph."""

BN_MOMENTUM = 0.1
"""PyTorch's momentum for Caffe's 0.9: new = 0.9 * old + 0.1 * batch."""

CONV_BIAS_INIT = 0.2
"""``bias_filler`` of every convolution in the reference graph."""


def xavier_(weight: Tensor) -> Tensor:
    """Fill in place like Caffe's ``xavier`` filler: uniform in +-sqrt(3 / fan_in)."""
    fan_in = weight[0].numel()
    bound = math.sqrt(3.0 / fan_in)
    return nn.init.uniform_(weight, -bound, bound)


class ConvBnRelu(nn.Module):
    """Convolution with bias, batch normalisation, ReLU in place.

    The value after the ReLU is Caffe's blob ``<name>_bn``: (N, out, H', W').
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, pad: int = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, pad)
        self.bn = nn.BatchNorm2d(out_channels, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.relu = nn.ReLU(inplace=True)
        xavier_(self.conv.weight)
        bias = self.conv.bias
        if bias is not None:
            nn.init.constant_(bias, CONV_BIAS_INIT)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn(self.conv(x)))
        return out


class InceptionA(nn.Module):
    """Inception module of stride 1: four branches of ``width`` channels each.

    (N, in, H, W) -> (N, 4 * width, H, W), concatenated in the prototxt's order:
    1x1, 3x3, double 3x3, pool projection. The AVE pooling counts its padding, so a
    border window divides by nine as Caffe does.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv_1x1 = ConvBnRelu(in_channels, width, 1)
        self.conv_3x3_reduce = ConvBnRelu(in_channels, width, 1)
        self.conv_3x3 = ConvBnRelu(width, width, 3, pad=1)
        self.double_3x3_reduce = ConvBnRelu(in_channels, width, 1)
        self.double_3x3_1 = ConvBnRelu(width, width, 3, pad=1)
        self.double_3x3_2 = ConvBnRelu(width, width, 3, pad=1)
        self.pool = nn.AvgPool2d(3, 1, 1, ceil_mode=True, count_include_pad=True)
        self.pool_proj = ConvBnRelu(in_channels, width, 1)
        self.out_channels = 4 * width

    def forward(self, x: Tensor) -> Tensor:
        branches = (
            self.conv_1x1(x),
            self.conv_3x3(self.conv_3x3_reduce(x)),
            self.double_3x3_2(self.double_3x3_1(self.double_3x3_reduce(x))),
            self.pool_proj(self.pool(x)),
        )
        return torch.cat(branches, dim=1)


class HalvingMaxPool2d(nn.Module):
    """MAX pooling 3x3 / 2: (N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2)).

    That is the size of the 3x3 / 2 convolutions it is concatenated with. Caffe's rounding
    up gives it on an even side without padding; an odd side needs one. On 144x56 images
    this is the prototxt: no padding in 1b (72x28) and 2b (36x14), pad_w = 1 in 3b (18x7).
    """

    def forward(self, x: Tensor) -> Tensor:
        pad = (x.shape[2] % 2, x.shape[3] % 2)
        return F.max_pool2d(x, 3, 2, pad, ceil_mode=True)


class InceptionB(nn.Module):
    """Inception module of stride 2: two convolution branches and a plain MAX pool.

    (N, in, H, W) -> (N, 2 * width + in, ceil(H / 2), ceil(W / 2)), concatenated in the
    prototxt's order: 3x3, double 3x3, pool.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv_3x3_reduce = ConvBnRelu(in_channels, width, 1)
        self.conv_3x3 = ConvBnRelu(width, width, 3, stride=2, pad=1)
        self.double_3x3_reduce = ConvBnRelu(in_channels, width, 1)
        self.double_3x3_1 = ConvBnRelu(width, width, 3, pad=1)
        self.double_3x3_2 = ConvBnRelu(width, width, 3, stride=2, pad=1)
        self.pool = HalvingMaxPool2d()
        self.out_channels = 2 * width + in_channels

    def forward(self, x: Tensor) -> Tensor:
        branches = (
            self.conv_3x3(self.conv_3x3_reduce(x)),
            self.double_3x3_2(self.double_3x3_1(self.double_3x3_reduce(x))),
            self.pool(x),
        )
        return torch.cat(branches, dim=1)


def recomputed(layers: Callable[[Tensor], Tensor], x: Tensor, network: nn.Module) -> Tensor:
    """``layers(x)``, with intermediate maps recomputed in the backward pass instead of stored.

    The gradients are the same. The second pass does not update ``network``'s running statistics,
    which already include this batch.
    """

    @contextlib.contextmanager
    def copied_statistics() -> Iterator[None]:
        kept = [
            (module, name, buffer)
            for module in network.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            for name, buffer in module.named_buffers(recurse=False)
        ]
        for module, name, buffer in kept:
            setattr(module, name, buffer.clone())
        try:
            yield
        finally:
            for module, name, buffer in kept:
                setattr(module, name, buffer)

    out: Tensor = checkpoint(
        layers,
        x,
        use_reentrant=False,
        preserve_rng_state=False,  # dropout comes later
        context_fn=lambda: (contextlib.nullcontext(), copied_statistics()),
    )
    return out
