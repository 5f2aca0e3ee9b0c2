"""The test-stage graphs of each network: what is exported, under which names and shapes.

A vector network has one graph, ``embed``: an image goes in, its embedding comes out. A
network that scores pairs has one graph per stage, because an image is described once
and compared many times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from reid.errors import BuildError, nearest
from reid.manifest import Manifest
from reid.models.embedding import EmbeddingNetwork

BATCH = "batch"
"""Name of the dynamic first axis of every input and output."""


@dataclass(frozen=True)
class ExportGraph:
    """One graph to export. Inputs and outputs are float32, their first axis is dynamic.

    ``input_shapes`` are without the batch axis and in the order of ``input_names``, which
    are also the names of the arguments of ``module.forward``.
    """

    stage: str
    module: nn.Module
    input_names: tuple[str, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    output_names: tuple[str, ...]


def embed_graph(network: nn.Module, manifest: Manifest) -> tuple[ExportGraph, ...]:
    """The one graph of a vector network: image -> embedding, L2-normalised if it says so."""
    return (
        ExportGraph(
            stage="embed",
            module=EmbeddingNetwork(network, normalise=manifest.normalised),
            input_names=("data",),
            input_shapes=(manifest.preprocess.input_shape,),
            output_names=("embedding",),
        ),
    )


GRAPHS: dict[str, Callable[[nn.Module, Manifest], tuple[ExportGraph, ...]]] = {
    "msp_cnn": embed_graph,
}
"""Network name, as in the manifest -> its graphs, in the order in which they run."""


def graphs_of(network: nn.Module, manifest: Manifest) -> tuple[ExportGraph, ...]:
    """The graphs of ``network``. Raises BuildError for a network that has none."""
    graphs = GRAPHS.get(manifest.network)
    if graphs is None:
        raise BuildError(
            f"no export graph for the network {manifest.network!r}"
            f"{nearest(manifest.network, GRAPHS)}; known: {', '.join(GRAPHS)}"
        )
    return graphs(network, manifest)
