"""Nets as others hold them: the DGD fork's, folded batch norms, layers beside, second towers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid.caffe.files import (
    blob_array,
    blob_from_array,
    read_net,
    read_weights,
    write_net,
    write_weights,
)
from reid.caffe.schema import NetParameter
from reid.caffe.text import format_message
from reid.errors import CaffeError
from reid.export.caffe.importing import checkpoint_from_caffe
from reid.model_file.opening import ModelFile
from reid.model_file.preprocess import Preprocess
from reid.training.checkpoint import load_checkpoint

CROP = "crop_height: 72 crop_width: 28"
MEAN = "mean_value: 102 mean_value: 102 mean_value: 101"
DATA = f"""
layer {{ name: "guidance" type: "Data" top: "guidance" include {{ phase: TRAIN }} }}
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
  transform_param {{ mirror: true {CROP} {MEAN} }} }}
layer {{ name: "guidance" type: "Data" top: "guidance" include {{ phase: TEST }} }}
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
  transform_param {{ mirror: false {CROP} {MEAN} }} }}
"""
PAIRS = f"""
layer {{ name: "pairs" type: "Data" top: "pair" top: "label" top: "sim"
  transform_param {{ {CROP} {MEAN} }} }}
layer {{ name: "cut" type: "Slice" bottom: "pair" top: "data" top: "data_p"
  slice_param {{ axis: 1 slice_point: 3 }} }}
"""
DGD_END = """
layer { name: "relu7" type: "ReLU" bottom: "fc7_bn" top: "fc7_bn" }
layer { name: "guided_drop7" type: "GuidedDropout" bottom: "fc7_bn" bottom: "guidance" top: "fc7_bn"
  guided_dropout_param { type: "stochastic" sigmoid_scaler: 1 } }
layer { name: "fc8_cuhk03" type: "InnerProduct" bottom: "fc7_bn" top: "fc8_cuhk03"
  inner_product_param { num_output: 7 } }
layer { name: "odd" type: "Reduction" bottom: "fc8_cuhk03" top: "odd" }
layer { name: "odder" type: "InnerProduct" bottom: "odd" top: "odder"
  inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc8_cuhk03" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc8_cuhk03" bottom: "label" top: "accuracy" }
"""


@pytest.fixture(scope="module")
def graph(small_caffe_run: Any) -> NetParameter:
    """The exported graph; copy before changing."""
    return read_net(small_caffe_run.prototxt).message


@pytest.fixture(scope="module")
def stored(small_caffe_run: Any) -> NetParameter:
    """The exported weights; copy before changing."""
    return read_weights(small_caffe_run.caffemodel)


def written(
    folder: Path, graph: NetParameter, stored: NetParameter, before: str = "", after: str = ""
) -> tuple[Path, Path]:
    """Both files; text ``before`` replaces the first layer, the input, and ``after`` is added."""
    prototxt, caffemodel = folder / "net.prototxt", folder / "net.caffemodel"
    net = copy.deepcopy(graph)
    if before:
        del net.layer[0]
    write_net(prototxt, net)
    prototxt.write_text(before + prototxt.read_text() + after)
    write_weights(caffemodel, stored)
    return prototxt, caffemodel


def renamed(stored: NetParameter, **names: str) -> NetParameter:
    net = copy.deepcopy(stored)
    for layer in net.layer:
        layer.name = names.get(layer.name, layer.name)
    return net


def test_a_training_net_of_the_dgd_code_comes_in_with_its_classifier(
    graph: NetParameter, stored: NetParameter, small_caffe_run: Any, tmp_path: Path
) -> None:
    weights = renamed(stored, fc8="fc8_cuhk03")
    imported = checkpoint_from_caffe(
        *written(tmp_path, graph, weights, DATA, DGD_END), tmp_path / "run"
    )
    state = load_checkpoint(tmp_path / "run" / "checkpoint.pt").model
    for key, value in small_caffe_run.network.state_dict().items():
        assert torch.equal(state[key], value), key
    beside = [line for line in imported.lines if "beside" in line]
    assert len(beside) == 1
    assert all(name in beside[0] for name in ("guided_drop7", "odd (Reduction)", "odder"))
    assert any("mean 102, 102, 101, scale 1" in line for line in imported.lines)


def test_a_classifier_is_found_in_weights_whose_graph_lacks_it(
    graph: NetParameter, stored: NetParameter, small_caffe_run: Any, tmp_path: Path
) -> None:
    files = written(tmp_path, graph, renamed(stored, fc8="fc8_jstl"))
    checkpoint_from_caffe(*files, tmp_path / "run")
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert checkpoint.num_identities == 7
    assert torch.equal(checkpoint.model["fc8.weight"], small_caffe_run.network.fc8.weight)


def test_an_unknown_layer_within_the_network_is_named(
    graph: NetParameter, stored: NetParameter, tmp_path: Path
) -> None:
    net = copy.deepcopy(graph)
    (pool,) = (layer for layer in net.layer if layer.name == "pool1")
    pool.type = "SpatialPyramid"
    with pytest.raises(CaffeError, match="layer 'pool1': unknown type 'SpatialPyramid'"):
        checkpoint_from_caffe(*written(tmp_path, net, stored), tmp_path / "run")


def test_preprocessing_in_the_data_layer_is_that_of_the_run(
    graph: NetParameter, stored: NetParameter, tmp_path: Path
) -> None:
    text = DATA.replace(MEAN, "mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.5")
    checkpoint_from_caffe(*written(tmp_path, graph, stored, text), tmp_path / "run")
    found = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert found.manifest.preprocess == found.config.preprocess
    expected = Preprocess(72, 28, 72, 28, mean=(104, 117, 123), std=(2, 2, 2))
    assert found.manifest.preprocess == expected


def test_a_mean_image_beside_the_net_is_that_of_the_run(
    graph: NetParameter, stored: NetParameter, tmp_path: Path
) -> None:
    values = np.broadcast_to(np.float32([100, 101, 99])[:, None, None], (3, 80, 32))
    blob = blob_from_array(values)
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    text = DATA.replace(MEAN, 'mean_file: "elsewhere/mean.binaryproto"')
    imported = checkpoint_from_caffe(*written(tmp_path, graph, stored, text), tmp_path / "run")
    found = load_checkpoint(tmp_path / "run" / "checkpoint.pt").manifest.preprocess
    assert found == Preprocess(80, 32, 72, 28, mean=(100, 101, 99))
    assert any("resize 80x32" in line for line in imported.lines)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (MEAN, "mean_value: 1", "mean in the comments is 102, 102, 101, that of the layer 1, 1, 1"),
        (MEAN, f"{MEAN} scale: 0.5", "std in the comments is 1, 1, 1, that of the layer 2, 2, 2"),
        (CROP, "crop_size: 72", "the crop in its comments is 72x28, but its input is 72x72"),
        (MEAN, 'mean_file: "gone"', "no mean_file 'gone'"),
    ],
)
def test_comments_and_layers_that_disagree_are_refused(
    before: str, after: str, words: str, small_caffe_run: Any, tmp_path: Path
) -> None:
    def input_to_data(net: NetParameter) -> None:
        del net.layer[0]

    prototxt, caffemodel = small_caffe_run.changed_to(tmp_path, graph=input_to_data)
    lines = prototxt.read_text().split("name:", 1)
    prototxt.write_text(lines[0] + DATA.replace(before, after) + "name:" + lines[1])
    with pytest.raises(CaffeError, match=words) as caught:
        checkpoint_from_caffe(prototxt, caffemodel, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def second_tower(graph: NetParameter) -> str:
    """The layers of the graph again, on ``data_p``, with names that end in ``_p``."""
    twin = NetParameter()
    for layer in graph.layer[1:]:
        made = twin.layer.add()
        made.CopyFrom(layer)
        made.name += "_p"
        for names in (made.bottom, made.top):
            names[:] = [f"{name}_p" for name in names]
    return format_message(twin)


def with_second_tower(stored: NetParameter, change: Callable[[Any], None]) -> NetParameter:
    weights = copy.deepcopy(stored)
    for layer in stored.layer:
        if len(layer.blobs) and layer.name != "fc8":
            twin = weights.layer.add()
            twin.CopyFrom(layer)
            twin.name += "_p"
            change(twin)
    return weights


def test_a_siamese_net_on_slices_says_once_that_its_towers_agree(
    graph: NetParameter, stored: NetParameter, tmp_path: Path
) -> None:
    weights = with_second_tower(stored, lambda layer: None)
    files = written(tmp_path, graph, weights, PAIRS, second_tower(graph))
    imported = checkpoint_from_caffe(*files, tmp_path / "run")
    num_twins = len(weights.layer) - len(stored.layer)
    said = [line for line in imported.lines if "tower" in line]
    assert said == [
        f"second tower: {num_twins} layers have the weights of the first (checked)",
    ]
    assert not any("not imported" in line for line in imported.lines)
    assert imported.report["second_tower"] == {"shared": num_twins, "left_out": []}


def test_a_second_tower_with_weights_of_its_own_is_named(
    graph: NetParameter, stored: NetParameter, tmp_path: Path
) -> None:
    def change(layer: Any) -> None:
        if layer.name == "conv2_p":
            values = blob_array(layer.blobs[0])
            values[0, 0, 0, 0] += 1e-3
            layer.blobs[0].CopyFrom(blob_from_array(values))

    weights = with_second_tower(stored, change)
    imported = checkpoint_from_caffe(*written(tmp_path, graph, weights), tmp_path / "run")
    (line,) = [line for line in imported.lines if "left out" in line]
    assert "1 layers have other weights" in line
    assert "conv2_p" in line


def folded(graph: NetParameter, stored: NetParameter) -> tuple[NetParameter, NetParameter]:
    """The same network with its batch norms inside convolutions and fc7, as DGD publishes it."""
    blobs = {
        layer.name: [blob_array(b).astype(np.float64) for b in layer.blobs]
        for layer in stored.layer
    }
    net, weights = NetParameter(), NetParameter()
    for layer in graph.layer:
        if layer.type in ("BatchNorm", "Scale"):
            continue
        made = net.layer.add()
        made.CopyFrom(layer)
        for names in (made.bottom, made.top):
            names[:] = [name.removesuffix("_bn") for name in names]
    for layer in stored.layer:
        if f"{layer.name}_bn" not in blobs:
            continue
        weight, bias = blobs[layer.name]
        mean, variance, _ = blobs[f"{layer.name}_bn"]
        scale, shift = blobs[f"{layer.name}_bn_scale"]
        factor = scale / np.sqrt(variance + 1e-5)
        made = weights.layer.add(name=layer.name, type=layer.type)
        wide = factor.reshape(-1, *(1,) * (weight.ndim - 1))
        for values in (weight * wide, (bias - mean) * factor + shift):
            made.blobs.append(blob_from_array(values.astype(np.float32)))
    return net, weights


def test_folded_batch_norms_come_in_and_answer_alike(
    graph: NetParameter, stored: NetParameter, small_caffe_run: Any, tmp_path: Path
) -> None:
    imported = checkpoint_from_caffe(*written(tmp_path, *folded(graph, stored)), tmp_path / "run")
    assert imported.report["folded"] is True
    assert any("folded" in line for line in imported.lines)
    network = ModelFile.at(tmp_path / "run").network().eval()
    images = torch.randn(3, 3, 72, 28, generator=torch.Generator().manual_seed(0)) * 50
    with torch.inference_mode():
        found = network.embed(images)
        expected = small_caffe_run.network.embed(images)
    assert float((found - expected).abs().max() / expected.abs().max()) < 2e-5


def test_weights_with_batch_norms_do_not_fit_a_graph_without(
    graph: NetParameter, stored: NetParameter, tmp_path: Path
) -> None:
    net, _ = folded(graph, stored)
    with pytest.raises(CaffeError, match=r"has batch norms \(conv1_bn\), the prototxt has none"):
        checkpoint_from_caffe(*written(tmp_path, net, stored), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_folded_weights_do_not_fit_a_graph_with_batch_norms(
    graph: NetParameter, stored: NetParameter, tmp_path: Path
) -> None:
    _, weights = folded(graph, stored)
    with pytest.raises(CaffeError, match="missing conv1_bn; "):
        checkpoint_from_caffe(*written(tmp_path, graph, weights), tmp_path / "run")


@pytest.mark.real_data
def test_weights_that_the_fork_wrote_give_what_the_fork_computes(
    real_data: Callable[..., Path], tmp_path: Path
) -> None:
    names = [f"caffe/dgd_fork{end}" for end in (".caffemodel", "_net.prototxt", "_answer.npz")]
    weights, net, answer = (real_data(*names) / name for name in names)
    imported = checkpoint_from_caffe(net, weights, tmp_path / "run")
    assert "40 BN layers of the DGD fork: running statistic read as inverse_std" in imported.lines
    recorded = np.load(answer)
    network = ModelFile.at(tmp_path / "run").network().eval()
    with torch.inference_mode():
        found = network.embed(torch.from_numpy(recorded["x"].astype(np.float32))).numpy()
    expected = recorded["fc7_bn"]
    assert np.abs(found - expected).max() / np.abs(expected).max() < 2e-6
