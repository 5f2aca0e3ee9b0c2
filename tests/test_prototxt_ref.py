"""The reference graphs: readable by another Caffe, and true to what they say of themselves."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from reid.caffe import reference
from reid.caffe.files import blob_from_array, read_net, read_solver, write_weights
from reid.caffe.schema import AVE, TEST, TRAIN, NetParameter
from reid.caffe.solver import settings_from_solver
from reid.errors import CaffeError

SECOND = "_p"
"""What names of the second tower end in."""

DATA_AND_LOSSES = ("Data", "Input", "SoftmaxWithLoss", "Accuracy", "Python", "ContrastiveLoss")
HEAD = ("fc7_relu", "fc7_dropout", "fc8")


def read(name: str) -> NetParameter:
    """A reference graph's message."""
    return read_net(reference(name)).message


@pytest.fixture(scope="module")
def train_val() -> NetParameter:
    """The Siamese."""
    return read("msp_cnn_train_val")


@pytest.fixture(scope="module")
def test_net() -> NetParameter:
    """One tower, for the test stage."""
    return read("msp_cnn_test")


def is_in(layer: Any, phase: int) -> bool:
    """Whether a layer belongs to a phase."""
    return not layer.include or any(rule.phase == phase for rule in layer.include)


def in_second(layer: Any) -> bool:
    """Whether a layer belongs to the second tower alone."""
    return bool(layer.name.endswith(SECOND))


def tower(net: NetParameter, *, second: bool = False) -> list[Any]:
    """The layers of one tower from conv1 to fc7_bn."""
    return [
        layer
        for layer in net.layer
        if layer.type not in DATA_AND_LOSSES
        and layer.name not in HEAD
        and in_second(layer) == second
    ]


def structure(layer: Any) -> tuple[object, ...]:
    """What a layer computes and from what, without fillers, multipliers and phases."""
    kept = type(layer)()
    kept.CopyFrom(layer)
    for part in (kept.convolution_param, kept.inner_product_param):
        part.ClearField("weight_filler")
        part.ClearField("bias_filler")
    kept.scale_param.ClearField("filler")
    kept.scale_param.ClearField("bias_filler")
    kept.batch_norm_param.ClearField("use_global_stats")
    kept.batch_norm_param.ClearField("moving_average_fraction")
    kept.ClearField("param")
    for names in (kept.bottom, kept.top):
        names[:] = [name.removesuffix(SECOND) for name in names]
    kept.name = kept.name.removesuffix(SECOND)
    return (kept.SerializeToString(deterministic=True),)


def test_nothing_in_the_graphs_is_outside_the_schema(
    train_val: NetParameter, test_net: NetParameter
) -> None:
    for net in (train_val, test_net):
        assert "unknown_text" not in str(net)  # protobuf prints every field by name
    solver = read_solver(reference("msp_cnn_solver"))
    assert list(solver.unknown_text) == [
        "test_initialization: false",
        "test_iter: 100",
        "test_interval: 1000",
    ]


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_every_name_is_unique_in_its_phase(train_val: NetParameter, phase: int) -> None:
    names = Counter(layer.name for layer in train_val.layer if is_in(layer, phase))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_every_bottom_is_written_before_it_is_read(train_val: NetParameter, phase: int) -> None:
    written: set[str] = set()
    for layer in train_val.layer:
        if is_in(layer, phase):
            assert set(layer.bottom) <= written, layer.name
            written |= set(layer.top)


def test_the_phases_differ_in_their_data_the_accuracy_and_the_cross_correlation(
    train_val: NetParameter,
) -> None:
    names = {p: [x.name for x in train_val.layer if is_in(x, p)] for p in (TRAIN, TEST)}
    assert set(names[TRAIN]) - set(names[TEST]) == {"cross_correlation_loss"}
    assert set(names[TEST]) - set(names[TRAIN]) == {"accuracy"}
    data = [layer for layer in train_val.layer if layer.name == "data"]
    assert [list(layer.top) for layer in data] == [["data", "label", "data_p", "sim"]] * 2
    for layer, phase in zip(data, (TRAIN, TEST), strict=True):
        settings = ast.literal_eval(layer.python_param.param_str)
        assert is_in(layer, phase)
        assert settings["phase"] == {TRAIN: "TRAIN", TEST: "TEST"}[phase]


def test_both_towers_are_alike_and_share_every_param(train_val: NetParameter) -> None:
    first, second = tower(train_val), tower(train_val, second=True)
    assert len(first) == len(second) > 100
    for one, other in zip(first, second, strict=True):
        assert structure(one) == structure(other), one.name
        assert [p.SerializeToString() for p in one.param] == [
            p.SerializeToString() for p in other.param
        ]
        assert all(bottom.endswith(SECOND) for bottom in other.bottom), other.name
        assert all(top.endswith(SECOND) for top in other.top), other.name
    blobs = {"Convolution": 2, "InnerProduct": 2, "BatchNorm": 3, "Scale": 2}
    assert all(len(layer.param) == blobs.get(layer.type, 0) for layer in first)
    names = [p.name for layer in first for p in layer.param]
    assert len(set(names)) == len(names)


def test_the_tower_is_the_test_net_layer_by_layer(
    train_val: NetParameter, test_net: NetParameter
) -> None:
    assert test_net.layer[0].type == "Input"
    for one, other in zip(tower(train_val), test_net.layer[1:], strict=True):
        assert structure(one) == structure(other), one.name


def test_the_forks_graph_has_one_bn_layer_for_batch_norm_and_scale(
    train_val: NetParameter,
) -> None:
    fork = read("msp_cnn_train_val_dgd")
    norms = {layer.name: layer for layer in fork.layer if layer.type == "BN"}
    others = [layer for layer in fork.layer if layer.type != "BN"]
    expected = [x for x in train_val.layer if x.type not in ("BatchNorm", "Scale")]
    assert [x.SerializeToString() for x in others] == [x.SerializeToString() for x in expected]
    of_stock = [layer for layer in train_val.layer if layer.type == "BatchNorm"]
    assert [layer.name for layer in of_stock] == list(norms)
    scales = {layer.top[0]: layer for layer in train_val.layer if layer.type == "Scale"}
    for layer in of_stock:
        norm = norms[layer.name]
        assert (list(norm.bottom), list(norm.top)) == (list(layer.bottom), list(layer.top))
        assert list(norm.param[:2]) == list(scales[norm.top[0]].param)
        assert [(one.lr_mult, one.decay_mult) for one in norm.param[2:]] == [(0, 0)] * 2
        assert norm.bn_param.slope_filler.value == 1


def test_multipliers_and_fillers_are_those_of_the_dgd_code(train_val: NetParameter) -> None:
    expected = {
        "Convolution": [(1, 1), (2, 0)],
        "InnerProduct": [(1, 1), (2, 0)],
        "BatchNorm": [(0, 0)] * 3,
        "Scale": [(1, 0), (1, 0)],
    }
    fc8 = next(layer for layer in train_val.layer if layer.name == "fc8")
    for layer in [*tower(train_val), fc8]:
        found = [(p.lr_mult, p.decay_mult) for p in layer.param]
        assert found == expected.get(layer.type, []), layer.name
        if layer.type == "Convolution":
            param = layer.convolution_param
            assert param.weight_filler.type == "xavier"
            assert param.bias_filler.value == pytest.approx(0.2)
        if layer.type == "BatchNorm":
            assert layer.batch_norm_param.moving_average_fraction == pytest.approx(0.9)
    assert fc8.inner_product_param.weight_filler.std == pytest.approx(0.001)


def test_the_losses_look_at_what_figure_2_says(train_val: NetParameter) -> None:
    layers = {layer.name: layer for layer in train_val.layer}
    assert list(layers["softmax_loss"].bottom) == ["fc8", "label"]
    assert list(layers["fc7_l2"].bottom) == ["fc7_bn"]
    assert list(layers["fc7_l2_p"].bottom) == ["fc7_bn_p"]
    assert list(layers["euclidean_loss"].bottom) == ["fc7_l2", "fc7_l2_p", "sim"]
    assert list(layers["cross_correlation_loss"].bottom) == ["pool1", "pool1_p", "sim"]
    assert "fc8_p" not in layers  # the softmax sees the anchor only
    in_place = [x for x in train_val.layer if list(x.bottom) == list(x.top) == ["fc7_bn"]]
    assert [layer.name for layer in in_place] == ["fc7_bn_scale"]


def test_the_test_net_has_the_parameters_of_the_dgd_graph(test_net: NetParameter) -> None:
    net = cv2.dnn.readNetFromCaffe(str(reference("msp_cnn_test")))
    assert net.getLayerNames()[-1] == "fc7_bn_scale"
    channels = {"data": 3}
    count = 0
    for layer in test_net.layer[1:]:
        came = [channels[bottom] for bottom in layer.bottom]
        out = came[0] if layer.type != "Concat" else sum(came)
        if layer.type == "Convolution":
            out = layer.convolution_param.num_output
            count += out * came[0] * layer.convolution_param.kernel_size[0] ** 2 + out
        elif layer.type == "InnerProduct":
            out = layer.inner_product_param.num_output
            count += out * came[0] + out
        elif layer.type == "Scale":
            count += 2 * out
        channels[layer.top[0]] = out
    assert count == 6_753_920  # the note of the layer table: without fc8
    assert [x.name for x in test_net.layer if x.pooling_param.pool == AVE] == [
        *(f"inception_{n}a/pool" for n in (1, 2, 3)),
        "global_pool",
    ]


def random_weights(net: NetParameter) -> NetParameter:
    """Weights of a plausible size for every layer of the test net."""
    rng = np.random.default_rng(0)
    channels = {"data": 3}
    filled = NetParameter(name=net.name)
    for layer in net.layer:
        into = filled.layer.add(name=layer.name, type=layer.type)
        came = [channels[bottom] for bottom in layer.bottom]
        out = sum(came) if came else 3
        shapes: list[tuple[int, ...]] = []
        if layer.type == "Convolution":
            out, side = layer.convolution_param.num_output, layer.convolution_param.kernel_size[0]
            shapes = [(out, came[0], side, side), (out,)]
        elif layer.type == "InnerProduct":
            out = layer.inner_product_param.num_output
            shapes = [(out, came[0]), (out,)]
        elif layer.type in ("BatchNorm", "Scale"):
            shapes = [(out,)] * 2
        for shape in shapes:
            fan_in = max(1, int(np.prod(shape[1:])))
            values = rng.uniform(0.5, 1, shape) if len(shape) == 1 else rng.normal(size=shape)
            into.blobs.append(blob_from_array(values / fan_in**0.5))
        if layer.type == "BatchNorm":
            into.blobs.append(blob_from_array(np.ones(1, np.float32)))
        channels[layer.top[0]] = out
    return filled


def test_another_caffe_runs_the_test_net(tmp_path: Path, test_net: NetParameter) -> None:
    path = tmp_path / "random.caffemodel"
    write_weights(path, random_weights(test_net))
    net = cv2.dnn.readNetFromCaffe(str(reference("msp_cnn_test")), str(path))
    image = np.random.default_rng(1).normal(0, 50, (1, 3, 144, 56)).astype(np.float32)
    net.setInput(image)
    wanted = {
        "pool1": (1, 32, 72, 28),
        "inception_1a/output": (1, 256, 72, 28),
        "inception_1b/output": (1, 384, 36, 14),
        "inception_2a/output": (1, 512, 36, 14),
        "inception_2b/output": (1, 768, 18, 7),
        "inception_3a/output": (1, 1024, 18, 7),
        "inception_3b/output": (1, 1536, 9, 4),
        "global_pool": (1, 1536, 1, 1),
        "fc7_bn_scale": (1, 256),
    }
    found = dict(zip(wanted, net.forward(list(wanted)), strict=True))
    assert {name: blob.shape for name, blob in found.items()} == wanted
    assert np.isfinite(found["fc7_bn_scale"]).all()
    assert found["fc7_bn_scale"].std() > 0


def test_the_solver_has_the_numbers_of_the_dgd_code() -> None:
    found = settings_from_solver(read_solver(reference("msp_cnn_solver")), "solver")
    assert found.optimizer == {
        "kind": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False, "iter_size": 2,
        "clip_gradients": 0.0,
    }  # fmt: skip
    stage = found.stage
    assert (stage["base_lr"], stage["lr_policy"], stage["gamma"]) == (0.1, "step", 0.1)
    assert (stage["stepsize"], stage["iterations"]) == (20_000, 50_000)


def test_the_solver_s_net_is_there_and_its_batch_is_one_hundred(train_val: NetParameter) -> None:
    solver = read_solver(reference("msp_cnn_solver"))
    assert reference(solver.net).is_file()
    data = [layer.python_param.param_str for layer in train_val.layer if layer.name == "data"]
    assert {ast.literal_eval(text)["batch_size"] for text in data} == {50}
    assert solver.iter_size * 50 == 100


def test_the_readme_names_layers_and_files_that_are_there(train_val: NetParameter) -> None:
    text = (reference("msp_cnn_test").parent / "README.md").read_text(encoding="utf-8")
    names = {layer.name for layer in train_val.layer}
    rows = re.findall(r"^\| [^|]* \| `([^`]+)` \| (?:[A-Z]\w+)", text, re.MULTILINE)
    assert len(rows) > 8
    assert set(rows) <= names
    for file in re.findall(r"`(msp_cnn_\w+\.prototxt)`", text):
        assert reference(file).is_file()
    for path in re.findall(r"`(reid/\w+/\w+\.py)`", text):
        assert (Path(__file__).parent.parent / path).is_file()


def test_an_unknown_reference_names_the_nearest() -> None:
    with pytest.raises(CaffeError, match=r"did you mean 'msp_cnn_test\.prototxt'\?"):
        reference("msp_cnn_tset")
