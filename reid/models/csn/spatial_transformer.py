"""CSN's attention: one square part of each horizontal stripe of the feature maps.

Guo and Cheung, CVPR 2018, section 3.1 with Eq. 1 and Table 1; the fixed crop is C2 of
Table 4. A transform (2, 3) is Eq. 1's matrix ((s_w, r_w, t_w), (r_h, s_h, t_h)): it maps
coordinates of the part to those of the stripe, both from -1 to 1, width first.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid.models.csn.settings import DEFAULTS
from reid.models.layers import ConvBnRelu


def stripes(maps: Tensor, divide: bool = DEFAULTS.divide) -> Tensor:
    """(N, C, H, W) -> (N, 3, C, ceil(H / 2), W): upper, middle and bottom half.

    On 40 and on 20 rows these are the paper's (section 4.2), read as half-open: 0-20, 10-30,
    20-40 and 0-10, 5-15, 10-20. Without ``divide`` (C1 of Table 4) the one stripe is the
    whole map, (N, 1, C, H, W).
    """
    if not divide:
        return maps[:, None]
    height = maps.shape[2]
    rows = (height + 1) // 2
    tops = (0, (height - rows) // 2, height - rows)
    return torch.stack([maps[:, :, top : top + rows] for top in tops], 1)


def sample(
    maps: Tensor, transforms: Tensor, size: int, align_corners: bool = DEFAULTS.align_corners
) -> Tensor:
    """(M, C, h, w) maps, (M, 2, 3) transforms -> (M, C, size, size), bilinear.

    With ``align_corners`` -1 and 1 are the centres of the outermost pixels, as in the first
    spatial transformers' code (inferred); else their outer edges. Outside the map are zeros.
    The points are float32 under autocast too: in bfloat16 each would be off by up to 0.04 pixels.
    """
    kind, device = maps.dtype, maps.device
    if torch.is_autocast_enabled(device.type):
        with torch.autocast(device.type, enabled=False):
            parts = sample(maps.float(), transforms.float(), size, align_corners)
        return parts.to(kind)
    end = 1.0 if align_corners else 1.0 - 1.0 / size
    steps = torch.linspace(-end, end, size, device=device, dtype=kind)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)]).flatten(1)  # (3, size * size)
    grid = (transforms @ points).transpose(1, 2).reshape(-1, size, size, 2)
    return F.grid_sample(maps, grid, mode="bilinear", align_corners=align_corners)


class SpatialTransformer(nn.Module):
    """(M, in_channels, h, w) stripes -> (M, in_channels, size, size) parts, (M, 2, 3) transforms.

    The localisation net of Table 1 ("loc conv1-3"), a linear layer to six values and tanh.
    Training starts from a centred part of ``attention_init_scale`` times the stripe's height
    and width (inferred), in (0, 1).
    """

    def __init__(
        self,
        in_channels: int,
        size: int,
        attention_init_scale: float = DEFAULTS.attention_init_scale,
        align_corners: bool = DEFAULTS.align_corners,
    ) -> None:
        super().__init__()
        if not 0 < attention_init_scale < 1:
            raise ValueError(
                f"attention_init_scale must be in (0, 1), found {attention_init_scale}"
            )
        self.size = size
        self.align_corners = align_corners
        self.loc_conv1 = ConvBnRelu(in_channels, 32, 3, pad=1)
        self.loc_conv2 = ConvBnRelu(32, 32, 3, pad=1)
        self.loc_conv3 = ConvBnRelu(32, 128, 1)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.transform = nn.Linear(128, 6)
        nn.init.zeros_(self.transform.weight)
        scale = math.atanh(attention_init_scale)
        with torch.no_grad():
            self.transform.bias.copy_(torch.tensor([scale, 0.0, 0.0, 0.0, scale, 0.0]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        located = self.pool(self.loc_conv2(self.pool(self.loc_conv1(x))))
        located = torch.flatten(self.global_pool(self.loc_conv3(located)), 1)
        transforms = torch.tanh(self.transform(located)).view(-1, 2, 3)
        return sample(x, transforms, self.size, self.align_corners), transforms


class CentreCrop(nn.Module):
    """The centre pixels instead of the STN, with the transform that samples exactly these.

    (M, C, h, w) -> (M, C, size, size), (M, 2, 3); h and w are at least ``size``.
    """

    def __init__(self, size: int, align_corners: bool = DEFAULTS.align_corners) -> None:
        super().__init__()
        self.size = size
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        height, width = x.shape[2:]
        top, left = (height - self.size) // 2, (width - self.size) // 2
        (s_w, t_w), (s_h, t_h) = self._axis(left, width), self._axis(top, height)
        transform = torch.tensor([[s_w, 0, t_w], [0, s_h, t_h]], device=x.device, dtype=x.dtype)
        parts = x[:, :, top : top + self.size, left : left + self.size]
        return parts, transform.expand(x.shape[0], 2, 3)

    def _axis(self, start: int, length: int) -> tuple[float, float]:
        """Scale and translation of ``size`` pixels from ``start``, out of ``length``."""
        shared = 1 if self.align_corners else 0  # n pixels span n - 1 steps between centres
        span = max(1, length - shared)
        return (self.size - shared) / span, (2 * start + self.size - shared) / span - 1
