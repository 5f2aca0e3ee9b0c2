"""The mean with the mirror image as part of a graph, for servers that only run it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from reid.errors import ConfigError
from reid.model_file.manifest import Manifest
from reid.models.embedding import L2Normalise
from reid.models.graphs import Graph

FORMS = 2
"""Images of one crop: itself and its mirror image."""


class BothForms(nn.Module):
    """(N, 3, H, W) -> (2 N, 3, H, W): the crops, then their mirror images."""

    def forward(self, crops: Tensor) -> Tensor:
        return torch.cat([crops, crops.flip(-1)])


class MeanOfForms(nn.Module):
    """(2 N, D) vectors of both forms -> (N, D) float32: their mean, of length 1.

    Each form has the same weight, so it is brought to length 1 before. The parts are modules so
    that their names appear in the graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.l2_normalise = L2Normalise()

    def forward(self, vectors: Tensor) -> Tensor:
        each: Tensor = self.l2_normalise(vectors)
        mean: Tensor = self.l2_normalise(each.view(FORMS, -1, vectors.shape[1]).mean(0))
        return mean


class Mirrored(nn.Module):
    """A vector graph that describes both forms at once and returns the mean of their vectors.

    The graph takes as many crops as before, and the network within runs on twice as many.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.both_forms = BothForms()
        self.mean_of_forms = MeanOfForms()

    def forward(self, data: Tensor) -> Tensor:
        mean: Tensor = self.mean_of_forms(self.network(self.both_forms(data)))
        return mean


def with_mirror(graph: Graph, manifest: Manifest) -> tuple[Graph, Manifest]:
    """A graph that averages the mirror image in, and its manifest.

    Raises what ``refuse_pair_graph`` raises.
    """
    refuse_pair_graph(graph, manifest)
    module = Mirrored(graph.to_export)
    return dataclasses.replace(graph, module=module, exported=None), manifest.with_mirror()


def refuse_pair_graph(graph: Graph, manifest: Manifest) -> None:
    """Raise ConfigError for a graph that does not give one vector for each image."""
    vectors = len(graph.outputs) == 1 and len(graph.outputs[0].shape) == 1
    if len(graph.inputs) != 1 or not vectors:
        raise ConfigError(
            f"--mirror is for networks that give a vector for each image; {manifest.network}'s "
            f"graph {graph.name!r} is of a network that compares pairs: leave --mirror out"
        )
