"""The exported Caffe files in OpenCV against PyTorch: every blob, and what must be caught."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid.caffe.files import blob_array, blob_from_array, read_net, write_net
from reid.caffe.schema import NetParameter
from reid.cli import main
from reid.config.settings import OptimizerConfig
from reid.errors import CaffeError, ManifestError, ModelFileError, ParityError
from reid.export import pipeline
from reid.export.caffe.graph import TracedNetwork, traced_layers
from reid.export.caffe.parity import prove_layers
from reid.export.caffe.parity_report import ALLOWED, BlobCheck, LayerReport
from reid.export.caffe.writing import caffe_from_checkpoint
from reid.export.parity.proof import Proof
from reid.model_file.manifest import manifest_path, read_manifest, write_manifest
from reid.model_file.preprocess import Preprocess
from reid.training.checkpoint import load_checkpoint, save_checkpoint
from reid.training.solver import CaffeSgd, parameter_groups
from reid.types import Image

Capture = pytest.CaptureFixture[str]
MEASURED = 2e-5
"""No blob of a right export comes near ALLOWED: the worst seen is 7e-6."""


def layer_named(net: NetParameter, name: str) -> Any:
    (layer,) = (layer for layer in net.layer if layer.name == name)
    return layer


def test_every_blob_agrees_at_batch_1_and_3(caffe_run: Any, crops: list[Image]) -> None:
    proof = prove_layers(caffe_run.run, caffe_run.caffemodel, crops[:4])
    report = proof.report
    assert (report.num_crops, report.batch_sizes) == (4, (1, 3))
    layers = traced_layers(caffe_run.network, Preprocess().input_shape)
    assert [check.blob for check in report.blobs] == list(
        dict.fromkeys(top for layer in layers for top in layer.tops)
    )
    assert len(report.blobs) == 95
    assert report.passed
    assert report.worst < MEASURED


def test_every_blob_agrees_after_training_moved_the_weights(
    caffe_run: Any, crops: list[Image], tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(caffe_run.run / "checkpoint.pt")
    network = copy.deepcopy(caffe_run.network).train()
    solver = CaffeSgd(parameter_groups(network, OptimizerConfig()), OptimizerConfig())
    solver.set_rate(0.02)
    small = Preprocess(40, 20, 32, 16)
    images, labels = torch.from_numpy(small.batch(crops[:8])), torch.arange(8) % 7
    for _ in range(4):
        solver.zero_grad()
        torch.nn.functional.cross_entropy(network(images).fc8, labels).backward()  # type: ignore[no-untyped-call]
        solver.step()
    moved = network.state_dict()
    assert not torch.equal(moved["conv1.conv.weight"], checkpoint.model["conv1.conv.weight"])
    save_checkpoint(tmp_path / "run.pt", dataclasses.replace(checkpoint, model=moved))
    files = caffe_from_checkpoint(tmp_path / "run.pt", tmp_path)
    report = prove_layers(tmp_path / "run.pt", files.caffemodel, crops[4:8]).report
    assert report.passed, report.text()
    assert report.worst < MEASURED


def test_the_blobs_are_the_network_s_own_values(caffe_run: Any, crops: list[Image]) -> None:
    data = Preprocess().batch(crops[:2])
    blobs = TracedNetwork(caffe_run.network).blobs(data)
    with torch.inference_mode():
        pool1 = caffe_run.network.low_level(torch.from_numpy(data)).numpy()
        embedding = caffe_run.network.embed(torch.from_numpy(data)).numpy()
    np.testing.assert_array_equal(blobs["data"], data)
    np.testing.assert_allclose(blobs["pool1"], pool1, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(blobs["fc7_bn"], embedding, rtol=1e-5, atol=1e-5)
    assert blobs["conv1_bn"].min() == 0  # after the ReLU that works in place
    assert blobs["fc7_bn"].min() < 0


def proof_of_spoilt(
    small_caffe_run: Any,
    crops: Sequence[Image],
    folder: Path,
    graph: Callable[[NetParameter], None] | None = None,
    weights: Callable[[NetParameter], None] | None = None,
) -> Proof[LayerReport]:
    """Spoil the graph or the weights of a copy, and compare it with what it came from."""
    _, caffemodel = small_caffe_run.changed_to(folder, graph, weights)
    return prove_layers(small_caffe_run.run, caffemodel, crops[:1])


def changed_blob(name: str, index: int, share: float) -> Callable[[NetParameter], None]:
    """One value off by a share of the blob's largest."""

    def change(net: NetParameter) -> None:
        blob = layer_named(net, name).blobs[index]
        values = blob_array(blob)
        values.flat[values.size // 2] += share * np.abs(values).max()
        blob.CopyFrom(blob_from_array(values))

    return change


@pytest.mark.parametrize(
    ("name", "index", "blob"),
    [
        ("conv1", 0, "conv1"),
        ("inception_2a/3x3", 0, "inception_2a/3x3"),
        ("inception_3b/double_3x3_2", 1, "inception_3b/double_3x3_2"),
        ("conv3_bn", 1, "conv3_bn"),
        ("inception_1b/3x3_bn_scale", 0, "inception_1b/3x3_bn"),
        ("fc7", 0, "fc7"),
        ("fc7_bn_scale", 1, "fc7_bn"),
    ],
)
def test_one_weight_that_is_off_is_found_at_its_layer(
    name: str, index: int, blob: str, small_caffe_run: Any, crops: list[Image], tmp_path: Path
) -> None:
    spoil = changed_blob(name, index, 0.5)
    proof = proof_of_spoilt(small_caffe_run, crops, tmp_path, weights=spoil)
    assert proof.report.first is not None
    assert proof.report.first.blob == blob
    with pytest.raises(ParityError, match=f"first difference at blob '{blob}' .*relative"):
        proof.settle()
    kept = read_manifest(proof.file).parity
    assert (kept["passed"], kept["first_disagreement"]) == (False, blob)


def conv_pad(net: NetParameter) -> None:
    layer_named(net, "inception_1b/3x3").convolution_param.pad[:] = [2]


def pool_pad(net: NetParameter) -> None:
    layer_named(net, "inception_3b/pool").pooling_param.pad_h = 0


def average(net: NetParameter) -> None:
    layer_named(net, "pool1").pooling_param.pool = 1


def no_relu(net: NetParameter) -> None:
    names = [layer.name for layer in net.layer]
    del net.layer[names.index("conv2_relu")]


def swapped(net: NetParameter) -> None:
    bottoms = layer_named(net, "inception_2a/output").bottom
    bottoms[0], bottoms[1] = bottoms[1], bottoms[0]


def another_eps(net: NetParameter) -> None:
    layer_named(net, "inception_3a/1x1_bn").batch_norm_param.eps = 0.01


def ends_early(net: NetParameter) -> None:
    names = [layer.name for layer in net.layer]
    del net.layer[names.index("fc7_bn") :]


@pytest.mark.parametrize(
    ("change", "blob", "why"),
    [
        (conv_pad, "inception_1b/3x3", r"shape \(64, 19, 8\), expected \(64, 18, 7\)"),
        (pool_pad, "inception_3b/pool", r"shape \(1024, 4, 2\), expected \(1024, 5, 2\)"),
        (average, "pool1", "relative error"),
        (no_relu, "conv2_bn", "relative error"),
        (swapped, "inception_2a/output", "relative error"),
        (another_eps, "inception_3a/1x1_bn", "relative error"),
        (ends_early, "fc7_bn", "missing: the graph was run up to fc7"),
    ],
)
def test_a_changed_graph_is_found_at_its_layer(
    change: Callable[[NetParameter], None],
    blob: str,
    why: str,
    small_caffe_run: Any,
    crops: list[Image],
    tmp_path: Path,
) -> None:
    proof = proof_of_spoilt(small_caffe_run, crops, tmp_path, graph=change)
    assert proof.report.first is not None
    assert proof.report.first.blob == blob
    with pytest.raises(ParityError, match=f"first difference at blob '{blob}' .*: {why}"):
        proof.settle()


def test_a_wrong_mean_is_found_in_the_first_blob(
    small_caffe_run: Any, crops: list[Image], tmp_path: Path
) -> None:
    _, caffemodel = small_caffe_run.copied_to(tmp_path)
    manifest = read_manifest(caffemodel)
    wrong = dataclasses.replace(manifest.preprocess, mean=(102.0, 102.0, 131.0))
    write_manifest(caffemodel, dataclasses.replace(manifest, preprocess=wrong))
    report = prove_layers(small_caffe_run.run, caffemodel, crops[:1]).report
    assert report.first is not None
    assert report.first.blob == "data"


def test_weights_that_are_not_finite_fail_and_are_null_in_json(
    small_caffe_run: Any, crops: list[Image], tmp_path: Path
) -> None:
    def spoil(net: NetParameter) -> None:
        layer_named(net, "conv2").blobs[1].CopyFrom(blob_from_array(np.full(32, np.nan)))

    report = proof_of_spoilt(small_caffe_run, crops, tmp_path, weights=spoil).report
    row = next(row for row in report.to_json()["blobs"] if row["blob"] == "conv2")
    assert (row["max_abs"], row["relative"], row["status"]) == (None, None, "FAILED")
    assert not report.passed
    assert json.loads(json.dumps(report.to_json(), allow_nan=False)) == report.to_json()


def test_without_a_manifest_the_head_is_used_and_said(
    small_caffe_run: Any, crops: list[Image], tmp_path: Path
) -> None:
    prototxt, caffemodel = small_caffe_run.copied_to(tmp_path)
    manifest_path(caffemodel).unlink()
    text = read_net(prototxt)
    head = [line.replace("mean: 102, 102, 101", "mean: 102, 102, 131") for line in text.head]
    write_net(prototxt, text.message, head)
    report = prove_layers(small_caffe_run.run, caffemodel, crops[:1]).report
    assert report.remarks == (
        "no manifest beside msp_cnn.caffemodel: used the comments in its prototxt",
    )
    assert report.first is not None
    assert report.first.blob == "data"


def other_weights(prototxt: Path, caffemodel: Path) -> None:
    caffemodel.write_bytes(caffemodel.read_bytes() + b"\x0a\x01x")


def no_prototxt(prototxt: Path, caffemodel: Path) -> None:
    prototxt.unlink()


def no_caffemodel(prototxt: Path, caffemodel: Path) -> None:
    caffemodel.unlink()


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (other_weights, ManifestError, "describes another file"),
        (no_prototxt, CaffeError, "cannot read a prototxt from"),
        (no_caffemodel, CaffeError, "no caffemodel .*reid export RUN --caffe"),
    ],
)
def test_files_that_cannot_be_compared_are_one_line(
    change: Callable[[Path, Path], None],
    kind: type[Exception],
    words: str,
    small_caffe_run: Any,
    crops: list[Image],
    tmp_path: Path,
) -> None:
    prototxt, caffemodel = small_caffe_run.copied_to(tmp_path)
    change(prototxt, caffemodel)
    with pytest.raises(kind, match=words):
        prove_layers(small_caffe_run.run, caffemodel, crops[:1])


def test_a_layer_without_its_weights_is_named_before_opencv_trusts_the_file(
    small_caffe_run: Any, crops: list[Image], tmp_path: Path
) -> None:
    def empty(net: NetParameter) -> None:
        del layer_named(net, "conv2").blobs[:]

    expected = r"conv2: expected blobs \(\(32, 32, 3, 3\), .* found none"
    with pytest.raises(CaffeError, match=expected):
        proof_of_spoilt(small_caffe_run, crops, tmp_path, weights=empty)


def test_an_unknown_layer_ends_the_comparison_before_it(
    small_caffe_run: Any, crops: list[Image], tmp_path: Path
) -> None:
    def unknown(net: NetParameter) -> None:
        layer_named(net, "conv1_relu").type = "PReLU"

    report = proof_of_spoilt(small_caffe_run, crops, tmp_path, unknown).report
    assert "layer 'conv1_relu': unknown type 'PReLU'" in report.remarks[0]
    assert report.first is not None
    assert report.first.blob == "conv1_bn"
    assert [check.blob for check in report.blobs if check.ok] == ["data", "conv1"]


def test_the_reference_must_be_the_network_itself(
    small_caffe_run: Any, crops: list[Image], tmp_path: Path
) -> None:
    onnx = tmp_path / "a.onnx"
    onnx.write_bytes(b"0")
    with pytest.raises(ModelFileError, match=r"expected a run folder or a \.pt checkpoint"):
        prove_layers(onnx, small_caffe_run.caffemodel, crops[:1])


def report_of(*checks: BlobCheck) -> LayerReport:
    return LayerReport("a", "b", 4, (1, 3), checks)


def test_the_table_marks_the_first_disagreement_alone() -> None:
    good = BlobCheck("conv1", "conv1", (2, 3, 3), 1e-6, 1e-7)
    bad = BlobCheck("conv1_bn", "conv1_relu", (2, 3, 3), 0.5, 2e-4)
    gone = BlobCheck("pool1", "pool1", (2, 2, 2), problem="missing")
    lines = report_of(good, bad, gone).text().splitlines()
    assert [line.split()[0] for line in lines if "<- first difference" in line] == ["conv1_bn"]
    assert lines[-1] == "parity: FAILED (2)"
    assert lines[3] == "relative   max |a - b| / max |a| of a blob, allowed 0.0001"
    assert report_of(good).text().splitlines()[-1] == "parity: passed"


@pytest.mark.parametrize(("relative", "ok"), [(ALLOWED, True), (1.01 * ALLOWED, False)])
def test_the_limit_itself_is_allowed(relative: float, ok: bool) -> None:
    assert report_of(BlobCheck("a", "a", (1,), 0.1, relative)).passed is ok


def test_nothing_compared_is_no_pass() -> None:
    assert not report_of().passed


def test_a_crop_that_opencv_cannot_pool_is_refused_before_it_runs(
    tiny_run: Path, crops: list[Image], tmp_path: Path
) -> None:
    files = caffe_from_checkpoint(tiny_run, tmp_path)
    with pytest.raises(
        ModelFileError, match="OpenCV cannot pool the 4x2 map of 'inception_2b/pool'"
    ):
        prove_layers(tiny_run, files.caffemodel, crops[:1])


def test_what_opencv_itself_refuses_is_one_line(
    small_caffe_run: Any, crops: list[Image], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fork(net: NetParameter) -> None:
        layer = layer_named(net, "conv1_bn")
        layer.type = "BN"
        del layer.blobs[:]
        layer.blobs.extend(blob_from_array(np.ones((1, 32))) for _ in range(4))

    with pytest.raises(ModelFileError, match=r"^OpenCV 4\..* cannot run .*BN") as caught:
        proof_of_spoilt(small_caffe_run, crops, tmp_path, fork, fork)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_reid_export_caffe_writes_both_files_and_their_proof(
    caffe_run: Any, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The ONNX files beside them have tests of their own.
    monkeypatch.setattr("reid.export.api.export_checkpoint", lambda *arguments: iter(()))
    out = str(tmp_path)
    assert main(["export", str(caffe_run.run), "--out", out, "--caffe", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    names = ["msp_cnn.prototxt", "msp_cnn.caffemodel"]
    assert found["caffe"] == [str(tmp_path / name) for name in names]
    assert [proof["passed"] for proof in found["parity"]] == [True]
    assert found["parity"][-1]["batch_sizes"] == [1, 3, 4]
    assert "msp_cnn.caffemodel: parity passed on 8 crops, 95 blobs, worst" in shown.err
    kept = read_manifest(tmp_path / "msp_cnn.caffemodel").parity
    assert kept["candidate"].startswith("opencv 4.")
    assert str(tmp_path) not in json.dumps(kept)


def test_reid_parity_of_a_caffemodel_is_0_or_3_with_the_table(
    small_caffe_run: Any,
    people: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "MAX_LAYER_CROPS", 4)
    _, caffemodel = small_caffe_run.copied_to(tmp_path)
    command = ["parity", str(small_caffe_run.run), str(caffemodel)]
    command += ["--data", "synthetic", "--data-root", str(people)]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == "parity: passed"
    assert "crops      4, in batches of 1, 3" in shown.out
    small_caffe_run.changed_to(tmp_path, weights=changed_blob("inception_2b/3x3", 1, 1.0))
    assert main([*command, "--json"]) == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out)["first_disagreement"] == "inception_2b/3x3"
    line = shown.err.splitlines()[-1]
    assert line.startswith(
        f"reid: error: {caffemodel} (fp32) differs from {small_caffe_run.run} on 4 crops"
    )
