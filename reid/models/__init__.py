"""The networks, by name: what builds one, which images it takes, which graphs test it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from reid.errors import ConfigError, nearest
from reid.models.csn.graphs import pair_stages
from reid.models.csn.network import Csn
from reid.models.graphs import Stage, vector_stages
from reid.models.msp_cnn.network import MspCnn
from reid.models.sisnet.graphs import scale_stages
from reid.models.sisnet.network import SisNet


@dataclass(frozen=True)
class NetworkKind:
    """One network.

    ``build`` takes the number of training identities and, by keyword, the sizes that the
    paper leaves open; ``size_problem`` says why (height, width) cannot be taken, or nothing;
    ``stages`` takes (network, input shape, normalise).
    """

    build: Callable[..., nn.Module]
    size_problem: Callable[[int, int], str]
    stages: Callable[[nn.Module, tuple[int, int, int], bool], tuple[Stage, ...]]


NETWORKS: dict[str, NetworkKind] = {
    "msp_cnn": NetworkKind(MspCnn, MspCnn.size_problem, vector_stages),
    # Two classes, whoever the identities are.
    "csn": NetworkKind(lambda _, **sizes: Csn(**sizes), Csn.size_problem, pair_stages),
    "sisnet": NetworkKind(SisNet, SisNet.size_problem, scale_stages),
}
"""Network name -> what it is; its objective is in ``reid.training.objectives``."""


def network_kind(name: str) -> NetworkKind:
    """Raises ConfigError naming the nearest network."""
    if name not in NETWORKS:
        raise ConfigError(
            f"no network {name!r}{nearest(name, NETWORKS)}; there are: {', '.join(NETWORKS)}"
        )
    return NETWORKS[name]


def build_network(name: str, num_identities: int, **sizes: Any) -> nn.Module:
    """A freshly initialised network. Raises ConfigError naming the nearest network."""
    return network_kind(name).build(num_identities, **sizes)


def input_size_problem(name: str, height: int, width: int) -> str:
    """Why the network ``name`` cannot take images of this size, or an empty string."""
    return network_kind(name).size_problem(height, width)


def stages_of(
    network: nn.Module, name: str, input_shape: tuple[int, int, int], normalise: bool = True
) -> tuple[Stage, ...]:
    """The graphs of a network called ``name``, in the order in which they run."""
    return network_kind(name).stages(network, input_shape, normalise)
