"""The input of an objective: each image once, and pairs as indices into the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """One training batch of N images, A anchors and P pairs."""

    images: Tensor
    """(N, 3, H, W) float32, normalised; on its way to a GPU (N, H, W, 3) uint8 BGR."""
    labels: Tensor
    """(N,) int64: training class 0..M-1."""
    cameras: Tensor
    """(N,) int64: the cameras' ids."""
    anchors: Tensor
    """(A,) int64 indices of the anchors, which the softmax loss uses."""
    pair_first: Tensor
    """(P,) int64 indices into the images."""
    pair_second: Tensor
    """(P,) int64 indices into the images."""
    pair_same: Tensor
    """(P,) bool: whether the pair is positive."""
    names: tuple[str, ...]
    """(N,) image paths, for messages."""

    def to(self, device: torch.device | str) -> Batch:
        """The batch on ``device``; the copy is asynchronous if its memory is pinned."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, for asynchronous copies to a GPU."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            images=change(self.images),
            labels=change(self.labels),
            cameras=change(self.cameras),
            anchors=change(self.anchors),
            pair_first=change(self.pair_first),
            pair_second=change(self.pair_second),
            pair_same=change(self.pair_same),
            names=self.names,
        )
