"""The solver against Caffe's update rule, written as a loop over scalars."""

from __future__ import annotations

import pytest
import torch

from reid.config import OptimizerConfig
from reid.models import build_network
from reid.solver import CaffeSgd, parameter_groups


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
    network = build_network("msp_cnn", 10)
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
