"""The running mean of a network's weights, which is tested in place of the last ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class AverageWeights:
    """The exponential moving average of weights and running statistics.

    After update t (from 0): average = d * average + (1 - d) * weights, with
    d = min(decay, (1 + t) / (10 + t)), so that the first steps, which are far off, are soon
    forgotten. Not in the papers; Tarvainen and Valpola 2017 test the mean of a network's weights,
    and the lower decay at the start is TensorFlow's. Whole numbers (batch counters) are copied.

    >>> layer = nn.Linear(1, 1)
    >>> average = AverageWeights(layer, decay=0.5)
    >>> _ = layer.weight.data.add_(1)
    >>> average.update(layer, step=100)
    >>> bool((layer.weight - average.state["weight"] - 0.5).abs() < 1e-6)
    True
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {
            name: value.detach().clone() for name, value in network.state_dict().items()
        }

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after update ``step``, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        now: Mapping[str, Tensor] = network.state_dict()
        real = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.state[n] for n in real], [now[n] for n in real], 1 - decay)
        for name in now.keys() - set(real):
            self.state[name].copy_(now[name])
