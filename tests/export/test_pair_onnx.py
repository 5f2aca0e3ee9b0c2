"""CSN's exported graphs: equal to the network in any batch, half where they say so, readable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from reid.cli import main
from reid.errors import ConfigError, ModelFileError
from reid.export.onnx import export_graph, prepared_graphs
from reid.export.pipeline import export_checkpoint, one_of_each
from reid.export.precision import prove_precision
from reid.files import sha256_of_file
from reid.matching import open_matcher
from reid.model_file.manifest import Manifest, read_manifest
from reid.model_file.preprocess import Preprocess
from reid.runtime import open_runners
from reid.runtime.onnx_runner import OnnxRunner
from reid.training.checkpoint import runners_from_checkpoint
from reid.types import FloatArray
from tests.models.csn.test_graphs import lively

Capture = pytest.CaptureFixture[str]
GRAPHS = ("describe", "compare", "pair")
LARGEST_ERROR = {"fp32": 2e-6, "fp16": 3e-3}  # of the largest value; ten times what was measured


@pytest.fixture(scope="module")
def asked(pair_run: Any, crops: list[Any]) -> dict[str, tuple[dict[str, FloatArray], Any]]:
    """Each graph's inputs of 64 images and what the network itself answers."""
    runners = runners_from_checkpoint(pair_run.run / "checkpoint.pt", "cpu", 1)
    data = runners["describe"].manifest.preprocess.batch(crops * 4)
    described = runners["describe"].run({"data": data})
    compared = {f"query_{name}": array[5:6] for name, array in described.items()}
    compared |= {f"gallery_{name}": array for name, array in described.items()}
    pairs = {"first": data, "second": np.ascontiguousarray(data[::-1])}
    inputs = {"describe": {"data": data}, "compare": compared, "pair": pairs}
    return {graph: (given, runners[graph].run(given)) for graph, given in inputs.items()}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_answers_as_the_network_in_batches_of_1_and_3_and_64(
    pair_run: Any, asked: Any, graph: str, precision: str
) -> None:
    inputs, expected = asked[graph]
    with OnnxRunner(pair_run.file(graph, precision), "cpu") as runner:
        batched = {spec.name for spec in runner.manifest.input_arrays if spec.batched}
        for size in (1, 3, 64):
            given = {name: a[:size] if name in batched else a for name, a in inputs.items()}
            found = runner.run(given)
            assert list(found) == list(expected)
            for name, array in found.items():
                assert array.dtype == np.float32
                twins = expected[name][:size] > 10 if name == "score" else np.zeros((), bool)
                wanted, got = (np.where(twins, 0, a) for a in (expected[name][:size], array))
                limit = LARGEST_ERROR[precision] * max(1.0, float(np.abs(wanted).max()))
                assert np.abs(got - wanted).max() < limit


def test_files_are_named_by_stage_and_list_their_arrays(pair_run: Any) -> None:
    names = [exported.path.name for exported in pair_run.exported]
    precisions = ("fp32", "fp16")
    assert names == [f"csn.{graph}.{p}.onnx" for p in precisions for graph in GRAPHS]
    manifest = read_manifest(pair_run.file("compare", "fp16"))
    assert (manifest.stage, manifest.precision, manifest.opset) == ("compare", "fp16", 18)
    words = [spec.words() for spec in manifest.input_arrays]
    assert words == [
        "query_maps3 (1, 96, 10, 5)",
        "query_parts3 (1, 3, 96, 5, 5)",
        "query_vector (1, 256)",
        "gallery_maps3 (N, 96, 10, 5)",
        "gallery_parts3 (N, 3, 96, 5, 5)",
        "gallery_vector (N, 256)",
    ]
    assert [spec.words() for spec in manifest.output_arrays] == ["score (N)"]
    assert manifest.checkpoint_sha256 == sha256_of_file(pair_run.run / "checkpoint.pt")


def test_the_size_of_a_stored_description_is_reported(pair_run: Any) -> None:
    describe, *others = pair_run.exported[:3]
    kept = 96 * 10 * 5 + 3 * 96 * 5 * 5 + 256
    assert describe.description_bytes == 4 * kept
    assert describe.words().endswith("; each gallery image takes 49 kB, 25 kB as float16")
    assert [other.description_bytes for other in others] == [0, 0]
    assert [exported.on_request for exported in pair_run.exported[:3]] == [False, False, True]


@pytest.mark.parametrize("graph", GRAPHS)
def test_fp16_graphs_compute_in_half_but_for_the_length_and_the_score(
    pair_run: Any, graph: str
) -> None:
    proof = prove_precision(pair_run.file(graph, "fp16"), "fp16")
    assert proof.compute_nodes == proof.total_compute_nodes
    assert proof.fp32_weight_share < 1e-4
    islands = {
        "describe": ("ranking.l2_normalise",),
        "compare": ("score",),
        "pair": ("ranking.l2_normalise", "score"),
    }
    assert proof.fp32_islands == islands[graph]


def test_tables_of_indices_survive_halving(pair_run: Any) -> None:
    graphs = [onnx.load(pair_run.file("compare", p)).graph for p in ("fp32", "fp16")]
    tables = [
        sorted(w.raw_data for w in graph.initializer if w.data_type == onnx.TensorProto.INT64)
        for graph in graphs
    ]
    assert tables[0] == tables[1]
    sizes = {len(table) // 8 for table in tables[0]}
    assert {5 * 5, 5 * 5 * 10, 10 * 5} <= sizes  # columns, rows of the map, rows of the maps


def test_the_compare_graph_is_short_and_named_by_its_layers(pair_run: Any) -> None:
    graph = onnx.load(pair_run.file("compare")).graph
    names = [node.name for node in graph.node]
    assert len(names) < 60
    assert len(set(names)) == len(names)
    wanted = {"query_map.0/MatMul", "query_parts.0/MatMul", "conv4.conv/Conv", "score/Softmax"}
    assert wanted <= set(names)
    whole_maps = [node for node in graph.node if node.op_type == "Transpose"]
    assert len(whole_maps) <= 6
    assert "BatchNormalization" not in {node.op_type for node in graph.node}


def test_pools_inside_the_products_are_computed_in_half_and_change_no_score(tmp_path: Path) -> None:
    manifest = Manifest("csn", "train", Preprocess(80, 40, 80, 40))
    network = lively(levels=(2, 3))
    images = torch.randn(5, 3, 80, 40) * torch.linspace(0.2, 4, 5).view(5, 1, 1, 1)
    describe, compare, _ = prepared_graphs(network, manifest, fp16=False)
    with torch.inference_mode():
        arrays = [*describe.module(images)[:-1], torch.eye(5, 256)]  # vectors far from each other
        sides = [*(array[:1] for array in arrays), *(array[1:] for array in arrays)]
        expected = compare.module(*sides).numpy()
    assert expected.std() > 1e-2  # many times the limits below
    given = {spec.name: side.numpy() for spec, side in zip(compare.inputs, sides, strict=True)}
    _, half, _ = prepared_graphs(network, manifest, fp16=True)
    for graph, precision in ((compare, "fp32"), (half, "fp16")):
        path = tmp_path / f"csn.compare.{precision}.onnx"
        written = export_graph(graph, manifest, path, fp16=precision == "fp16")
        assert written.fp32_islands == (("score",) if precision == "fp16" else ())
        operators = [node.op_type for node in onnx.load(path).graph.node]
        assert operators.count("MatMul") == 1 + 3 + 2  # level 2 by Winograd's products
        with OnnxRunner(path, "cpu") as runner:
            found = runner.run(given)["score"]
        np.testing.assert_allclose(found, expected, atol=LARGEST_ERROR[precision])


def test_pair_is_written_only_where_asked_for(pair_run: Any, tmp_path: Path) -> None:
    first = next(export_checkpoint(pair_run.run, tmp_path, ("fp32",)))
    assert first.path.name == "csn.describe.fp32.onnx"
    assert not list(tmp_path.glob("*.pair.*"))


def test_a_network_of_vectors_has_no_graph_of_pairs(
    tiny_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    with pytest.raises(ConfigError, match=r"msp_cnn has no graph 'pair' \(it has embed\)"):
        list(export_checkpoint(tiny_run, tmp_path, ("fp32",), ("pair",)))
    assert main(["export", str(tiny_run), "--out", str(tmp_path), "--also", "pair"]) == 1
    assert "remove --also pair" in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_one_verdict_is_for_both_halves(pair_run: Any) -> None:
    files = [exported.path for exported in pair_run.exported]
    names = [file.name for file in one_of_each(files)]
    assert names == [
        f"csn.{graph}.{precision}.onnx"
        for precision in ("fp32", "fp16")
        for graph in ("describe", "pair")
    ]
    assert [file.name for file in one_of_each(files[1::-1])] == ["csn.compare.fp32.onnx"]


def renamed(pair_run: Any, folder: Path, graph: str, name: str) -> Path:
    file = pair_run.copied_to(folder, graph)
    for suffix in ("", ".json"):
        Path(f"{file}{suffix}").rename(folder / f"{name}{suffix}")
    return folder / name


def test_a_missing_half_is_named(pair_run: Any, tmp_path: Path) -> None:
    file = pair_run.copied_to(tmp_path, "compare")
    with pytest.raises(ModelFileError, match=r"'describe' graph, csn\.describe\.fp32\.onnx"):
        open_runners(file, "cpu")


def test_a_half_under_a_name_of_its_own_is_refused(pair_run: Any, tmp_path: Path) -> None:
    file = renamed(pair_run, tmp_path, "describe", "model.onnx")
    with pytest.raises(ModelFileError, match=r"is the 'describe' graph .*expected \.describe\. in"):
        open_runners(file, "cpu")


def test_describe_under_the_name_of_compare_is_refused(pair_run: Any, tmp_path: Path) -> None:
    renamed(pair_run, tmp_path, "describe", "csn.compare.fp32.onnx")
    file = pair_run.copied_to(tmp_path, "describe")
    with pytest.raises(ModelFileError, match="graph 'describe', expected 'compare'"):
        open_runners(file, "cpu")
    with pytest.raises(ModelFileError, match=r"expected \.describe\. in its name"):
        open_runners(tmp_path / "csn.compare.fp32.onnx", "cpu")


def test_halves_of_two_precisions_or_runs_are_refused(pair_run: Any, tmp_path: Path) -> None:
    file = pair_run.copied_to(tmp_path, "describe", precision="fp16")
    other = renamed(pair_run, tmp_path, "compare", "csn.compare.fp16.onnx")
    with pytest.raises(ModelFileError, match=r"is fp32, csn\.describe\.fp16\.onnx is fp16"):
        open_runners(file, "cpu")
    body = json.loads(Path(f"{other}.json").read_text())
    Path(f"{other}.json").write_text(json.dumps({**body, "checkpoint_sha256": "0" * 64}))
    with pytest.raises(ModelFileError, match="comes from another checkpoint than"):
        open_runners(file, "cpu")


def test_a_pair_file_ranks_no_gallery(pair_run: Any, capsys: Capture, people: Path) -> None:
    with pytest.raises(ModelFileError, match="scores two images at once"):
        open_matcher(pair_run.file("pair"), "cpu")
    command = ["eval", str(pair_run.file("pair")), "--data", "synthetic"]
    assert main([*command, "--data-root", str(people)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "name the 'describe' or 'compare' file of the same export" in line
    assert str(pair_run.file("pair")) in line
