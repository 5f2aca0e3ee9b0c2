"""The reference prototxts and the PyTorch network say the same, layer by layer.

Both sides are read, none is written down here: the prototxt from ``prototxt_ref``, the
network from a trace of what it does. Each kind of change is made once, on either side, and
must be seen.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid.caffe import reference
from reid.caffe.files import read_net
from reid.caffe.schema import AVE, TEST, TRAIN, LayerParameter, NetParameter
from reid.config.settings import OptimizerConfig
from reid.errors import BuildError, CaffeError
from reid.export.caffe.compare import difference
from reid.export.caffe.face import face_of
from reid.export.caffe.graph import traced_layers
from reid.export.caffe.layers import CaffeLayer
from reid.export.caffe.net import walk_net
from reid.models.msp_cnn.network import MspCnn
from reid.training.solver import parameter_groups

SHAPE = (3, 144, 56)
CROP = (144, 56)
"""The default of ``PersonPairs``, the Python layer with the data."""

FILES = {"embed": "msp_cnn_test", "train": "msp_cnn_train_val"}
ENDS = {"embed": "", "train": face_of("msp_cnn").classifier}
OTHER_TOWER = "_p"
Filler = tuple[str, float]


@pytest.fixture(scope="module")
def nets() -> dict[str, NetParameter]:
    """Stage -> its reference graph; copy it before changing it."""
    return {stage: read_net(reference(name)).message for stage, name in FILES.items()}


@pytest.fixture(scope="module")
def traced(network: nn.Module) -> dict[str, tuple[CaffeLayer, ...]]:
    """Stage -> the network's layers."""
    return {stage: traced_layers(network, SHAPE, field=end) for stage, end in ENDS.items()}


@pytest.fixture(scope="module")
def network(nets: dict[str, NetParameter]) -> nn.Module:
    """Freshly initialised, with as many identities as the reference's fc8."""
    torch.manual_seed(0)
    (fc8,) = (layer for layer in nets["train"].layer if layer.name == "fc8")
    return MspCnn(fc8.inner_product_param.num_output)


def tower_of(net: NetParameter, stage: str) -> tuple[list[CaffeLayer], list[str]]:
    """The first tower of a reference graph, from behind the data on, and what broke it off."""
    tower: list[CaffeLayer] = []
    try:
        phase = TRAIN if stage == "train" else TEST
        for layer in walk_net(net, stage, phase=phase, input_shape=(3, *crop_of(net))):
            if layer.settings and not in_other_tower(layer.name):
                tower.append(layer)
    except CaffeError as error:
        return tower, [str(error)]
    return tower, []


def crop_of(net: NetParameter) -> tuple[int, int]:
    """Height and width of the images, which only the data layer's ``param_str`` has."""
    settings = ast.literal_eval(net.layer[0].python_param.param_str or "{}")
    height, width = settings.get("crop", CROP)
    return height, width


def in_other_tower(name: str) -> bool:
    return name.endswith(OTHER_TOWER)


def fillers_in_file(message: LayerParameter) -> list[Filler]:
    """(type, value or std) of each weight of a layer that is initialised by a filler."""
    params = {
        "Convolution": ("convolution_param", "weight_filler"),
        "InnerProduct": ("inner_product_param", "weight_filler"),
        "Scale": ("scale_param", "filler"),
    }
    if message.type not in params:
        return []
    name, first = params[message.type]
    param = getattr(message, name)
    found = []
    for filler in (getattr(param, first), param.bias_filler):
        value = {"constant": filler.value, "gaussian": filler.std, "xavier": 0.0}[filler.type]
        found.append((str(filler.type), round(float(value), 6)))
    return found


def filler_of(values: Tensor) -> Filler:
    """What a fresh tensor was filled with, from its values alone."""
    if bool((values == values.flatten()[0]).all()):
        return "constant", round(float(values.flatten()[0]), 6)
    bound = math.sqrt(3 / values[0].numel())
    largest, std = float(values.abs().max()), float(values.std())
    if 0.95 * bound < largest <= bound * (1 + 1e-6) and abs(std * math.sqrt(3) / bound - 1) < 0.06:
        return "xavier", 0.0
    return "gaussian", float(f"{std:.1g}")


def multipliers_in_module(
    network: nn.Module, config: OptimizerConfig
) -> dict[str, tuple[float, float]]:
    """State-dict key -> (rate, decay) as the solver takes them; a statistic has (0, 0)."""
    by_id = {
        id(parameter): (group["lr_mult"], group["decay_mult"])
        for group in parameter_groups(network, config)
        for parameter in group["params"]
    }
    found = {key: by_id[id(value)] for key, value in network.named_parameters()}
    return {key: found.get(key, (0.0, 0.0)) for key in network.state_dict()}


def problems(net: NetParameter, traced: tuple[CaffeLayer, ...], stage: str) -> list[str]:
    """Every layer in which a reference graph and the traced network compute another thing."""
    theirs, found = tower_of(net, stage)
    ours = [layer for layer in traced if layer.type != "Input"]
    differences = (
        (layer.name, difference(layer, own)) for layer, own in zip(theirs, ours, strict=False)
    )
    found = [*(f"{name}: {words}" for name, words in differences if words), *found]
    if len(theirs) != len(ours):
        found.append(f"{len(theirs)} layers in the file, {len(ours)} traced")
    return found


def learning_problems(
    net: NetParameter,
    network: nn.Module,
    traced: tuple[CaffeLayer, ...],
    config: OptimizerConfig | None = None,
) -> list[str]:
    """Every layer whose fillers, multipliers or moving average differ."""
    messages = {message.name: message for message in net.layer}
    multipliers = multipliers_in_module(network, config or OptimizerConfig())
    state = network.state_dict()
    found = []
    for layer in traced:
        if layer.type == "Input":
            continue
        message = messages[layer.name]
        in_file = [(param.lr_mult, param.decay_mult) for param in message.param]
        in_module = [multipliers.get(key, (0.0, 0.0)) for key in layer.weights]
        if in_file != in_module:
            found.append(f"{layer.name}: multipliers {in_file}, in the module {in_module}")
        fillers = fillers_in_file(message)
        filled = [filler_of(state[key]) for key in layer.weights] if fillers else []
        if fillers != filled:
            found.append(f"{layer.name}: fillers {fillers}, in the module {filled}")
        if layer.type == "BatchNorm":
            module: Any = network.get_submodule(layer.weights[0].rpartition(".")[0])
            # PyTorch's momentum is the new statistic's share, Caffe's fraction the old one's.
            kept, share = message.batch_norm_param.moving_average_fraction, module.momentum
            if abs(kept + share - 1) > 1e-6:
                found.append(f"{layer.name}: moving average {kept:g}, in the module {1 - share:g}")
    return found


@pytest.mark.parametrize("stage", FILES)
def test_the_prototxt_mirrors_the_traced_network(
    stage: str, nets: dict[str, NetParameter], traced: dict[str, tuple[CaffeLayer, ...]]
) -> None:
    assert problems(nets[stage], traced[stage], stage) == []
    last = "fc8" if stage == "train" else "fc7_bn_scale"
    assert tower_of(nets[stage], stage)[0][-1].name == last


def test_the_prototxt_mirrors_how_the_network_starts_and_learns(
    nets: dict[str, NetParameter], network: nn.Module, traced: dict[str, tuple[CaffeLayer, ...]]
) -> None:
    assert learning_problems(nets["train"], network, traced["train"]) == []


def test_every_kind_of_layer_and_every_weight_was_compared(
    nets: dict[str, NetParameter], network: nn.Module, traced: dict[str, tuple[CaffeLayer, ...]]
) -> None:
    layers = traced["train"]
    kinds = {layer.type for layer in layers}
    assert kinds == {
        *("Input", "Convolution", "BatchNorm", "Scale", "ReLU", "Pooling", "Concat"),
        *("InnerProduct", "Dropout"),
    }
    keys = [key for layer in layers for key in layer.weights if key]
    counters = [key for key in network.state_dict() if key.endswith("num_batches_tracked")]
    assert sorted(keys + counters) == sorted(network.state_dict())
    learnt = [layer for layer in nets["train"].layer if fillers_in_file(layer)]
    assert len(learnt) == 2 * sum(layer.type in ("Convolution", "Scale") for layer in layers) + 3


def test_the_towers_are_one_tower_twice_with_shared_weights(nets: dict[str, NetParameter]) -> None:
    def without_suffix(words: Any) -> tuple[str, ...]:
        return tuple(word.removesuffix(OTHER_TOWER) for word in words)

    layers = list(walk_net(nets["train"], "train", phase=TRAIN, input_shape=(3, *CROP)))
    first = {layer.name: layer for layer in layers if not in_other_tower(layer.name)}
    second = [layer for layer in layers if in_other_tower(layer.name) and layer.settings]
    assert [layer.name.removesuffix(OTHER_TOWER) for layer in second] == [
        name for name, layer in first.items() if layer.settings
    ][: len(second)]
    params = {message.name: message.param for message in nets["train"].layer}
    for layer in second:
        twin = first[layer.name.removesuffix(OTHER_TOWER)]
        same = dataclasses.replace(
            layer,
            name=twin.name,
            bottoms=without_suffix(layer.bottoms),
            tops=without_suffix(layer.tops),
        )
        assert difference(twin, same) == ""
        shared = [(param.name, param.lr_mult, param.decay_mult) for param in params[layer.name]]
        assert shared == [(p.name, p.lr_mult, p.decay_mult) for p in params[twin.name]]
        assert all(name for name, _, _ in shared)


def layer_named(net: NetParameter, name: str) -> LayerParameter:
    (layer,) = (layer for layer in net.layer if layer.name == name)
    return layer


def set_conv(name: str, **values: Any) -> Callable[[NetParameter], None]:
    def change(net: NetParameter) -> None:
        param = layer_named(net, name).convolution_param
        for key, value in values.items():
            if isinstance(value, list):
                del getattr(param, key)[:]
                getattr(param, key).extend(value)
            else:
                setattr(param, key, value)

    return change


def set_pool(name: str, **values: Any) -> Callable[[NetParameter], None]:
    def change(net: NetParameter) -> None:
        for key, value in values.items():
            setattr(layer_named(net, name).pooling_param, key, value)

    return change


def swap_bottoms(net: NetParameter) -> None:
    bottoms = layer_named(net, "inception_2a/output").bottom
    bottoms[0], bottoms[1] = bottoms[1], bottoms[0]


def swap_layers(net: NetParameter) -> None:
    names = [layer.name for layer in net.layer]
    first, second = names.index("inception_1a/1x1"), names.index("inception_1a/3x3_reduce")
    kept = [copy.deepcopy(net.layer[i]) for i in (first, second)]
    net.layer[first].CopyFrom(kept[1])
    net.layer[second].CopyFrom(kept[0])


def remove_relu(net: NetParameter) -> None:
    names = [layer.name for layer in net.layer]
    del net.layer[names.index("conv2_relu")]


def leaky(net: NetParameter) -> None:
    layer_named(net, "conv2_relu").relu_param.negative_slope = 0.1


def another_eps(net: NetParameter) -> None:
    layer_named(net, "conv3_bn").batch_norm_param.eps = 1e-3


def another_crop(net: NetParameter) -> None:
    for layer in net.layer:
        if layer.name == "data" and layer.type == "Python":
            settings = ast.literal_eval(layer.python_param.param_str)
            layer.python_param.param_str = repr(settings | {"crop": (128, 56)})
        elif layer.type == "Input":
            layer.input_param.shape[0].dim[2] = 128


CHANGES_OF_THE_GRAPH = {
    "conv1: pad is (1, 1), expected (0, 0)": set_conv("conv1", pad=[0]),
    "conv2: kernel is (3, 3), expected (5, 5)": set_conv("conv2", kernel_size=[5], pad=[2]),
    "inception_1b/3x3: stride is (2, 2), expected (1, 1)": set_conv("inception_1b/3x3", stride=[1]),
    "inception_3b/pool: pad is (0, 1), expected (0, 0)": set_pool("inception_3b/pool", pad_w=0),
    "conv3: bias is True, expected False": set_conv("conv3", bias_term=False),
    "inception_3a/1x1: num_output is 256, expected 255": set_conv(
        "inception_3a/1x1", num_output=255
    ),
    "inception_3a/1x1: dilation is (1, 1), expected (2, 2)": set_conv(
        "inception_3a/1x1", dilation=[2]
    ),
    "pool1: pool is MAX, expected AVE": set_pool("pool1", pool=AVE),
    "pool1: pad is (0, 0), expected (1, 0)": set_pool("pool1", pad_h=1, pad_w=0),
    "global_pool: kernel is (9, 4), expected (9, 3)": set_pool("global_pool", kernel_w=3),
    "inception_2a/output: bottoms is ('inception_2a/1x1_bn', 'inception_2a/3x3_bn'": swap_bottoms,
    "inception_1a/3x3_reduce: name is inception_1a/1x1": swap_layers,
    "conv3: name is conv2_relu, expected conv3": remove_relu,
    "conv2_relu: negative_slope is 0, expected 0.1": leaky,
    "conv3_bn: eps is 1e-05, expected 0.001": another_eps,
    "conv1: shape is (32, 144, 56), expected (32, 128, 56)": another_crop,
}
"""What is reported first -> the change of the prototxt."""


@pytest.mark.parametrize("stage", FILES)
@pytest.mark.parametrize("problem", CHANGES_OF_THE_GRAPH)
def test_a_change_of_the_prototxt_is_seen(
    problem: str,
    stage: str,
    nets: dict[str, NetParameter],
    traced: dict[str, tuple[CaffeLayer, ...]],
) -> None:
    net = copy.deepcopy(nets[stage])
    CHANGES_OF_THE_GRAPH[problem](net)
    assert problems(net, traced[stage], stage)[0].startswith(problem)


def rate(net: NetParameter) -> None:
    layer_named(net, "conv2").param[1].lr_mult = 1


def decay(net: NetParameter) -> None:
    layer_named(net, "fc7_bn_scale").param[0].decay_mult = 1


def filler_type(net: NetParameter) -> None:
    layer_named(net, "fc7").inner_product_param.weight_filler.type = "gaussian"


def filler_value(net: NetParameter) -> None:
    layer_named(net, "inception_2b/3x3").convolution_param.bias_filler.value = 0.1


def filler_std(net: NetParameter) -> None:
    layer_named(net, "fc8").inner_product_param.weight_filler.std = 0.01


def moving_average(net: NetParameter) -> None:
    layer_named(net, "conv1_bn").batch_norm_param.moving_average_fraction = 0.999


@pytest.mark.parametrize(
    "change", [rate, decay, filler_type, filler_value, filler_std, moving_average]
)
def test_a_change_of_how_the_prototxt_learns_is_seen(
    change: Callable[[NetParameter], None],
    nets: dict[str, NetParameter],
    network: nn.Module,
    traced: dict[str, tuple[CaffeLayer, ...]],
) -> None:
    net = copy.deepcopy(nets["train"])
    change(net)
    assert len(learning_problems(net, network, traced["train"])) == 1


def test_another_dropout_of_the_prototxt_is_seen(
    nets: dict[str, NetParameter], traced: dict[str, tuple[CaffeLayer, ...]]
) -> None:
    net = copy.deepcopy(nets["train"])
    layer_named(net, "fc7_dropout").dropout_param.dropout_ratio = 0.4
    problem = ["fc7_dropout: dropout_ratio is 0.5, expected 0.4"]
    assert problems(net, traced["train"], "train") == problem


def module_pool_type(network: Any) -> None:
    network.pool1 = nn.AvgPool2d(2, 2, ceil_mode=True)


def module_forward_pad(network: Any) -> None:
    network.inception_3b.pool = nn.MaxPool2d(2, 2, (0, 1), ceil_mode=True)


def module_dropout(network: Any) -> None:
    network.fc7_dropout.p = 0.3


def module_kernel(network: Any) -> None:
    network.conv2.conv = nn.Conv2d(32, 32, 5, padding=2)


def module_stride(network: Any) -> None:
    network.inception_2b.conv_3x3.conv.stride = (1, 1)
    network.inception_2b.double_3x3_2.conv.stride = (1, 1)
    network.inception_2b.pool = nn.MaxPool2d(3, 1, 1)


def module_outputs(network: Any) -> None:
    network.inception_3a.pool_proj.conv = nn.Conv2d(768, 128, 1)
    network.inception_3a.pool_proj.bn = nn.BatchNorm2d(128)
    network.inception_3b.pool = nn.MaxPool2d(3, 2, (0, 1), ceil_mode=True)
    for part in (network.inception_3b.conv_3x3_reduce, network.inception_3b.double_3x3_reduce):
        part.conv = nn.Conv2d(896, 256, 1)
    network.fc7 = nn.Linear(1408, 256)


def module_eps(network: Any) -> None:
    network.fc7_bn.eps = 1e-3


def module_weights(network: Any) -> None:
    network.conv2.conv.bias = None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (module_pool_type, "pool1: pool is AVE, expected MAX"),
        (module_forward_pad, "inception_3b/pool: kernel is (2, 2), expected (3, 3)"),
        (module_dropout, "fc7_dropout: dropout_ratio is 0.3, expected 0.5"),
        (module_kernel, "conv2: kernel is (5, 5), expected (3, 3)"),
        (module_stride, "inception_2b/3x3: stride is (1, 1), expected (2, 2)"),
        (module_outputs, "inception_3a/pool_proj: num_output is 128, expected 256"),
        (module_eps, "fc7_bn: eps is 0.001, expected 1e-05"),
        (module_weights, "conv2: bias is False, expected True"),
    ],
)
def test_a_change_of_the_module_is_seen(
    change: Callable[[Any], None], problem: str, nets: dict[str, NetParameter], network: nn.Module
) -> None:
    changed = copy.deepcopy(network)
    change(changed)
    assert (
        problems(nets["train"], traced_layers(changed, SHAPE, field=ENDS["train"]), "train")[0]
        == problem
    )


def test_a_changed_pad_of_the_module_is_seen(
    nets: dict[str, NetParameter], network: nn.Module
) -> None:
    changed: Any = copy.deepcopy(network)
    changed.conv2.conv.padding = (1, 0)
    found = problems(nets["embed"], traced_layers(changed, SHAPE), "embed")
    assert found[0] == "conv2: pad is (1, 0), expected (1, 1)"


def test_blobs_of_another_shape_are_seen(traced: dict[str, tuple[CaffeLayer, ...]]) -> None:
    layer = next(layer for layer in traced["embed"] if layer.name == "fc7")
    turned = dataclasses.replace(layer, blob_shapes=((1536, 256), (256,)))
    problem = "blob shapes is ((256, 1536), (256,)), expected ((1536, 256), (256,))"
    assert difference(turned, layer) == problem


def test_another_rate_or_average_of_the_module_is_seen(
    nets: dict[str, NetParameter], network: nn.Module, traced: dict[str, tuple[CaffeLayer, ...]]
) -> None:
    changed: Any = copy.deepcopy(network)
    changed.conv3.bn.momentum = 0.001
    found = learning_problems(nets["train"], changed, traced["train"])
    assert found == ["conv3_bn: moving average 0.9, in the module 0.999"]
    rates = OptimizerConfig(bias_lr_mult=1.0)
    found = learning_problems(nets["train"], network, traced["train"], rates)
    biased = [layer for layer in traced["train"] if layer.type in ("Convolution", "InnerProduct")]
    assert [line.split(":")[0] for line in found] == [layer.name for layer in biased]


def test_a_changed_start_of_the_module_is_seen(
    nets: dict[str, NetParameter], network: nn.Module, traced: dict[str, tuple[CaffeLayer, ...]]
) -> None:
    changed: Any = copy.deepcopy(network)
    nn.init.zeros_(changed.inception_3a.pool_proj.conv.bias)
    nn.init.kaiming_normal_(changed.conv2.conv.weight)
    names = [
        line.split(":")[0] for line in learning_problems(nets["train"], changed, traced["train"])
    ]
    assert names == ["conv2", "inception_3a/pool_proj"]


def test_a_module_that_caffe_has_no_layer_for_is_refused_by_name(network: nn.Module) -> None:
    changed: Any = copy.deepcopy(network)
    changed.inception_2b.double_3x3_1.relu = nn.ELU()
    with pytest.raises(BuildError, match=r"inception_2b\.double_3x3_1\.relu: ELU") as caught:
        traced_layers(changed, SHAPE)
    assert "\n" not in str(caught.value)
