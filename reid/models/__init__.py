"""The networks, by name."""

from __future__ import annotations

from torch import nn

from reid.errors import ConfigError, nearest
from reid.models.msp_cnn import MspCnn, msp_cnn_size_problem

NETWORKS: dict[str, type[nn.Module]] = {"msp_cnn": MspCnn}
"""Name -> class; its keyword arguments are the sizes that the paper leaves open."""


def build_network(name: str, num_identities: int, **sizes: float | str) -> nn.Module:
    """A freshly initialised network. Raises ConfigError naming the nearest network."""
    if name not in NETWORKS:
        raise ConfigError(
            f"no network {name!r}{nearest(name, NETWORKS)}; there are: {', '.join(NETWORKS)}"
        )
    return NETWORKS[name](num_identities, **sizes)


_SIZE_RULES = {"msp_cnn": msp_cnn_size_problem}


def input_size_problem(name: str, height: int, width: int) -> str:
    """Why the network ``name`` cannot take images of this size, or an empty string."""
    return _SIZE_RULES[name](height, width)
