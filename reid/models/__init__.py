"""The networks, by name. Importing this loads no torch; a network's modules are loaded on use.

Each network is a ``Network`` in its own package. Networks of other packages are added by
``add_network``, or by an entry point of the group ``reid.networks`` in that package's
``pyproject.toml``:

    [project.entry-points."reid.networks"]
    my_net = "my_package.networks:MY_NET"
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from reid.errors import ConfigError, nearest
from reid.models.csn import CSN
from reid.models.description import Network, NetworkSettings, part
from reid.models.msp_cnn import MSP_CNN
from reid.models.sisnet import SISNET

if TYPE_CHECKING:
    from torch import nn

    from reid.models.graphs import Graph

NETWORKS: dict[str, Network] = {network.name: network for network in (MSP_CNN, CSN, SISNET)}
"""Network name -> its description. The first is the default."""

ENTRY_POINTS = "reid.networks"
"""The group of other packages' networks."""


def add_network(network: Network) -> Network:
    """Register your own network by its name, in this process.

    Raises ConfigError if another network has the name.
    """
    if not network.name:
        raise ConfigError(
            f"{network.settings.__name__} has no network name; give its field 'name' a default"
        )
    known = NETWORKS.setdefault(network.name, network)
    if known != network:
        raise ConfigError(f"a network {network.name!r} already exists; choose another name")
    return network


def network_named(name: str) -> Network:
    """The network with this name. Raises ConfigError for an unknown one, naming the nearest.

    >>> network_named("csn").losses
    ('classification', 'contrastive', 'transform_prior')
    """
    if name in NETWORKS:
        return NETWORKS[name]
    points = {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}
    if name not in points:
        known = (*NETWORKS, *points)
        raise ConfigError(
            f"unknown network {name!r}{nearest(name, known)}; networks: {', '.join(known)}"
        )
    return add_network(_loaded(points[name]))


def _loaded(point: metadata.EntryPoint) -> Network:
    """The network of an entry point. Raises ConfigError if it is not one with that name."""
    where = f"the entry point {point.name} = {point.value!r} of {ENTRY_POINTS}"
    try:
        network = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where} cannot be loaded: {error}") from None
    if not isinstance(network, Network) or network.name != point.name:
        raise ConfigError(f"{where} must point to a reid.models.description.Network with that name")
    return network


def default_settings() -> NetworkSettings:
    """The network of a configuration without a network name."""
    return next(iter(NETWORKS.values())).settings()


def build_network(num_identities: int, settings: NetworkSettings) -> nn.Module:
    """A newly initialised network. Raises ConfigError for an unknown name."""
    network: nn.Module = part(network_named(settings.name).builder)(num_identities, settings)
    return network


def graphs_of(
    network: nn.Module, name: str, input_shape: tuple[int, int, int], normalise: bool = True
) -> tuple[Graph, ...]:
    """The graphs of a network called ``name``, in the order in which they run."""
    graphs: tuple[Graph, ...] = part(network_named(name).graphs)(network, input_shape, normalise)
    return graphs
