"""What a new run begins with: the weights of another run, of a file, or random ones.

The arrays that were loaded keep their names in the checkpoint: they may learn at a rate of their
own (``optimizer.loaded_lr_mult``) or stay as they are in a stage (``freeze_loaded``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from reid.config.settings import TrainConfig
from reid.errors import CheckpointError, ConfigError, few_of
from reid.model_file.opening import CHECKPOINT_NAME
from reid.models import network_named
from reid.models.description import Backbone, part
from reid.training.checkpoint import (
    FORMAT,
    Checkpoint,
    build_configured_network,
    checkpoint_from_body,
)
from reid.training.pretrained import (
    Fit,
    load_arrays,
    load_pretrained,
    read_body,
    state_dict_from_body,
)

_ABSENT = "name a run folder, its checkpoint or a file of weights"

_SETTINGS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Start:
    """The names of the arrays that were loaded, in the network's state, and lines about them."""

    names: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()


class LoadedWeights:
    """The part of a network that was loaded, of which a stage may keep all as it is.

    >>> import torch, reid.training.start
    >>> network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))
    >>> loaded = reid.training.start.LoadedWeights(network, {"0.weight", "0.bias"})
    >>> loaded.freeze(True)
    >>> [one.requires_grad for one in network.parameters()], loaded.is_all
    ([False, False, True, True], False)
    """

    def __init__(self, network: nn.Module, names: Collection[str]) -> None:
        self.names = frozenset(names)
        learning = {name: one for name, one in network.named_parameters() if one.requires_grad}
        self._parameters = [one for name, one in learning.items() if name in self.names]
        self._norms = [
            module
            for name, module in network.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            and f"{name}.running_mean".lstrip(".") in self.names
        ]
        self.is_all = self.names.issuperset(learning)

    def freeze(self, frozen: bool) -> None:
        """Keep the loaded weights and statistics as they are, or let them learn again.

        A frozen parameter has no gradient; a frozen batch norm is in evaluation mode.
        """
        for parameter in self._parameters:
            parameter.requires_grad_(not frozen)
        for norm in self._norms:
            norm.train(not frozen)


def begin(config: TrainConfig, network: nn.Module, num_identities: int) -> Start:
    """Load the weights that a new run begins with into the network, if there are any.

    Raises ConfigError for two files at once, CheckpointError for one that does not fit or cannot be
    read without running code.
    """
    backbone = _backbone(config, network)
    if config.run.start_from:
        if backbone is not None and backbone.file:
            raise ConfigError(
                f"run.start_from ({config.run.start_from}) has weights for the whole network, "
                f"network.pretrained ({backbone.file}) for a part of it; leave one of them empty"
            )
        return _whole(config, network, num_identities)
    if backbone is None:
        return Start()
    if not backbone.file:
        return Start(words=(backbone.how_to_obtain,))
    found = load_pretrained(backbone.module, Path(backbone.file))
    place = next(name for name, one in network.named_modules() if one is backbone.module)
    return Start(frozenset(f"{place}.{name}".lstrip(".") for name in found.names), (found.words(),))


def file_of_start(config: TrainConfig, network: nn.Module) -> Path | None:
    """The file that a run's weights began with, if any."""
    if config.run.start_from:
        return _file_at(config.run.start_from)
    backbone = _backbone(config, network)
    return Path(backbone.file) if backbone is not None and backbone.file else None


def refuse_unused(config: TrainConfig, loaded: LoadedWeights) -> None:
    """Raise ConfigError for settings of loaded weights where there are none, or nothing else."""
    frozen = [f"freeze_loaded of stage {one.name!r}" for one in config.stages if one.freeze_loaded]
    multiplied = ["optimizer.loaded_lr_mult"] if config.optimizer.loaded_lr_mult != 1 else []
    new = ["run.new_classifier"] if config.run.new_classifier else []
    unused = [] if loaded.names else [*frozen, *multiplied]
    unused += [] if config.run.start_from else new
    if unused:
        raise ConfigError(
            f"{unused[0]} is for weights that were loaded, and none were: name a run or a file "
            "with run.start_from, or leave the setting out"
        )
    if frozen and loaded.is_all:
        raise ConfigError(
            f"{frozen[0]} leaves nothing to train, because all weights were loaded from "
            f"{config.run.start_from}; leave it out, or, if the network has a classifier of "
            "identities and these are other people, set run.new_classifier=true"
        )


def _backbone(config: TrainConfig, network: nn.Module) -> Backbone | None:
    """The part of the network that can start from a file of weights, if there is one."""
    hook = network_named(config.network.name).pretrained
    found: Backbone | None = part(hook)(network, config.network) if hook else None
    return found


def _file_at(given: str) -> Path:
    """The checkpoint of a run folder, or the file itself."""
    path = Path(given)
    return path / CHECKPOINT_NAME if path.is_dir() else path


def _whole(config: TrainConfig, network: nn.Module, num_identities: int) -> Start:
    """Load ``run.start_from`` into the network, all but what belongs to other people."""
    path = _file_at(config.run.start_from)
    body = read_body(path, _ABSENT)
    own = isinstance(body, dict) and body.get("format") == FORMAT
    checkpoint = checkpoint_from_body(body, path) if own else None
    if checkpoint is not None:
        _refuse_another_network(config, checkpoint, path)
    has_backbone = bool(network_named(config.network.name).pretrained)
    fit = Fit(
        what=f"the network {config.network.name}",
        other_kind="name a run or a file of the same network"
        + (", or, for its backbone alone, set network.pretrained" if has_backbone else ""),
        remedy=_remedy(config, checkpoint),
        may_be_new=_arrays_of_identities(config, network, num_identities),
        all_new=config.run.new_classifier,
        whole=own,
    )
    unknown: tuple[str, ...] = ()
    if checkpoint is not None and checkpoint.trained_images is None:
        unknown = (
            f"{path} has no hashes of its training images, so `reid eval` cannot refuse them later",
        )
    arrays = state_dict_from_body(body if checkpoint is None else checkpoint.model, path)
    found = load_arrays(network, arrays, path, fit)
    return Start(frozenset(found.names), (f"{path}: {found.words()}", *unknown))


def _refuse_another_network(config: TrainConfig, checkpoint: Checkpoint, path: Path) -> None:
    theirs, ours = checkpoint.config.network.name, config.network.name
    if theirs != ours:
        raise CheckpointError(
            f"{path} is a checkpoint of the network {theirs}, and this run's is {ours}; name a run "
            f"of {ours}, or a recipe of {theirs}{_recipe_of(checkpoint)}"
        )


def _remedy(config: TrainConfig, checkpoint: Checkpoint | None) -> str:
    """What to do about a file of another architecture."""
    if checkpoint is None:
        return "name a file of the same architecture, or change the network's settings"
    theirs, ours = (dataclasses.asdict(one.network) for one in (checkpoint.config, config))
    other = [
        f"network.{name} was {theirs[name]!r}, is {ours[name]!r}"
        for name in ours
        if theirs.get(name) != ours[name]
    ]
    shown = few_of(other, _SETTINGS_SHOWN) or "its configuration is the same: copy it again"
    return f"{shown}; use the settings of its run{_recipe_of(checkpoint)}"


def _recipe_of(checkpoint: Checkpoint) -> str:
    recipe = checkpoint.config.recipe
    return f", such as the recipe {few_of([recipe])}" if recipe else ""


def _arrays_of_identities(
    config: TrainConfig, network: nn.Module, num_identities: int
) -> frozenset[str]:
    """The classifier of identities: what would have another shape for one more person."""
    with torch.device("meta"):
        larger = build_configured_network(config, num_identities + 1).state_dict()
    return frozenset(
        name
        for name, value in network.state_dict().items()
        if name not in larger or larger[name].shape != value.shape
    )
