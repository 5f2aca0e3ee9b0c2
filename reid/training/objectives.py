"""Whether the stages of a configuration can be trained, and with which losses.

What a network is trained for is its objective, in its own package: it takes the network, a batch
and the losses that are switched on and returns those, unweighted, by name; the training loop
weights and adds them in one visible line.
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

    Raises ConfigError for no stage, a loss that the objective does not know or that the network's
    settings leave nothing to compare, a negative weight, or a stage without any.
    """
    description = network_named(network.name)
    known = description.losses
    if not stages:
        raise ConfigError("there is nothing to train: the configuration has no [[stages]]")
    for stage in stages:
        for name, weight in stage.loss_weights.items():
            if name not in known:
                raise ConfigError(
                    f"stage {stage.name!r}: {network.name} has no loss {name!r}"
                    f"{nearest(name, known)}; there are: {', '.join(known)}"
                )
            if weight < 0:
                raise ConfigError(f"stage {stage.name!r}: the weight of {name} is below 0")
            if weight > 0 and name in network.losses_left_out:
                raise ConfigError(
                    f"stage {stage.name!r}: network.{network.losses_left_out[name]} leaves {name} "
                    f"nothing to compare; set stages.N.loss_weights.{name}=0 for each stage N"
                )
        if not active_losses(stage):
            raise ConfigError(f"stage {stage.name!r} has no loss with a weight above 0")
    used = {name for stage in stages for name in active_losses(stage)}
    objective: Objective = part(description.objective)
    return objective, tuple(name for name in known if name in used)


def active_losses(stage: StageConfig) -> tuple[str, ...]:
    """The losses with a weight above 0."""
    return tuple(name for name, weight in stage.loss_weights.items() if weight > 0)
