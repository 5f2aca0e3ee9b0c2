"""Crop and normalisation as the first layers of a graph, for servers that only resize."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Pixels(nn.Module):
    """Resized pixels (N, 3, H, W), 0-255, in the order of ``mean`` -> the network's (N, 3, h, w).

    Cuts the ``size`` (h, w) at (top, left), then computes (x - mean) / std, in float32. It is a
    module so that its name appears in the graph.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        top: int,
        left: int,
        size: tuple[int, int],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.rows = slice(top, top + size[0])
        self.columns = slice(left, left + size[1])
        for name, values in (("mean", mean), ("std", std)):
            per_channel = torch.tensor(values, dtype=torch.float32).view(3, 1, 1)
            self.register_buffer(name, per_channel, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = (pixels[..., self.rows, self.columns] - self.mean) / self.std
        return out


class FromPixels(nn.Module):
    """A graph of resized pixels instead of normalised crops: ``pixels``, then ``network``."""

    def __init__(self, network: nn.Module, pixels: Pixels) -> None:
        super().__init__()
        self.network = network
        self.pixels = pixels

    def forward(self, *images: Tensor) -> Any:
        return self.network(*(self.pixels(image) for image in images))
