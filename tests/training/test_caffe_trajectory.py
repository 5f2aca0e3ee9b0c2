"""Fifty iterations by a solver file, against Caffe's formulas written out in NumPy.

The net is an inner product, a tanh and an inner product, with half the squared error as its loss.
NumPy computes its gradients and its updates by itself; both sides are in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from reid.caffe.schema import SolverParameter
from reid.caffe.solver import settings_from_solver
from reid.caffe.text import parse_into
from reid.config.settings import OptimizerConfig, StageConfig
from reid.training.schedule import learning_rate
from reid.training.solver import limit_gradients, solver_of

Array = NDArray[np.float64]
ITERATIONS = 50
FIXED = 'lr_policy: "fixed"'
SGD = 'type: "SGD" momentum: 0.9 weight_decay: 0.01'
ADAM = 'type: "Adam" momentum: 0.8 momentum2: 0.99 delta: 0.001 weight_decay: 0.01'
RATE_AND_DECAY = ((1, 1), (2, 0), (1, 1), (2, 0))
"""Caffe's lr_mult and decay_mult of weight, bias, weight, bias."""


def batch(number: int) -> tuple[Array, Array]:
    """Eight inputs and what the net should make of them."""
    rng = np.random.default_rng(number)
    return rng.normal(size=(8, 5)), rng.normal(size=(8, 2))


def first_weights() -> list[Array]:
    rng = np.random.default_rng(7)
    return [rng.normal(size=shape) * 0.5 for shape in ((4, 5), (4,), (2, 4), (2,))]


def gradients(weights: list[Array], number: int) -> list[Array]:
    """Of half the squared error, averaged over the batch."""
    w1, b1, w2, b2 = weights
    x, wanted = batch(number)
    hidden = np.tanh(x @ w1.T + b1)
    error = (hidden @ w2.T + b2 - wanted) / len(x)
    behind = (error @ w2) * (1 - hidden**2)
    return [behind.T @ x, behind.sum(0), error.T @ hidden, error.sum(0)]


def by_caffe(
    rate: Callable[[int], float],
    update: Callable[[dict[str, Any], float, Array, int], Array],
    decay: float,
    iter_size: int = 1,
    limit: float = -1.0,
) -> list[Array]:
    """The weights after ITERATIONS: accumulate, limit, average, decay, update."""
    weights = first_weights()
    history: list[dict[str, Any]] = [{} for _ in weights]
    for i in range(ITERATIONS):
        summed = [np.zeros_like(w) for w in weights]
        for k in range(iter_size):
            summed = [
                s + g for s, g in zip(summed, gradients(weights, i * iter_size + k), strict=True)
            ]
        length = math.sqrt(sum(float((g**2).sum()) for g in summed))
        if 0 <= limit < length:
            summed = [g * limit / length for g in summed]
        for n, (rate_mult, decay_mult) in enumerate(RATE_AND_DECAY):
            gradient = summed[n] / iter_size + decay * decay_mult * weights[n]
            weights[n] = weights[n] - update(history[n], rate(i) * rate_mult, gradient, i)
    return weights


def sgd(history: dict[str, Any], rate: float, gradient: Array, i: int) -> Array:
    history["v"] = 0.9 * history.get("v", 0.0) + rate * gradient
    return np.asarray(history["v"])


def nesterov(history: dict[str, Any], rate: float, gradient: Array, i: int) -> Array:
    before = history.get("v", 0.0)
    history["v"] = 0.9 * before + rate * gradient
    return np.asarray(1.9 * history["v"] - 0.9 * before)


def adam(history: dict[str, Any], rate: float, gradient: Array, i: int) -> Array:
    history["m"] = 0.8 * history.get("m", 0.0) + 0.2 * gradient
    history["v"] = 0.99 * history.get("v", 0.0) + 0.01 * gradient**2
    correction = math.sqrt(1 - 0.99 ** (i + 1)) / (1 - 0.8 ** (i + 1))
    return np.asarray(rate * correction * history["m"] / (np.sqrt(history["v"]) + 0.001))


def by_reid(text: str) -> list[Array]:
    """The weights after the stage that a solver file describes."""
    message = SolverParameter()
    parse_into(message, text, "solver")
    found = settings_from_solver(message, "solver")
    stage_settings: Any = found.stage
    optimizer_settings: Any = found.optimizer
    stage = StageConfig(**stage_settings, loss_weights={"softmax": 1.0})
    optimizer = OptimizerConfig(**optimizer_settings)
    network = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    parameters = list(network.parameters())
    with torch.no_grad():
        for parameter, values in zip(parameters, first_weights(), strict=True):
            parameter.copy_(torch.from_numpy(values))
    solver = solver_of(network, optimizer)
    for i in range(stage.iterations):
        solver.set_rate(learning_rate(stage, i, stage.iterations))
        solver.zero_grad()
        for k in range(optimizer.iter_size):
            x, wanted = map(torch.from_numpy, batch(i * optimizer.iter_size + k))
            loss = 0.5 * (network(x) - wanted).square().sum() / len(x)
            torch.autograd.backward(loss / optimizer.iter_size)
        limit_gradients(solver, optimizer)
        solver.step()
    return [parameter.detach().numpy() for parameter in parameters]


POLICIES: dict[str, Callable[[int], float]] = {
    FIXED: lambda i: 0.1,
    'lr_policy: "poly" power: 0.5': lambda i: 0.1 * (1 - i / 50) ** 0.5,
    'lr_policy: "poly" power: 2': lambda i: 0.1 * (1 - i / 50) ** 2,
    'lr_policy: "inv" gamma: 0.05 power: 0.75': lambda i: 0.1 * (1 + 0.05 * i) ** -0.75,
    'lr_policy: "sigmoid" gamma: 0.3 stepsize: 20': (
        lambda i: 0.1 * (1 / (1 + math.exp(-0.3 * (i - 20))))
    ),
    'lr_policy: "multistep" gamma: 0.3 stepvalue: 8 stepvalue: 31 stepvalue: 44': (
        lambda i: 0.1 * 0.3 ** sum(i >= step for step in (8, 31, 44))
    ),
    'lr_policy: "exp" gamma: 0.97': lambda i: 0.1 * 0.97**i,
}
"""A solver's policy -> Caffe's learning rate at iteration i."""


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("kind", "update"),
    [(SGD, sgd), (SGD.replace("SGD", "Nesterov"), nesterov), (ADAM, adam)],
    ids=["sgd", "nesterov", "adam"],
)
def test_fifty_iterations_follow_caffes_formulas(policy: str, kind: str, update: Any) -> None:
    found = by_reid(f"base_lr: 0.1 max_iter: {ITERATIONS} {policy} {kind}")
    expected = by_caffe(POLICIES[policy], update, decay=0.01)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("iter_size", [1, 3])
@pytest.mark.parametrize(("kind", "update"), [(SGD, sgd), (ADAM, adam)], ids=["sgd", "adam"])
def test_limited_gradients_follow_caffes_order(kind: str, update: Any, iter_size: int) -> None:
    # The limit lies between the lengths that occur, so some iterations are limited.
    limits = f"clip_gradients: {0.7 * iter_size} iter_size: {iter_size}"
    found = by_reid(f"base_lr: 0.1 max_iter: {ITERATIONS} {FIXED} {kind} {limits}")
    options = {"decay": 0.01, "iter_size": iter_size}
    expected = by_caffe(lambda i: 0.1, update, limit=0.7 * iter_size, **options)
    unlimited = by_caffe(lambda i: 0.1, update, **options)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13)
    assert np.abs(expected[0] - unlimited[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "share"),
    [("adam", 1 / (1 + 0.1)), ("caffe_adam", 1 / (1 + 0.1 / math.sqrt(1 - 0.999)))],
)
def test_the_two_adams_add_their_constant_in_different_places(kind: str, share: float) -> None:
    # A gradient of 1e-7 against a constant of 1e-8, at the first update.
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    network = nn.ParameterList([weight])
    solver = solver_of(network, OptimizerConfig(kind=kind))
    weight.grad = torch.full((1,), 1e-7, dtype=torch.float64)
    solver.set_rate(0.1)
    solver.step()
    assert weight.tolist() == pytest.approx([-0.1 * share], rel=1e-9)
