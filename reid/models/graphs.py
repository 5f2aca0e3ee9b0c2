"""The test-stage graphs of a network: what runs, and is exported, under which names.

A vector network has one graph, ``embed``: an image goes in, its embedding comes out. A
network that scores pairs has one graph per stage, because an image is described once and
compared many times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from reid.models.embedding import EmbeddingNetwork, VectorNetwork
from reid.types import ArraySpec


@dataclass(frozen=True)
class Stage:
    """One graph: ``module`` takes the inputs' tensors in order and gives the outputs'.

    ``graph`` is the module to export in its place, where PyTorch runs the stage in a form that
    a graph of any batch size cannot have. A stage ``on_request`` is exported where asked for.
    """

    name: str
    module: nn.Module
    inputs: tuple[ArraySpec, ...]
    outputs: tuple[ArraySpec, ...]
    graph: nn.Module | None = None
    on_request: bool = False


def vector_stages(
    network: nn.Module, input_shape: tuple[int, int, int], normalise: bool
) -> tuple[Stage, ...]:
    """The one graph of a vector network: image -> embedding, L2-normalised if asked for."""
    dim = cast(VectorNetwork, network).embedding_dim
    return (
        Stage(
            name="embed",
            module=EmbeddingNetwork(network, normalise=normalise),
            inputs=(ArraySpec("data", input_shape),),
            outputs=(ArraySpec("embedding", (dim,)),),
        ),
    )
