"""The solvers against their update rules, written as loops over scalars."""

from __future__ import annotations

import io
import math

import pytest
import torch
from torch import nn

from reid.config.settings import OptimizerConfig
from reid.errors import ConfigError
from reid.models import build_network
from reid.models.msp_cnn.settings import MspCnnSettings
from reid.training.solver import Adam, CaffeSgd, Solver, parameter_groups, solver_of


@pytest.mark.parametrize("nesterov", [False, True])
def test_updates_follow_caffes_rule_while_the_rate_changes(nesterov: bool) -> None:
    config = OptimizerConfig(momentum=0.9, weight_decay=0.01, nesterov=nesterov)
    weight = torch.nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
    solver = CaffeSgd([{"params": [weight], "lr_mult": 2.0, "decay_mult": 0.5}], config)
    plain, history = [2.0, -1.0], [0.0, 0.0]
    for rate, grads in ((0.1, (1.0, 0.5)), (0.1, (-0.3, 0.2)), (0.01, (0.7, -0.1))):
        weight.grad = torch.tensor(grads, dtype=torch.float64)
        solver.set_rate(rate)
        solver.step()
        for k in range(2):
            old = history[k]
            history[k] = 0.9 * old + 2.0 * rate * (grads[k] + 0.5 * 0.01 * plain[k])
            plain[k] -= 1.9 * history[k] - 0.9 * old if nesterov else history[k]
    assert weight.tolist() == pytest.approx(plain, rel=1e-12)


def test_at_a_constant_rate_it_equals_pytorchs_sgd() -> None:
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(5, dtype=torch.float64))
    theirs = torch.nn.Parameter(ours.detach().clone())
    solver = CaffeSgd([{"params": [ours]}], OptimizerConfig(momentum=0.9, weight_decay=0.01))
    solver.set_rate(0.05)
    reference = torch.optim.SGD([theirs], lr=0.05, momentum=0.9, weight_decay=0.01)
    for _ in range(10):
        ours.grad = torch.randn(5, dtype=torch.float64)
        theirs.grad = ours.grad.clone()
        solver.step()
        reference.step()
    assert torch.allclose(ours, theirs, rtol=1e-12)


def test_biases_learn_at_twice_the_rate_and_neither_they_nor_bn_decay() -> None:
    network = build_network(10, MspCnnSettings())
    groups = parameter_groups(network, OptimizerConfig())
    of = {id(p): (g["lr_mult"], g["decay_mult"]) for g in groups for p in g["params"]}
    named = dict(network.named_parameters())
    assert len(of) == len(named)
    assert of[id(named["conv1.conv.weight"])] == (1.0, 1.0)
    assert of[id(named["conv1.conv.bias"])] == (2.0, 0.0)
    assert of[id(named["conv1.bn.weight"])] == (1.0, 0.0)
    assert of[id(named["inception_2a.pool_proj.bn.bias"])] == (1.0, 0.0)
    assert of[id(named["fc7.weight"])] == (1.0, 1.0)
    assert of[id(named["fc7.bias"])] == (2.0, 0.0)
    assert of[id(named["fc7_bn.weight"])] == (1.0, 0.0)
    assert of[id(named["fc8.bias"])] == (2.0, 0.0)


def test_a_parameter_without_a_gradient_stays() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    solver = CaffeSgd([{"params": [weight]}], OptimizerConfig())
    solver.set_rate(1.0)
    solver.step()
    assert weight.tolist() == [1.0, 1.0]


def test_adam_follows_kingma_and_bas_rule_while_the_rate_changes() -> None:
    config = OptimizerConfig(kind="adam", weight_decay=0.01)
    weight = torch.nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
    solver = Adam([{"params": [weight], "lr_mult": 2.0, "decay_mult": 0.5}], config)
    plain, mean, square = [2.0, -1.0], [0.0, 0.0], [0.0, 0.0]
    steps = ((0.1, (1.0, 0.5)), (0.1, (-0.3, 0.2)), (0.01, (0.7, -0.1)), (0.01, (0.0, 0.0)))
    for t, (rate, grads) in enumerate(steps, start=1):
        weight.grad = torch.tensor(grads, dtype=torch.float64)
        solver.set_rate(rate)
        solver.step()
        for k in range(2):
            gradient = grads[k] + 0.5 * 0.01 * plain[k]  # L2: the penalty's own gradient
            mean[k] = 0.9 * mean[k] + (1 - 0.9) * gradient
            square[k] = 0.999 * square[k] + (1 - 0.999) * gradient**2
            corrected_mean, corrected_square = mean[k] / (1 - 0.9**t), square[k] / (1 - 0.999**t)
            plain[k] -= 2.0 * rate * corrected_mean / (math.sqrt(corrected_square) + 1e-8)
        assert weight.tolist() == pytest.approx(plain, rel=1e-12)


def test_the_configuration_names_the_solver_and_its_multipliers() -> None:
    network = small_network()
    assert isinstance(solver_of(network, OptimizerConfig()), CaffeSgd)
    config = OptimizerConfig(kind="adam", weight_decay=0.01, bias_lr_mult=3.0)
    solver = solver_of(network, config)
    assert isinstance(solver, Adam)
    solver.set_rate(0.1)
    named = {id(parameter): name for name, parameter in network.named_parameters()}
    of = {
        named[id(p)]: (g["lr"], g["weight_decay"]) for g in solver.param_groups for p in g["params"]
    }
    assert of["0.weight"] == pytest.approx((0.1, 0.01))
    assert of["0.bias"] == pytest.approx((0.3, 0.0))
    assert of["1.weight"] == of["1.bias"] == pytest.approx((0.1, 0.0))


def test_an_unknown_solver_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of sgd, adam, caffe_adam; found 'adamw'"):
        OptimizerConfig(kind="adamw")


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def train(network: nn.Module, solver: Solver, steps: range) -> None:
    for step in steps:
        solver.set_rate(0.1 / (step + 1))
        solver.zero_grad()
        data = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
        network(data).square().mean().backward()
        solver.step()


@pytest.mark.parametrize("kind", ["sgd", "adam", "caffe_adam"])
def test_a_solver_that_is_restored_goes_on_as_if_never_stopped(kind: str) -> None:
    config = OptimizerConfig(kind=kind, weight_decay=0.01)
    network = small_network()
    solver = solver_of(network, config)
    train(network, solver, range(3))
    saved = io.BytesIO()
    torch.save((network.state_dict(), solver.state_dict()), saved)
    train(network, solver, range(3, 6))
    saved.seek(0)
    model, state = torch.load(saved, weights_only=True)
    resumed = small_network()
    resumed.load_state_dict(model)
    again = solver_of(resumed, config)
    again.load_state_dict(state)
    train(resumed, again, range(3, 6))
    for name, value in network.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
