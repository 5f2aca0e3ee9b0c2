"""Caffe weights of others: the fork's BN, files with more or less in them, and broken ones."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid.caffe import reference
from reid.caffe.files import (
    blob_array,
    blob_from_array,
    read_net,
    read_weights,
    write_net,
    write_weights,
)
from reid.caffe.schema import NetParameter
from reid.cli import main
from reid.errors import CaffeError, OutputError
from reid.export.caffe.importing import checkpoint_from_caffe
from reid.export.caffe.weights import variance_from_statistic
from reid.model_file.preprocess import Preprocess
from reid.training.checkpoint import load_checkpoint

EPS = 1e-5
KEPT: dict[str, Callable[[Any], Any]] = {
    "inverse_std": lambda variance: 1 / np.sqrt(variance + EPS),
    "variance": lambda variance: variance,
    "std": np.sqrt,
}
"""Statistic -> what the fork would have stored of a variance."""


@pytest.fixture(scope="module")
def stored(caffe_run: Any) -> NetParameter:
    """The exported weights; copy before changing."""
    return read_weights(caffe_run.caffemodel)


@pytest.fixture(scope="module")
def graph(caffe_run: Any) -> NetParameter:
    """The exported graph; copy before changing."""
    return read_net(caffe_run.prototxt).message


def layer_named(net: NetParameter, name: str) -> Any:
    (layer,) = (layer for layer in net.layer if layer.name == name)
    return layer


def set_blob(net: NetParameter, name: str, index: int, values: Any) -> None:
    layer_named(net, name).blobs[index].CopyFrom(blob_from_array(np.asarray(values, np.float32)))


def as_fork(graph: NetParameter, stored: NetParameter, statistic: str) -> tuple[Any, Any]:
    """The same network with the fork's BN in the place of BatchNorm and Scale."""
    scales = {layer.name: layer for layer in stored.layer if layer.type == "Scale"}
    nets = []
    for source in (graph, stored):
        net = NetParameter(name="fork")
        for layer in source.layer:
            if layer.type == "Scale":
                continue
            made = net.layer.add()
            made.CopyFrom(layer)
            if layer.type == "BatchNorm":
                made.type = "BN"
                made.ClearField("batch_norm_param")
                made.bn_param.eps = EPS
                del made.blobs[:]
            if layer.type == "BatchNorm" and len(layer.blobs):
                mean, variance, _ = (blob_array(blob) for blob in layer.blobs)
                scale, shift = (blob_array(b) for b in scales[f"{layer.name}_scale"].blobs)
                kept = KEPT[statistic](variance.astype(np.float64)).astype(np.float32)
                blobs = [v.reshape(1, -1) for v in (scale, shift, mean, kept)]
                made.blobs.extend(map(blob_from_array, blobs))
        nets.append(net)
    return nets[0], nets[1]


@pytest.mark.parametrize("statistic", KEPT)
def test_the_fork_s_bn_is_read_by_the_named_statistic(
    statistic: str, graph: NetParameter, stored: NetParameter, caffe_run: Any, tmp_path: Path
) -> None:
    net, weights = as_fork(graph, stored, statistic)
    write_net(tmp_path / "fork.prototxt", net)
    write_weights(tmp_path / "fork.caffemodel", weights)
    run = tmp_path / "run"
    files = tmp_path / "fork.prototxt", tmp_path / "fork.caffemodel"
    imported = checkpoint_from_caffe(*files, run, statistic)
    assert (
        f"40 BN layers of the DGD fork: running statistic read as {statistic}" in imported.lines
    ), imported.lines
    state = load_checkpoint(run / "checkpoint.pt").model
    for key, value in caffe_run.network.state_dict().items():
        if key.endswith("running_var"):
            torch.testing.assert_close(state[key], value, rtol=1e-6, atol=0)
        else:
            assert torch.equal(state[key], value), key


@pytest.mark.parametrize(
    ("statistic", "formula"),
    [
        ("inverse_std", lambda s: 1 / s**2 - EPS),
        ("variance", lambda s: s),
        ("std", lambda s: s**2),
    ],
)
def test_the_variance_of_each_statistic_is_its_formula(statistic: str, formula: Any) -> None:
    kept = np.float32([0.25, 1.0, 3.5, 200.0])
    found = variance_from_statistic(kept, statistic, EPS, "conv1_bn")
    np.testing.assert_allclose(found, formula(kept.astype(np.float64)), rtol=1e-6)


def test_a_variance_of_zero_comes_back_as_zero() -> None:
    kept = np.float32([1 / np.sqrt(EPS)])
    assert variance_from_statistic(kept, "inverse_std", EPS, "conv1_bn")[0] <= 1e-11


@pytest.mark.parametrize(
    ("statistic", "value", "words"),
    [
        ("inverse_std", 0.0, "1 / sqrt(eps) = "),
        ("inverse_std", 400.0, "try --bn-statistic variance or std"),
        ("variance", -0.1, "try --bn-statistic inverse_std or std"),
        ("std", -0.1, "0 for std, found -0.1"),
        ("std", 1e30, "float32, found 1e+60"),
    ],
)
def test_a_value_that_a_statistic_cannot_have_names_the_others(
    statistic: str, value: float, words: str
) -> None:
    with pytest.raises(CaffeError, match=re.escape(words)):
        variance_from_statistic(np.float32([1.0, value]), statistic, EPS, "conv1_bn")


def test_without_a_head_the_paper_s_mean_is_taken_and_said(
    graph: NetParameter, caffe_run: Any, tmp_path: Path
) -> None:
    write_net(tmp_path / "plain.prototxt", graph)
    imported = checkpoint_from_caffe(
        tmp_path / "plain.prototxt", caffe_run.caffemodel, tmp_path / "run"
    )
    assert "plain.prototxt" in imported.lines[0]
    assert "BGR mean 102, 102, 101, resize 160x64, the embedding is fc7_bn" in imported.lines[0]
    assert load_checkpoint(tmp_path / "run/checkpoint.pt").manifest.preprocess == Preprocess()


def test_a_graph_with_the_old_input_fields_is_the_same_graph(
    caffe_run: Any, tmp_path: Path
) -> None:
    def old(net: NetParameter) -> None:
        del net.layer[0]
        net.input.append("data")
        net.input_dim.extend((1, 3, 144, 56))

    checkpoint_from_caffe(*caffe_run.changed_to(tmp_path, graph=old), tmp_path / "run")
    state = load_checkpoint(tmp_path / "run/checkpoint.pt").model
    assert torch.equal(state["fc7.weight"], caffe_run.network.fc7.weight)


def test_the_training_prototxt_of_the_paper_is_a_graph_to_import_by(
    stored: NetParameter, caffe_run: Any, tmp_path: Path
) -> None:
    weights = copy.deepcopy(stored)
    for layer in [layer for layer in stored.layer if len(layer.blobs) and layer.name != "fc8"]:
        twin = weights.layer.add()
        twin.CopyFrom(layer)
        twin.name += "_p"
    write_weights(tmp_path / "siamese.caffemodel", weights)
    imported = checkpoint_from_caffe(
        reference("msp_cnn_train_val"), tmp_path / "siamese.caffemodel", tmp_path / "run"
    )
    assert any(
        line.startswith("fc8 blob 0: expected (751, 256), found (7, 256): new classifier for 751")
        for line in imported.lines
    ), imported.lines
    num_twins = sum(bool(len(layer.blobs)) for layer in stored.layer) - 1
    (line,) = [line for line in imported.lines if "tower" in line]
    assert f"{num_twins} layers have the weights of the first (checked)" in line
    assert not any(line.startswith("not imported") for line in imported.lines)
    checkpoint = load_checkpoint(tmp_path / "run/checkpoint.pt")
    assert checkpoint.num_identities == 751
    assert torch.equal(checkpoint.model["conv1.conv.weight"], caffe_run.network.conv1.conv.weight)


def test_a_file_without_fc8_says_so_and_the_same_one_starts_each_time(
    caffe_run: Any, tmp_path: Path
) -> None:
    def no_fc8(net: NetParameter) -> None:
        names = [layer.name for layer in net.layer]
        del net.layer[names.index("fc8")]

    files = caffe_run.changed_to(tmp_path, weights=no_fc8)
    states = []
    for name in ("one", "two"):
        imported = checkpoint_from_caffe(*files, tmp_path / name)
        states.append(load_checkpoint(tmp_path / name / "checkpoint.pt").model["fc8.weight"])
    assert imported.lines[-1].startswith("missing fc8: new classifier for 1 identities")
    assert torch.equal(*states)


def in_place(net: NetParameter) -> None:
    """BatchNorm writes over the blob of its convolution."""
    blobs: dict[str, str] = {}
    for layer in net.layer:
        if layer.type == "BatchNorm":
            blobs[layer.top[0]] = layer.bottom[0]
    for layer in net.layer:
        for names in (layer.bottom, layer.top):
            names[:] = [blobs.get(name, name) for name in names]


def test_a_scale_of_any_name_is_found_by_what_goes_into_it(caffe_run: Any, tmp_path: Path) -> None:
    names = {
        layer.name: f"scale{number}"
        for number, layer in enumerate(read_net(caffe_run.prototxt).message.layer)
        if layer.type == "Scale"
    }

    def rename(net: NetParameter) -> None:
        for layer in net.layer:
            layer.name = names.get(layer.name, layer.name)

    def foreign(net: NetParameter) -> None:
        rename(net)
        in_place(net)

    files = caffe_run.changed_to(tmp_path, graph=foreign, weights=rename)
    imported = checkpoint_from_caffe(*files, tmp_path / "run")
    assert "weights: 242 tensors found by layer name" in imported.lines
    assert not any(line.startswith("left out") for line in imported.lines)
    state = load_checkpoint(tmp_path / "run/checkpoint.pt").model
    for key, value in caffe_run.network.state_dict().items():
        assert torch.equal(state[key], value), key


def test_a_scale_that_is_missing_is_reported_by_the_file_s_own_name(
    caffe_run: Any, tmp_path: Path
) -> None:
    def other_name(net: NetParameter) -> None:
        layer_named(net, "fc7_bn_scale").name = "scale_of_fc7"

    files = caffe_run.changed_to(tmp_path, graph=other_name)
    with pytest.raises(CaffeError, match=r"does not fit the network: missing scale_of_fc7$"):
        checkpoint_from_caffe(*files, tmp_path / "run")


def test_an_extra_layer_is_named_with_its_shapes(
    caffe_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def extra(net: NetParameter) -> None:
        layer = net.layer.add(name="fc8_jstl", type="InnerProduct")
        layer.blobs.append(blob_from_array(np.zeros((9, 256), np.float32)))

    files = map(str, caffe_run.changed_to(tmp_path, weights=extra))
    assert main(["import-caffe", *files, "--out", str(tmp_path / "run"), "--json"]) == 0
    shown = capsys.readouterr()
    assert "the network has no such layer: fc8_jstl (9, 256)" in shown.err
    assert '"fc8_jstl (9, 256)"' in shown.out


def test_weights_from_before_blob_shapes_fit(caffe_run: Any, tmp_path: Path) -> None:
    def old(net: NetParameter) -> None:
        blob = layer_named(net, "fc7").blobs[0]
        blob.ClearField("shape")
        blob.num, blob.channels, blob.height, blob.width = 1, 1, 256, 1536

    checkpoint_from_caffe(*caffe_run.changed_to(tmp_path, weights=old), tmp_path / "run")
    state = load_checkpoint(tmp_path / "run/checkpoint.pt").model
    assert torch.equal(state["fc7.weight"], caffe_run.network.fc7.weight)


def missing_layer(weights: NetParameter) -> None:
    names = [layer.name for layer in weights.layer]
    del weights.layer[names.index("inception_1a/3x3")]


def wrong_shape(weights: NetParameter) -> None:
    set_blob(weights, "fc7", 0, np.zeros((256, 1024)))


def wrong_count(weights: NetParameter) -> None:
    del layer_named(weights, "conv1").blobs[0].data[10:]


def too_few_blobs(weights: NetParameter) -> None:
    del layer_named(weights, "conv1_bn").blobs[2:]


def not_finite(weights: NetParameter) -> None:
    set_blob(weights, "conv2", 1, np.full(32, np.nan))


def negative_variance(weights: NetParameter) -> None:
    set_blob(weights, "conv2_bn", 1, np.full(32, -1.0))


def tiny_scale_factor(weights: NetParameter) -> None:
    set_blob(weights, "conv1_bn", 1, np.ones(32))
    set_blob(weights, "conv1_bn", 2, np.full(1, 1e-40))


def twice(weights: NetParameter) -> None:
    weights.layer.add().CopyFrom(layer_named(weights, "conv3"))


def many_wrong(weights: NetParameter) -> None:
    for layer in weights.layer:
        layer.name = f"other/{layer.name}"


def unlike_classifier(weights: NetParameter) -> None:
    set_blob(weights, "fc8", 1, np.zeros(6))
    set_blob(weights, "fc7", 1, np.zeros(255))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (missing_layer, "does not fit the network: missing inception_1a/3x3$"),
        (wrong_shape, r"fc7 blob 0: expected \(256, 1536\), found \(256, 1024\)$"),
        (wrong_count, r"conv1 blob 0: expected 864 values for shape \(32, 3, 3, 3\), found 10$"),
        (too_few_blobs, r"conv1_bn: expected 3 blobs, found 2: \(32,\), \(32,\)$"),
        (not_finite, "conv2 blob 1: expected finite values, found NaN or infinity$"),
        (negative_variance, "conv2_bn: expected a variance of at least 0, found -1$"),
        (
            tiny_scale_factor,
            r"conv1_bn: expected .*float32, found [0-9.]+e[+][34][0-9]$",
        ),
        (twice, "layer names, found conv3 twice$"),
        (unlike_classifier, r"network: fc7 blob 1: expected \(256,\), found \(255,\)$"),
        (many_wrong, "missing conv1; missing conv1_bn; missing conv1_bn_scale; .* and 114 more$"),
    ],
)
def test_weights_that_do_not_fit_are_one_line_and_leave_nothing(
    change: Callable[[NetParameter], None],
    words: str,
    caffe_run: Any,
    tmp_path: Path,
) -> None:
    files = caffe_run.changed_to(tmp_path, weights=change)
    with pytest.raises(CaffeError, match=words) as caught:
        checkpoint_from_caffe(*files, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def another_pad(net: NetParameter) -> None:
    layer_named(net, "inception_1a/pool").pooling_param.pad = 0


def another_stride(net: NetParameter) -> None:
    layer_named(net, "conv2").convolution_param.stride.append(2)


def another_network(net: NetParameter) -> None:
    for layer in net.layer:
        layer.name = layer.name.replace("inception", "block")


def no_relu(net: NetParameter) -> None:
    names = [layer.name for layer in net.layer]
    del net.layer[names.index("conv1_relu")]


def no_scale(net: NetParameter) -> None:
    names = [layer.name for layer in net.layer]
    del net.layer[names.index("conv1_bn_scale")]


def second_scale(net: NetParameter) -> None:
    """BatchNorm's value goes through two Scales, and the second one's is used."""
    places = {layer.name: place for place, layer in enumerate(net.layer)}
    layer_named(net, "conv1_bn_scale").top[0] = "unused"
    scale = copy.deepcopy(layer_named(net, "conv1_bn_scale"))
    scale.name, scale.top[0] = "again", "conv1_bn"
    rest = [copy.deepcopy(layer) for layer in net.layer[places["conv1_relu"] :]]
    del net.layer[places["conv1_relu"] :]
    net.layer.extend([scale, *rest])


def unknown_type(net: NetParameter) -> None:
    layer_named(net, "conv1").type = "Convolutoin"


def missing_bottom(net: NetParameter) -> None:
    layer_named(net, "conv2").bottom[0] = "conv1_bm"


def two_of_one_name(net: NetParameter) -> None:
    layer_named(net, "conv3").name = "conv2"


def no_input(net: NetParameter) -> None:
    layer_named(net, "data").input_param.ClearField("shape")


def grey(net: NetParameter) -> None:
    layer_named(net, "data").input_param.shape[0].dim[1] = 1


def tiny(net: NetParameter) -> None:
    layer_named(net, "data").input_param.shape[0].dim[2] = 4


def huge(net: NetParameter) -> None:
    layer_named(net, "data").input_param.shape[0].dim[2] = 1 << 19


def many_identities(net: NetParameter) -> None:
    fc8 = net.layer.add(name="fc8", type="InnerProduct", bottom=["fc7_bn"], top=["fc8"])
    fc8.inner_product_param.num_output = 1_000_000


def no_kernel(net: NetParameter) -> None:
    layer_named(net, "pool1").pooling_param.ClearField("kernel_size")


def stride_zero(net: NetParameter) -> None:
    layer_named(net, "pool1").pooling_param.stride = 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            another_pad,
            r"layer 'inception_1a/pool': pad is \(0, 0\), expected \(1, 1\);",
        ),
        (another_stride, r"layer 'conv2': stride is \(2, 2\), expected \(1, 1\)"),
        (another_network, "expected a layer 'inception_1a/1x1' .Convolution., .*did you"),
        (no_relu, "layer 'conv2': bottoms is conv1_bn, expected conv1_bn after ReLU"),
        (no_scale, "layer 'conv2': bottoms is conv1_bn before a Scale after ReLU, expected"),
        (second_scale, r"layer 'conv2': bottoms is again .Scale. after ReLU, expected conv1_bn"),
        (unknown_type, "unknown type 'Convolutoin' .did you mean 'Convolution'.*known: Input"),
        (missing_bottom, "layer 'conv2': no earlier layer writes its bottom 'conv1_bm' .did you"),
        (two_of_one_name, "layer names, found 'conv2' twice"),
        (no_input, "input 'data': expected positive sizes, found"),
        (grey, "expected an input of 3 channels, found"),
        (tiny, "(msp_cnn takes images of at least 16x8, found 4x56|larger than its map)"),
        (huge, r"at most 4096 pixels per side, found \(524288, 56\)"),
        (many_identities, "fc8 must have 1 to 100000 outputs, found 1000000"),
        (no_kernel, r"layer 'pool1': kernel must be at least 1, found \(0, 0\)"),
        (stride_zero, r"layer 'pool1': stride must be at least 1, found \(0, 0\)"),
    ],
)
def test_a_graph_of_another_network_is_refused_by_the_layer_s_name(
    change: Callable[[NetParameter], None],
    words: str,
    caffe_run: Any,
    tmp_path: Path,
) -> None:
    files = caffe_run.changed_to(tmp_path, graph=change)
    with pytest.raises(CaffeError, match=words) as caught:
        checkpoint_from_caffe(*files, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def without_manifest(caffemodel: Path) -> None:
    caffemodel.with_name(f"{caffemodel.name}.json").unlink(missing_ok=True)


def cut_weights(prototxt: Path, caffemodel: Path) -> None:
    without_manifest(caffemodel)
    caffemodel.write_bytes(caffemodel.read_bytes()[:-100_000])


def cut_weights_with_manifest(prototxt: Path, caffemodel: Path) -> None:
    caffemodel.write_bytes(caffemodel.read_bytes()[:-100_000])


def cut_text(prototxt: Path, caffemodel: Path) -> None:
    prototxt.write_text(prototxt.read_text()[:-5])


def exchanged(prototxt: Path, caffemodel: Path) -> None:
    text, weights = prototxt.read_bytes(), caffemodel.read_bytes()
    prototxt.write_bytes(weights)
    caffemodel.write_bytes(text)


def text_twice(prototxt: Path, caffemodel: Path) -> None:
    shutil.copy(prototxt, caffemodel)


def old_form(prototxt: Path, caffemodel: Path) -> None:
    without_manifest(caffemodel)
    net = NetParameter()
    net.layers.add()
    caffemodel.write_bytes(net.SerializeToString())


def empty(prototxt: Path, caffemodel: Path) -> None:
    caffemodel.write_bytes(b"")


def gone(prototxt: Path, caffemodel: Path) -> None:
    prototxt.unlink()


def another_crop(prototxt: Path, caffemodel: Path) -> None:
    prototxt.write_text(prototxt.read_text().replace("crop: 144x56", "crop: 128x56"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut_weights, "is not a caffemodel, or truncated or damaged"),
        (cut_weights_with_manifest, r"caffemodel is not the file that .*describes"),
        (cut_text, r"msp_cnn.prototxt:\d+:\d+: expected"),
        (exchanged, r"prototxt is a caffemodel .binary., expected a prototxt .text.;"),
        (text_twice, r"caffemodel is a prototxt .text., expected a caffemodel .binary.;"),
        (old_form, "1 layers .*V1 .*upgrade_net_proto"),
        (empty, "is empty; expected a caffemodel"),
        (gone, "cannot read a prototxt from"),
        (another_crop, "the crop .*128x56.* its input is 144x56"),
    ],
)
def test_files_that_are_no_caffe_files_are_one_line_and_leave_nothing(
    change: Callable[[Path, Path], None],
    words: str,
    caffe_run: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prototxt, caffemodel = caffe_run.copied_to(tmp_path)
    change(prototxt, caffemodel)
    command = ["import-caffe", str(prototxt), str(caffemodel), "--out", str(tmp_path / "run")]
    assert main(command) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert re.search(words, line), line
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_written_over(caffe_run: Any, tmp_path: Path) -> None:
    shutil.copytree(caffe_run.run, tmp_path / "run")
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    with pytest.raises(OutputError, match="already contains a run"):
        checkpoint_from_caffe(caffe_run.prototxt, caffe_run.caffemodel, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
