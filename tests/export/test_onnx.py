"""The exported file: equal to the network, self-describing, whole or absent."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from reid.errors import BuildError, ConfigError, ModelFileError
from reid.export import onnx as onnx_export
from reid.export.onnx import export_graph, export_onnx
from reid.model_file.manifest import METADATA_KEY, Manifest, manifest_path, read_manifest
from reid.model_file.onnx_seal import HASH_KEY, SEALED_KEY
from reid.model_file.preprocess import Preprocess
from reid.models import graphs_of
from reid.models.graphs import Graph
from reid.runtime.onnx_runner import OnnxRunner
from reid.types import ArraySpec

LARGEST_ERROR = {"fp32": 2e-6, "fp16": 1e-3}  # ten times what was measured


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_one_file_answers_as_the_network_in_batches_of_1_and_3_and_16(exported, crops, precision):
    data = Preprocess().batch(crops)
    expected = exported.reference().run({"data": data})["embedding"]
    with OnnxRunner(exported.files[precision], device="cpu") as runner:
        for size in (1, 3, 16):
            found = runner.run({"data": data[:size]})["embedding"]
            assert found.dtype == np.float32
            assert np.abs(found - expected[:size]).max() < LARGEST_ERROR[precision]


def test_embeddings_have_length_one(exported, crops):
    with OnnxRunner(exported.files["fp16"], device="cpu") as runner:
        rows = runner.run({"data": Preprocess().batch(crops[:3])})["embedding"]
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-6)


def test_exporting_leaves_the_callers_network_as_it_was(exported):
    state = exported.network.state_dict()
    assert state.keys() == exported.state_before.keys()
    for key, before in exported.state_before.items():
        assert state[key].dtype == before.dtype
        assert torch.equal(state[key], before), key
    assert exported.network.training
    assert all(parameter.requires_grad for parameter in exported.network.parameters())


def test_exporting_prints_nothing_on_stdout(exported):
    assert exported.stdout == ""


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_manifest_inside_equals_the_one_beside_but_for_the_files_hash(exported, precision):
    path = exported.files[precision]
    sealed, entry, last = onnx.load(path).metadata_props
    assert (sealed.key, entry.key, last.key) == (SEALED_KEY, METADATA_KEY, HASH_KEY)
    inside, beside = Manifest.from_json(entry.value, "inside"), read_manifest(path)
    assert inside.file_sha256 == ""
    assert len(beside.file_sha256) == 64
    assert dataclasses.replace(inside, file_sha256=beside.file_sha256) == beside
    assert beside == exported.manifests[precision]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_file_without_its_manifest_is_checked_by_the_hash_inside(exported, precision, tmp_path):
    alone = tmp_path / "alone.onnx"
    content = bytearray(exported.files[precision].read_bytes())
    alone.write_bytes(content)
    with OnnxRunner(alone, device="cpu") as runner:
        assert runner.manifest.precision == precision
    content[len(content) // 2] ^= 0x80  # the sign of a weight
    alone.write_bytes(content)
    with pytest.raises(ModelFileError, match="was damaged or changed after its export"):
        OnnxRunner(alone, device="cpu")


def test_manifest_says_what_the_graph_is(exported):
    manifest = exported.manifests["fp16"]
    assert (manifest.network, manifest.stage) == ("msp_cnn", "embed")
    assert (manifest.input_name, manifest.output_name) == ("data", "embedding")
    assert manifest.precision == "fp16"
    assert manifest.fp32_islands == ("l2_normalise",)
    assert manifest.opset == onnx.load(exported.files["fp16"]).opset_import[0].version
    assert manifest.source_sha256 == "c0ffee"  # the checkpoint's
    assert manifest.parity == {}  # not checked yet


def test_nodes_and_weights_carry_the_names_of_the_layers(exported):
    graph = onnx.load(exported.files["fp32"]).graph
    names = [node.name for node in graph.node]
    assert {"conv1.conv/Conv", "inception_3b/Concat", "fc7/Gemm", "l2_normalise/Div"} <= {*names}
    assert len(set(names)) == len(names)
    weights = {weight.name for weight in graph.initializer}
    assert {"conv1.conv.weight", "inception_1a.double_3x3_2.conv.bias", "fc7.bias"} <= weights


def test_batch_norms_are_folded_and_the_classifier_is_left_out(exported):
    graph = onnx.load(exported.files["fp32"]).graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    assert not [weight.name for weight in graph.initializer if "fc8" in weight.name]


def test_file_is_single_and_holds_no_path_of_this_machine(exported):
    path = exported.files["fp32"]
    assert {p.name for p in path.parent.iterdir()} == {
        name for file in exported.files.values() for name in (file.name, f"{file.name}.json")
    }
    content = path.read_bytes()
    assert b".py" not in content
    assert str(Path(onnx_export.__file__).parent).encode() not in content


class Compare(nn.Module):
    def forward(self, query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
        product = gallery @ query.transpose(1, 2)
        return product.sum(dim=(1, 2))[:, None], product


def test_graph_of_several_arrays_keeps_their_names_and_which_is_batched(tmp_path):
    graph = Graph(
        "compare",
        Compare(),
        (ArraySpec("query", (2, 3), batched=False), ArraySpec("gallery", (2, 3))),
        (ArraySpec("score", (1,)), ArraySpec("product", (2, 2))),
    )
    path = tmp_path / "compare.onnx"
    manifest = export_graph(graph, Manifest("csn", "train", Preprocess()), path, fp16=False)
    assert (manifest.stage, manifest.inputs, manifest.outputs) == (
        "compare",
        graph.inputs,
        graph.outputs,
    )
    query = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    with OnnxRunner(path, device="cpu") as runner:
        assert runner.manifest == manifest
        for size in (1, 4):
            gallery = np.arange(6 * size, dtype=np.float32).reshape(size, 2, 3)
            found = runner.run({"query": query, "gallery": gallery})
            assert list(found) == ["score", "product"]
            product = gallery @ query.swapaxes(1, 2)
            assert np.array_equal(found["product"], product)
            assert np.array_equal(found["score"][:, 0], product.sum(axis=(1, 2)))


def test_stage_that_the_network_does_not_have_is_refused(exported, tmp_path):
    with pytest.raises(BuildError, match="msp_cnn has the graphs embed, found 'compare'"):
        export_onnx(
            exported.network, exported.trained_manifest, tmp_path / "m.onnx", graph="compare"
        )
    assert list(tmp_path.iterdir()) == []


def test_killed_export_leaves_nothing(exported, tmp_path, monkeypatch):
    model = onnx.load(exported.files["fp32"])
    monkeypatch.setattr(onnx_export, "_traced", lambda graph, opset: model)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reid.files.os.replace", interrupted)
    (graph,) = graphs_of(exported.network, "msp_cnn", (3, 144, 56))
    with pytest.raises(KeyboardInterrupt):
        export_graph(graph, exported.trained_manifest, tmp_path / "model.onnx", fp16=False)
    assert list(tmp_path.iterdir()) == []


def test_graph_of_the_wrong_precision_is_refused_before_anything_is_written(
    exported, tmp_path, monkeypatch
):
    model = onnx.load(exported.files["fp32"])
    monkeypatch.setattr(onnx_export, "_traced", lambda graph, opset: model)
    (graph,) = graphs_of(exported.network, "msp_cnn", (3, 144, 56))
    with pytest.raises(BuildError, match="computes in fp16"):
        export_graph(graph, exported.trained_manifest, tmp_path / "model.onnx", fp16=True)
    assert list(tmp_path.iterdir()) == []


class MisnamedNetwork(nn.Module):
    """``fc_bn`` does not follow ``fc``: folding by name would change the output."""

    embedding_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 4)
        self.fc_bn = nn.BatchNorm1d(4)
        nn.init.constant_(self.fc_bn.running_mean, 3.0)

    def embed(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def test_batch_norm_that_does_not_follow_its_layer_is_noticed(tmp_path):
    preprocess = Preprocess(resize_height=2, resize_width=2, crop_height=2, crop_width=2)
    manifest = Manifest("msp_cnn", "train", preprocess)
    with pytest.raises(BuildError, match="folding the batch norms changed 'embedding'"):
        export_onnx(MisnamedNetwork(), manifest, tmp_path / "model.onnx")


def test_unknown_network_is_refused_and_the_nearest_named(tmp_path):
    manifest = Manifest("msp_cn", "train", Preprocess())
    with pytest.raises(ConfigError, match="did you mean 'msp_cnn'"):
        export_onnx(nn.Identity(), manifest, tmp_path / "model.onnx")


def test_graph_that_pytorch_cannot_export_is_one_line(tmp_path):
    class Undecided(nn.Module):
        def forward(self, data: Tensor) -> Tensor:
            return data if bool(data.sum() > 0) else -data

    graph = Graph(
        "embed", Undecided(), (ArraySpec("data", (3, 2, 2)),), (ArraySpec("embedding", (3,)),)
    )
    manifest = Manifest("msp_cnn", "train", Preprocess())
    with pytest.raises(BuildError, match="cannot export the graph") as caught:
        export_graph(graph, manifest, tmp_path / "model.onnx", fp16=False)
    assert "\n" not in str(caught.value)
    assert not manifest_path(tmp_path / "model.onnx").exists()
