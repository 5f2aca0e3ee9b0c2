"""Checkpoint -> Caffe files -> checkpoint: what is written, and that nothing is lost."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from reid import __version__
from reid.caffe import reference
from reid.caffe.files import blob_array, blob_from_array, read_net, read_weights, write_weights
from reid.caffe.schema import NetParameter
from reid.cli import main
from reid.errors import BuildError, CaffeError
from reid.export.caffe.face import face_of, unnamed_network
from reid.export.caffe.graph import traced_layers
from reid.export.caffe.head import MARK, contract_of_head, head_lines
from reid.export.caffe.importing import checkpoint_from_caffe
from reid.export.caffe.layers import conv_size, pooled_size
from reid.export.caffe.net import walk_net
from reid.export.caffe.parity import prove_layers
from reid.export.caffe.writing import caffe_from_checkpoint
from reid.files import sha256_of_file
from reid.model_file.manifest import Manifest, read_manifest
from reid.model_file.opening import ModelFile
from reid.model_file.preprocess import Preprocess
from reid.models import NETWORKS
from reid.models.msp_cnn.network import MspCnn
from reid.models.msp_cnn.settings import MspCnnSettings
from reid.training.checkpoint import load_checkpoint, save_checkpoint


def layer_named(net: NetParameter, name: str) -> Any:
    (layer,) = (layer for layer in net.layer if layer.name == name)
    return layer


def test_the_head_says_how_to_feed_the_file_and_what_comes_out(caffe_run: Any) -> None:
    source = sha256_of_file(caffe_run.run / "checkpoint.pt")
    assert read_net(caffe_run.prototxt).head == (
        MARK,
        "network: msp_cnn, test graph; weights: msp_cnn.caffemodel",
        f"toolkit version: {__version__}",
        f"source sha256: {source}",
        "resize: 160x64 (height x width), bilinear",
        "crop: 144x56 (height x width), centre",
        "channel order: BGR",
        "mean: 102, 102, 101 (B, G, R in 0-255), subtract first",
        "std: 1, 1, 1 (B, G, R), then divide by it",
        "output: fc7_bn, 256 values, not L2-normalised: divide each row by its length, then "
        "compare by Euclidean distance",
    )


def test_a_head_reads_back_exactly() -> None:
    preprocess = Preprocess(
        256, 128, 250, 120, "RGB", (123.675, 116.28, 103.53), (58.395, 0.1, 1 / 3), "area"
    )
    manifest = Manifest("msp_cnn", "train", preprocess, output_meaning="fc7_relu")
    contract = contract_of_head(head_lines(manifest, "a.caffemodel", "c0ffee"), "a.prototxt")
    assert contract is not None
    assert contract.preprocess == preprocess
    assert contract.embed_at == "relu"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mean: 102, 102, 101", "mean: 102, 102"),
        ("crop: 144x56", "crop: tall"),
        ("crop: 144x56", "crop: 999x56"),
        ("channel order: BGR", "channel order: GBR"),
        ("std: 1, 1, 1", "std: 1, 0, 1"),
        ("resize: ", "size: "),
        ("output: fc7_bn", "output: conv3"),
        ("network: msp_cnn", "network: msp_cmn"),
        ("bilinear", "by magic"),
    ],
)
def test_a_damaged_head_is_one_clear_line(old: str, new: str) -> None:
    lines = head_lines(Manifest("msp_cnn", "train", Preprocess()), "a.caffemodel", "c0ffee")
    damaged = [line.replace(old, new) for line in lines]
    assert damaged != list(lines)
    with pytest.raises(CaffeError, match=r"a\.prototxt: the comments"):
        contract_of_head(damaged, "a.prototxt")


def test_comments_of_someone_else_say_nothing() -> None:
    assert contract_of_head((), "a") is None
    assert contract_of_head(("mean: 1, 2, 3",), "a") is None


def test_the_manifest_lies_beside_the_weights(caffe_run: Any) -> None:
    manifest = read_manifest(caffe_run.caffemodel)
    assert (manifest.stage, manifest.input_name, manifest.output_name) == (
        "embed",
        "data",
        "fc7_bn",
    )
    assert (manifest.normalised, manifest.precision, manifest.opset) == (False, "fp32", 0)
    assert manifest.source_sha256 == sha256_of_file(caffe_run.run / "checkpoint.pt")
    assert manifest.preprocess == Preprocess()


def test_the_blobs_are_those_of_stock_caffe(caffe_run: Any) -> None:
    weights = read_weights(caffe_run.caffemodel)
    state = caffe_run.network.state_dict()
    expected = {
        "inception_1b/3x3": ("inception_1b.conv_3x3.conv", "weight", "bias"),
        "inception_1b/3x3_bn": ("inception_1b.conv_3x3.bn", "running_mean", "running_var"),
        "inception_1b/3x3_bn_scale": ("inception_1b.conv_3x3.bn", "weight", "bias"),
        "fc7": ("fc7", "weight", "bias"),
        "fc7_bn": ("fc7_bn", "running_mean", "running_var"),
        "fc8": ("fc8", "weight", "bias"),
    }
    for name, (path, *keys) in expected.items():
        blobs = [blob_array(blob) for blob in layer_named(weights, name).blobs]
        for blob, key in zip(blobs, keys, strict=False):
            np.testing.assert_array_equal(blob, state[f"{path}.{key}"].numpy())
        if name.endswith("_bn"):
            np.testing.assert_array_equal(blobs[2], [1.0])
    types = {layer.name: layer.type for layer in weights.layer if len(layer.blobs)}
    assert set(types.values()) == {"Convolution", "BatchNorm", "Scale", "InnerProduct"}


def test_the_exported_graph_is_the_reference_graph(caffe_run: Any) -> None:
    exported, expected = (
        tuple(walk_net(read_net(path).message, path.name))
        for path in (caffe_run.prototxt, reference("msp_cnn_test"))
    )
    assert exported == expected


def test_a_face_names_what_is_in_the_network() -> None:
    face = face_of("msp_cnn")
    assert list(face.embeddings) == ["bn", "relu"]
    for embed_at, blob in face.embeddings.items():
        network = MspCnn(3, MspCnnSettings(embed_at=embed_at))
        shape = face.preprocess.input_shape
        assert traced_layers(network, shape)[-1].tops == (blob,)
        assert traced_layers(network, shape, field=face.classifier)[-1].name == face.classifier


def test_a_network_without_a_face_is_refused_by_name() -> None:
    assert unnamed_network() == "msp_cnn"
    with pytest.raises(BuildError, match=r"'msp_cnm' .did you mean 'msp_cnn'."):
        face_of("msp_cnm")


def test_a_run_of_a_network_without_a_face_is_refused_before_anything_is_written(
    caffe_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faceless = dataclasses.replace(NETWORKS["msp_cnn"], caffe_face=None)
    monkeypatch.setitem(NETWORKS, "msp_cnn", faceless)
    with pytest.raises(BuildError, match="'msp_cnn' has no Caffe equivalent"):
        caffe_from_checkpoint(caffe_run.run, tmp_path)
    with pytest.raises(BuildError, match="'msp_cnn' has no Caffe equivalent"):
        prove_layers(caffe_run.run, caffe_run.caffemodel, [])
    assert list(tmp_path.iterdir()) == []


def test_a_round_trip_keeps_every_bit(caffe_run: Any, tmp_path: Path) -> None:
    imported = checkpoint_from_caffe(caffe_run.prototxt, caffe_run.caffemodel, tmp_path / "run")
    before, after = caffe_run.network.state_dict(), load_checkpoint(tmp_path / "run/checkpoint.pt")
    assert after.num_identities == 7
    assert before.keys() == after.model.keys()
    for key, value in before.items():
        assert torch.equal(value, after.model[key]), key
    assert imported.lines == (
        "mean, channel order, sizes: from the comments in msp_cnn.prototxt",
        "weights: 242 tensors found by layer name",
        "stock BatchNorm: statistics divided by scale factor 1",
    )
    assert after.manifest.source_sha256 == sha256_of_file(caffe_run.caffemodel)
    assert json.loads((tmp_path / "run/import.json").read_text()) == imported.report
    assert (tmp_path / "run/config.toml").is_file()


def caffe_update(blobs: list[Any], values: Any) -> tuple[Any, Any]:
    """Mean and variance after Caffe's BatchNorm has seen a batch (N, C, H, W) in training.

    With a moving average fraction of 0.9: every sum is that times the old one, plus the new value.
    """
    sums, variances, count = (blob.astype(np.float64) for blob in blobs)
    num = values[:, 0].size
    mean = values.mean((0, 2, 3))
    variance = ((values - mean[:, None, None]) ** 2).mean((0, 2, 3)) * num / (num - 1)
    count = 0.9 * count + 1
    return (0.9 * sums + mean) / count, (0.9 * variances + variance) / count


@pytest.mark.parametrize(("count", "old_share"), [(10, 0.9), (1, 0.9 / 1.9)])
def test_a_count_of_ten_goes_on_in_caffe_as_in_pytorch(
    count: int, old_share: float, small_caffe_run: Any, tmp_path: Path
) -> None:
    files = caffe_from_checkpoint(small_caffe_run.run, tmp_path, bn_count=count)
    (layer,) = (x for x in read_weights(files.caffemodel).layer if x.name == "conv2_bn")
    values = torch.randn(4, 32, 5, 3, dtype=torch.float64) * 3 + 1
    mean, variance = caffe_update([blob_array(blob) for blob in layer.blobs], values.numpy())
    norm = copy.deepcopy(small_caffe_run.network.conv2.bn).double().train()
    norm.momentum = 1 - old_share
    norm(values)
    np.testing.assert_allclose(mean, norm.running_mean.numpy(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(variance, norm.running_var.numpy(), rtol=1e-6)


def test_weights_with_a_count_come_back_and_agree(
    small_caffe_run: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reid.export.api.export_checkpoint", lambda *_: iter(()))  # no ONNX
    out = str(tmp_path / "out")
    command = ["export", str(small_caffe_run.run), "--out", out, "--caffe", "--no-parity"]
    assert main([*command, "--bn-count", "10"]) == 0
    assert "msp_cnn.caffemodel" in capsys.readouterr().out
    prototxt, caffemodel = (
        tmp_path / "out" / f"msp_cnn.{end}" for end in ("prototxt", "caffemodel")
    )
    crop = np.random.default_rng(0).integers(0, 256, (72, 28, 3), np.uint8)
    assert prove_layers(small_caffe_run.run, caffemodel, [crop]).report.passed
    imported = checkpoint_from_caffe(prototxt, caffemodel, tmp_path / "run")
    assert any("scale factor 10" in line for line in imported.lines)
    state = load_checkpoint(tmp_path / "run" / "checkpoint.pt").model
    for key, value in small_caffe_run.network.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=2e-7, atol=0)


def test_a_count_without_caffe_files_is_refused(
    small_caffe_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(small_caffe_run.run), "--out", str(tmp_path), "--bn-count", "10"]
    assert main(command) == 1
    assert "bn_count" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_imported_run_evaluates_and_exports_like_the_trained_one(
    tiny_run: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", "synthetic", "--data-root", str(people)]
    files = caffe_from_checkpoint(tiny_run, tmp_path)
    run = tmp_path / "imported"
    command = ["import-caffe", str(files.prototxt), str(files.caffemodel), "--out", str(run)]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{run}\n"
    figures = []
    for model in (tiny_run, run):
        assert main(["eval", str(model), *data, "--json"]) == 0
        (report,) = json.loads(capsys.readouterr().out)["models"]
        figures.append([report[key] for key in ("cmc", "map_step", "map_trapezoid")])
    assert figures[0] == figures[1]
    graphs = []
    for model, name in ((tiny_run, "trained"), (run, "again")):
        out = str(tmp_path / name)
        assert main(["export", str(model), "--out", out, "--no-parity"]) == 0
        graphs.append(onnx.load(tmp_path / name / "msp_cnn.fp32.onnx").graph)
    # What a builder makes an engine of is the same to the last bit.
    assert graphs[0].SerializeToString() == graphs[1].SerializeToString()


def test_an_embedding_after_the_relu_ends_the_graph_with_it(tiny_run: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_run / "checkpoint.pt")
    network = dataclasses.replace(checkpoint.config.network, embed_at="relu")
    config = dataclasses.replace(checkpoint.config, network=network)
    manifest = dataclasses.replace(checkpoint.manifest, output_meaning="fc7_relu")
    path = tmp_path / "run" / "checkpoint.pt"
    save_checkpoint(path, dataclasses.replace(checkpoint, config=config, manifest=manifest))
    files = caffe_from_checkpoint(path, tmp_path)
    last = read_net(files.prototxt).message.layer[-1]
    assert (last.type, last.name, list(last.top)) == ("ReLU", "fc7_relu", ["fc7_relu"])
    assert files.manifest.output_name == "fc7_relu"
    checkpoint_from_caffe(files.prototxt, files.caffemodel, tmp_path / "back")
    back = load_checkpoint(tmp_path / "back/checkpoint.pt")
    assert back.config.network.embed_at == "relu"
    assert back.manifest.output_meaning == "fc7_relu"


@pytest.mark.parametrize("size", range(1, 40))
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 2, 0), (3, 2, 1), (2, 2, 0), (3, 1, 1)])
def test_sizes_are_counted_as_caffe_s_loops_count_them(
    size: int, kernel: int, stride: int, pad: int
) -> None:
    if size + 2 * pad < kernel:
        return
    starts = [start for start in range(-pad, size + pad, stride) if start + kernel <= size + pad]
    assert conv_size(size, kernel, stride, pad) == len(starts)
    # Pooling: as many windows as cover the padded map, none beginning behind map and pad.
    covered = 1
    while -pad + (covered - 1) * stride + kernel < size + pad:
        covered += 1
    while pad and (covered - 1) * stride - pad >= size:
        covered -= 1
    assert pooled_size(size, kernel, stride, pad) == covered


def test_a_crop_that_caffe_would_round_otherwise_is_refused_by_the_layer_s_name() -> None:
    network = MspCnn(3)
    network.pool1 = torch.nn.AvgPool2d(2, 2)  # rounds down; of a maximum the rest can be cut off
    with pytest.raises(BuildError, match=r"pool1: .*145x57 .*PyTorch gives 72x28, Caffe"):
        traced_layers(network, (3, 145, 57))


@pytest.mark.parametrize("shape", [(3, 145, 57), (3, 128, 64), (3, 16, 8), (3, 224, 224)])
def test_every_crop_of_the_network_can_be_said_in_caffe(shape: tuple[int, int, int]) -> None:
    layers = traced_layers(MspCnn(3), shape)
    (pool,) = (layer for layer in layers if layer.name == "global_pool")
    assert pool.shape == (1536, 1, 1)


def scaled_statistics(weights: NetParameter, factor: float) -> None:
    for layer in weights.layer:
        if layer.type == "BatchNorm":
            blobs = [blob_array(blob) * np.float32(factor) for blob in layer.blobs]
            del layer.blobs[:]
            layer.blobs.extend(map(blob_from_array, blobs))


def test_stock_statistics_are_divided_by_their_scale_factor(caffe_run: Any, tmp_path: Path) -> None:
    weights = read_weights(caffe_run.caffemodel)
    scaled_statistics(weights, 999.9812)
    write_weights(tmp_path / "scaled.caffemodel", weights)
    imported = checkpoint_from_caffe(
        caffe_run.prototxt, tmp_path / "scaled.caffemodel", tmp_path / "run"
    )
    assert "stock BatchNorm: statistics divided by scale factor 999.981" in imported.lines
    network = ModelFile.at(tmp_path / "run").network()
    for key, value in caffe_run.network.state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], value, rtol=2e-7, atol=0)


def test_a_scale_factor_of_zero_means_no_statistics(caffe_run: Any, tmp_path: Path) -> None:
    weights = read_weights(caffe_run.caffemodel)
    blob = layer_named(weights, "conv2_bn").blobs[2]
    blob.CopyFrom(blob_from_array(np.zeros(1, np.float32)))
    write_weights(tmp_path / "zero.caffemodel", weights)
    imported = checkpoint_from_caffe(
        caffe_run.prototxt, tmp_path / "zero.caffemodel", tmp_path / "run"
    )
    assert any("scale factor 0, 1 (0: its statistics are all zero)" in x for x in imported.lines)
    state = load_checkpoint(tmp_path / "run" / "checkpoint.pt").model
    assert not state["conv2.bn.running_mean"].any()
    assert not state["conv2.bn.running_var"].any()
    assert state["conv3.bn.running_var"].all()
