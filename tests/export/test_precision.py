"""An FP16 graph is FP16, or it is refused."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from reid.errors import BuildError, ModelFileError
from reid.export.precision import folded, halved, prove_precision
from reid.models.layers import InceptionA
from reid.models.sisnet.resnet import ResNet

HALF, FULL = TensorProto.FLOAT16, TensorProto.FLOAT


def graph_of(*kinds: int, cast_weights: bool = False) -> onnx.ModelProto:
    """A chain of 1x1 convolutions, one per element type, casts between them."""
    nodes, weights = [], []
    value = "data"
    for i, kind in enumerate(kinds):
        weight = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), f"w{i}")
        if kind == HALF and not cast_weights:
            weight = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float16), f"w{i}")
        weights.append(weight)
        nodes.append(helper.make_node("Cast", [value], [f"x{i}"], f"layer{i}/Cast", to=kind))
        used = f"w{i}"
        if cast_weights:
            used = f"v{i}"
            nodes.append(helper.make_node("Cast", [f"w{i}"], [used], f"weight{i}/Cast", to=kind))
        nodes.append(helper.make_node("Conv", [f"x{i}", used], [f"y{i}"], f"layer{i}/Conv"))
        value = f"y{i}"
    nodes.append(helper.make_node("Cast", [value], ["embedding"], "out/Cast", to=FULL))
    shape = ["batch", 2, 4, 4]
    graph = helper.make_graph(
        nodes,
        "embed",
        [helper.make_tensor_value_info("data", FULL, shape)],
        [helper.make_tensor_value_info("embedding", FULL, shape)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_every_convolution_of_the_fp16_export_computes_in_half(exported):
    proof = prove_precision(exported.files["fp16"], "fp16")
    assert proof.convolutions == 39
    assert proof.compute_nodes == proof.total_compute_nodes == 40  # and fc7
    assert proof.compute_share == 1
    assert proof.fp32_weight_share < 1e-5


def test_islands_in_float32_are_named_by_layer(exported):
    assert prove_precision(exported.files["fp16"], "fp16").fp32_islands == ("l2_normalise",)


def test_fp32_export_is_proven_too(exported):
    proof = prove_precision(exported.files["fp32"], "fp32")
    assert proof.compute_share == proof.fp32_weight_share == 1
    assert proof.fp32_islands == ()


def test_fp16_file_is_half_the_size(exported):
    sizes = {name: path.stat().st_size for name, path in exported.files.items()}
    assert sizes["fp16"] < 0.51 * sizes["fp32"]


def test_proof_of_fp16_on_an_fp32_file_is_refused(exported):
    with pytest.raises(BuildError, match=r"40 of 40 convolutions and Gemms do not \(first: conv1"):
        prove_precision(exported.files["fp32"], "fp16")


def test_proof_of_fp32_on_an_fp16_file_is_refused(exported):
    with pytest.raises(BuildError, match=r"computes in fp32.*40 of 40"):
        prove_precision(exported.files["fp16"], "fp32")


def test_half_typed_graph_is_refused_and_the_convolution_named():
    assert prove_precision(graph_of(HALF, HALF), "fp16").compute_share == 1
    with pytest.raises(BuildError, match=r"1 of 2 .* \(first: layer1/Conv, float\)"):
        prove_precision(graph_of(HALF, FULL), "fp16")


def test_half_arithmetic_on_weights_stored_in_float32_is_refused():
    with pytest.raises(BuildError, match="100% of its weights are stored in float32"):
        prove_precision(graph_of(HALF, cast_weights=True), "fp16")


def test_graph_without_arithmetic_proves_nothing():
    with pytest.raises(BuildError, match="no convolution"):
        prove_precision(graph_of(), "fp16")


def test_types_that_contradict_one_another_are_refused():
    model = graph_of(HALF)
    model.graph.node[0].attribute[0].i = FULL  # a float32 image meets float16 weights
    with pytest.raises(BuildError, match="contradict"):
        prove_precision(model, "fp16")


def test_local_functions_cannot_be_proven():
    model = graph_of(HALF)
    model.functions.add(name="hidden", domain="here")
    with pytest.raises(BuildError, match="local functions"):
        prove_precision(model, "fp16")


def test_unknown_precision_is_refused():
    with pytest.raises(BuildError, match="one of fp32, fp16, int8; found 'fp8'"):
        prove_precision(graph_of(HALF), "fp8")


def test_file_that_is_no_onnx_is_one_line(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ModelFileError, match="cannot be read as an ONNX file"):
        prove_precision(path, "fp16")


def lively_module() -> nn.Module:
    torch.manual_seed(2)
    module = InceptionA(8, 4).train()
    for _ in range(3):
        module(2 + 3 * torch.randn(8, 8, 6, 6))
    return module


def test_folding_keeps_the_answers_and_removes_every_batch_norm():
    module = lively_module()
    before = copy.deepcopy(module.state_dict())
    x = torch.randn(2, 8, 6, 6)
    result = folded(module)
    assert not [m for m in result.modules() if isinstance(m, nn.BatchNorm2d)]
    assert module.training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    torch.testing.assert_close(result(x), module.eval()(x), rtol=1e-5, atol=1e-5)


def test_halving_copies():
    module = lively_module()
    assert {p.dtype for p in halved(module).parameters()} == {torch.float16}
    assert {p.dtype for p in module.parameters()} == {torch.float32}


@pytest.mark.parametrize("value", [70000.0, float("nan")])
def test_weight_that_float16_cannot_hold_is_named(value):
    module = nn.Linear(2, 2)
    nn.init.constant_(module.bias, value)
    with pytest.raises(BuildError, match=r"bias .*float16"):
        halved(module)


def test_a_resnet_is_folded_too_and_answers_as_before():
    torch.manual_seed(0)
    network = ResNet(18, 2).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    found = folded(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in found.modules())
    images = torch.randn(2, 3, 64, 32)
    with torch.inference_mode():
        torch.testing.assert_close(found(images), network(images), rtol=1e-3, atol=1e-3)
