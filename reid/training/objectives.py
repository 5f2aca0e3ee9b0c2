"""Checking that the stages of a configuration can be trained, and with which losses.

A network's objective is in its own package: it takes the network, a batch and the names of the
active losses and returns their values, unweighted, by name. The training loop weights and adds
them.
"""

from __future__ import annotations

from collections.abc import Collection

from reid.config.settings import StageConfig
from reid.errors import ConfigError, nearest
from reid.models import network_named
from reid.models.description import NetworkSettings, Objective, part


def objective_of(
    network: NetworkSettings, stages: Collection[StageConfig]
) -> tuple[Objective, tuple[str, ...]]:
    """The objective of a network and all loss names that the stages use, in its order.

    Raises ConfigError without a stage, for an unknown loss, a loss with nothing to compare under
    the network's settings, a negative weight, or a stage without a loss.
    """
    description = network_named(network.name)
    known = description.losses
    if not stages:
        raise ConfigError("nothing to train: the configuration has no [[stages]]; add one")
    for stage in stages:
        for name, weight in stage.loss_weights.items():
            if name not in known:
                raise ConfigError(
                    f"stage {stage.name!r}: {network.name} has no loss {name!r}"
                    f"{nearest(name, known)}; losses: {', '.join(known)}"
                )
            if weight < 0:
                raise ConfigError(f"stage {stage.name!r}: the weight of {name} must be 0 or above")
            if weight > 0 and name in network.losses_left_out:
                raise ConfigError(
                    f"stage {stage.name!r}: with network.{network.losses_left_out[name]} the loss "
                    f"{name} has nothing to compare; set stages.N.loss_weights.{name}=0 "
                    "for each stage N"
                )
        if not active_losses(stage):
            raise ConfigError(f"stage {stage.name!r} has no loss with a weight above 0")
    used = {name for stage in stages for name in active_losses(stage)}
    objective: Objective = part(description.objective)
    return objective, tuple(name for name in known if name in used)


def active_losses(stage: StageConfig) -> tuple[str, ...]:
    """The losses with a weight above 0."""
    return tuple(name for name, weight in stage.loss_weights.items() if weight > 0)
