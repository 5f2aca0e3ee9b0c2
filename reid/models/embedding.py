"""The graph of a vector network: one L2-normalised embedding per image."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

NORM_EPS = 1e-12
"""The smallest divisor, so that a zero embedding stays zero instead of becoming NaN."""


class VectorNetwork(Protocol):
    """A network with one embedding per image."""

    embedding_dim: int

    def embed(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, D), not yet L2-normalised."""
        ...


class L2Normalise(nn.Module):
    """(N, D) of any precision -> (N, D) float32, rows of length 1; a zero row stays zero.

    It computes in float32 even if the network uses float16: the squares of 256 entries overflow
    float16 from entries of 16 on, and the direction would lose precision to the length. It is a
    module so that its name appears in the graph.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        rows: Tensor = x / length.clamp_min(NORM_EPS)
        return rows


class EmbeddingNetwork(nn.Module):
    """``network.embed``, then L2 normalisation per row unless ``normalise`` is off.

    (N, 3, H, W) float32 -> (N, D) float32, even if the network's parameters are
    float16: the input is converted first. Raises TypeError for a network
    without ``embed``.
    """

    def __init__(self, network: nn.Module, normalise: bool = True) -> None:
        super().__init__()
        if not callable(getattr(network, "embed", None)):
            raise TypeError(f"{type(network).__name__} has no embed(x): not a vector network")
        self.network = network
        self.l2_normalise = L2Normalise() if normalise else None

    def forward(self, data: Tensor) -> Tensor:
        weight = next(self.network.parameters(), None)
        if weight is not None and weight.dtype == torch.float16:
            data = data.half()
        embedding = cast(VectorNetwork, self.network).embed(data)
        return embedding.float() if self.l2_normalise is None else self.l2_normalise(embedding)
