"""Stochastic gradient descent and Adam as in Caffe's solvers, and PyTorch's Adam."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from reid.config.settings import OptimizerConfig


class CaffeSgd(torch.optim.Optimizer):
    """v = momentum * v + lr * (g + decay * w); w = w - v.

    The history includes the rate, so a lower rate takes effect over the span of the
    momentum; PyTorch's SGD multiplies the history by the new rate at once. With ``nesterov``
    the step is (1 + momentum) * v_new - momentum * v_old (Caffe's NesterovSolver).
    Each group's rate is ``lr * lr_mult``, its decay ``weight_decay * decay_mult``.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], config: OptimizerConfig) -> None:
        self.momentum = config.momentum
        self.nesterov = config.nesterov
        defaults = {
            "lr": 0.0,
            "lr_mult": 1.0,
            "decay_mult": 1.0,
            "weight_decay": config.weight_decay,
        }
        super().__init__(groups, defaults)

    def set_rate(self, lr: float) -> None:
        """Use ``lr`` (before the multipliers) from the next step on."""
        for group in self.param_groups:
            group["lr"] = lr

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient. ``closure`` is not used."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step_group(group, params)

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        rate = group["lr"] * group["lr_mult"]
        decay = group["weight_decay"] * group["decay_mult"]
        grads = [p.grad for p in params if p.grad is not None]
        history = [self._history(p) for p in params]
        if decay:
            grads = list(torch._foreach_add(grads, params, alpha=decay))
        before = [h.clone() for h in history] if self.nesterov else []
        torch._foreach_mul_(history, self.momentum)
        torch._foreach_add_(history, grads, alpha=rate)
        if self.nesterov:
            torch._foreach_sub_(params, history, alpha=1 + self.momentum)
            torch._foreach_add_(params, before, alpha=self.momentum)
        else:
            torch._foreach_sub_(params, history)

    def _history(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "history" not in state:
            state["history"] = torch.zeros_like(parameter)
        history: Tensor = state["history"]
        return history


class Adam(torch.optim.Adam):
    """PyTorch's Adam (Kingma and Ba, 2015), with each group's ``lr_mult`` and ``decay_mult``.

    The decay is added to the gradient, as Caffe's and TensorFlow's L2 penalty is.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], config: OptimizerConfig) -> None:
        decayed = [
            {**group, "weight_decay": config.weight_decay * group["decay_mult"]} for group in groups
        ]
        super().__init__(decayed, lr=0.0)

    def set_rate(self, lr: float) -> None:
        """Use ``lr`` (before the multipliers) from the next step on."""
        for group in self.param_groups:
            group["lr"] = lr * group["lr_mult"]


class CaffeAdam(torch.optim.Optimizer):
    """m = b1 * m + (1 - b1) * g;  v = b2 * v + (1 - b2) * g * g, with the decay in g;
    w = w - lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + delta).

    That is Caffe's AdamSolver: b1 is ``momentum``, b2 ``momentum2``, and t counts the updates of
    all parameters; a frozen group has none, so it begins with t = 1. PyTorch divides sqrt(v) by
    sqrt(1 - b2^t) before it adds delta. Each group's rate is ``lr * lr_mult``, its decay
    ``weight_decay * decay_mult``.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], config: OptimizerConfig) -> None:
        self.betas = config.momentum, config.momentum2
        self.delta = config.delta
        defaults = {
            "lr": 0.0,
            "lr_mult": 1.0,
            "decay_mult": 1.0,
            "weight_decay": config.weight_decay,
            "updates": 0,
        }
        super().__init__(groups, defaults)

    def set_rate(self, lr: float) -> None:
        """Use ``lr`` (before the multipliers) from the next step on."""
        for group in self.param_groups:
            group["lr"] = lr

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient. ``closure`` is not used."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                group["updates"] += 1
                self._step_group(group, params)

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        beta1, beta2 = self.betas
        decay = group["weight_decay"] * group["decay_mult"]
        grads = [p.grad for p in params if p.grad is not None]
        if decay:
            grads = list(torch._foreach_add(grads, params, alpha=decay))
        means, squares = ([self._history(p, key) for p in params] for key in ("mean", "square"))
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, grads, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, self.delta)
        updates = group["updates"]
        correction = math.sqrt(1 - beta2**updates) / (1 - beta1**updates)
        rate = group["lr"] * group["lr_mult"] * correction
        torch._foreach_addcdiv_(params, means, roots, value=-rate)

    def _history(self, parameter: Tensor, key: str) -> Tensor:
        state = self.state[parameter]
        if key not in state:
            state[key] = torch.zeros_like(parameter)
        values: Tensor = state[key]
        return values


Solver = CaffeSgd | Adam | CaffeAdam


def limit_gradients(solver: Solver, config: OptimizerConfig) -> None:
    """Shorten all gradients by one factor if together they are too long, as Caffe does.

    The gradients are means over ``iter_size`` batches. Caffe compares the L2 norm of their sum with
    ``clip_gradients``, before the weight decay is added. Without a limit nothing is computed.
    """
    if config.clip_gradients == 0:
        return
    params = (p for group in solver.param_groups for p in group["params"])
    grads = [p.grad for p in params if p.grad is not None]
    if not grads:
        return
    norms = torch._foreach_norm(grads)
    norm = float(torch.linalg.vector_norm(torch.stack(list(norms)))) * config.iter_size
    if norm > config.clip_gradients:
        torch._foreach_mul_(grads, config.clip_gradients / norm)


def solver_of(network: nn.Module, config: OptimizerConfig, loaded: Collection[str] = ()) -> Solver:
    """The configuration's solver for the network's parameters; see ``parameter_groups``."""
    groups = parameter_groups(network, config, loaded)
    kinds: dict[str, type[Solver]] = {"sgd": CaffeSgd, "adam": Adam, "caffe_adam": CaffeAdam}
    return kinds[config.kind](groups, config)


def parameter_groups(
    network: nn.Module, config: OptimizerConfig, loaded: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Three parameter groups with the multipliers of the reference prototxt.

    Weights: rate 1, decay 1. Biases of convolutions and inner products: rate
    ``bias_lr_mult`` (2), decay 0. Batch normalisation's scale and shift: rate 1, decay 0.
    Those of the names ``loaded`` are three more groups, with these rates times
    ``loaded_lr_mult``.
    """
    multipliers = {  # of the rate, of the decay
        "weights": (1.0, 1.0),
        "biases": (config.bias_lr_mult, 0.0),
        "normalisation": (1.0, 0.0),
    }
    found: dict[tuple[bool, str], list[Tensor]] = {
        (was_loaded, kind): [] for was_loaded in (False, True) for kind in multipliers
    }
    for prefix, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                kind = "normalisation"
            else:
                kind = "biases" if name == "bias" else "weights"
            found[f"{prefix}.{name}".lstrip(".") in loaded, kind].append(parameter)
    return [
        {
            "params": parameters,
            "lr_mult": multipliers[kind][0] * (config.loaded_lr_mult if was_loaded else 1.0),
            "decay_mult": multipliers[kind][1],
        }
        for (was_loaded, kind), parameters in found.items()
        if parameters
    ]
