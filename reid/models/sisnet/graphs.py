"""SiSNet's graphs: one branch, the other, and both cascaded; each outputs one embedding per image.

"We can only use the either-scale feature": ``embed`` is for deployment. ``second`` and
``cascade`` are for the poster's Table 3, which measures what the other scale adds. All take the
same image of the first scale.
"""

from __future__ import annotations

import dataclasses
from typing import cast

import torch
from torch import Tensor, nn

from reid.models.embedding import L2Normalise
from reid.models.graphs import Graph, vector_graphs
from reid.models.sisnet.network import SisNet


class SecondBranch(nn.Module):
    """The second scale's embedding as a separate vector network."""

    def __init__(self, network: SisNet) -> None:
        super().__init__()
        self.network = network
        self.embedding_dim = network.embedding_dim

    def embed(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) of the first scale -> (N, C), not yet L2-normalised."""
        return self.network.embed(self.network.second_scale(x))


class Cascade(nn.Module):
    """Both scales' embeddings side by side, as a vector network.

    With ``normalise_branches`` [inferred] each is L2-normalised first, so that both have the
    same weight: a squared distance is then the mean of the two branches'.
    """

    def __init__(self, network: SisNet, normalise_branches: bool = True) -> None:
        super().__init__()
        self.network = network
        self.embedding_dim = 2 * network.embedding_dim
        self.l2_normalise = L2Normalise() if normalise_branches else nn.Identity()

    def embed(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) of the first scale -> (N, 2 C), not yet L2-normalised as a whole."""
        scales = (x, self.network.second_scale(x))
        return torch.cat([self.l2_normalise(self.network.embed(scale)) for scale in scales], 1)


def scale_graphs(
    network: nn.Module, input_shape: tuple[int, int, int], normalise: bool
) -> tuple[Graph, ...]:
    """``embed``, and on request ``second`` and ``cascade``: image -> ``embedding`` each."""
    sisnet = cast(SisNet, network)
    others = {"second": SecondBranch(sisnet), "cascade": Cascade(sisnet)}
    return vector_graphs(sisnet, input_shape, normalise) + tuple(
        dataclasses.replace(graph, name=name, on_request=True)
        for name, vectors in others.items()
        for graph in vector_graphs(vectors, input_shape, normalise)
    )
