"""The graphs of a network: what runs after training and is exported, by name.

A vector network has one graph, ``embed``: from an image to its embedding. A network that scores
pairs has several, because an image is described once and compared many times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from reid.models.embedding import EmbeddingNetwork, VectorNetwork
from reid.types import ArraySpec


@dataclass(frozen=True)
class Graph:
    """One graph: ``module`` takes the input tensors in order and returns the outputs.

    ``exported`` is the module to export instead, if PyTorch runs the graph in a form that cannot be
    exported for any batch size. A graph ``on_request`` is not exported by default.
    """

    name: str
    module: nn.Module
    inputs: tuple[ArraySpec, ...]
    outputs: tuple[ArraySpec, ...]
    exported: nn.Module | None = None
    on_request: bool = False

    @property
    def to_export(self) -> nn.Module:
        """The module in the exported file."""
        return self.exported or self.module


def vector_graphs(
    network: nn.Module, input_shape: tuple[int, int, int], normalise: bool
) -> tuple[Graph, ...]:
    """The only graph of a vector network: image -> embedding, L2-normalised with ``normalise``."""
    dim = cast(VectorNetwork, network).embedding_dim
    return (
        Graph(
            name="embed",
            module=EmbeddingNetwork(network, normalise=normalise),
            inputs=(ArraySpec("data", input_shape),),
            outputs=(ArraySpec("embedding", (dim,)),),
        ),
    )
