"""Real builds of CSN's graphs: one image, one query against a batch, a batch of pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from reid.model_file.manifest import read_manifest, write_manifest

pytestmark = pytest.mark.tensorrt


@pytest.fixture(scope="module")
def engines(
    build: Callable[[list[dict[str, Any]]], list[Any]],
    pair_onnx_files: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """File name of the ONNX -> what came of it."""
    folder = tmp_path_factory.mktemp("csn_engines")
    options = {"builder_optimization_level": 2, "opt_batch": 16, "max_batch": 64}
    jobs = [
        {"onnx": str(file), "target": str(folder), "options": options} for file in pair_onnx_files
    ]
    return dict(zip([file.name for file in pair_onnx_files], build(jobs), strict=True))


def test_every_graph_builds_in_its_precision_under_a_name_with_its_stage(
    engines: dict[str, Any],
) -> None:
    assert len(engines) == 4
    for name, outcome in engines.items():
        assert "error" not in outcome, outcome
        _, stage, precision, _ = name.split(".")
        manifest = read_manifest(Path(outcome["path"]))
        assert (manifest.stage, manifest.precision) == (stage, precision)
        expected = f"csn.{stage}.rtx.trtrtx1.7.{precision}.b1-16-64.engine"
        assert Path(outcome["path"]).name == expected
        assert manifest.engine is not None
        assert manifest.engine.precision_proof.startswith("parsed types")


def test_three_levels_build_at_the_papers_size(
    build: Callable[[list[dict[str, Any]]], list[Any]], large_compare_file: Path, tmp_path: Path
) -> None:
    options = {"builder_optimization_level": 2, "opt_batch": 64, "max_batch": 128}
    job = {"onnx": str(large_compare_file), "target": str(tmp_path), "options": options}
    (outcome,) = build([job])
    assert "error" not in outcome, outcome
    manifest = read_manifest(Path(outcome["path"]))
    assert (manifest.stage, manifest.precision) == ("compare", "fp16")
    assert [
        spec.shape for spec in manifest.input_arrays if spec.name.startswith("gallery_maps")
    ] == [
        (96, 40, 15),
        (96, 40, 15),
        (96, 20, 8),
    ]


def test_both_halves_of_an_engine_know_their_checkpoint(
    engines: dict[str, Any], pair_onnx_files: list[Path]
) -> None:
    sources = {read_manifest(file).checkpoint_sha256 for file in pair_onnx_files}
    manifests = [read_manifest(Path(outcome["path"])) for outcome in engines.values()]
    assert {manifest.checkpoint_sha256 for manifest in manifests} == sources
    assert len({manifest.source_sha256 for manifest in manifests}) == len(manifests)


def test_a_product_in_another_precision_than_the_manifests_is_refused(
    build: Callable[[list[dict[str, Any]]], list[Any]], pair_onnx_files: list[Path], tmp_path: Path
) -> None:
    """The correlations are matrix products: a compare graph with one in float32 is not fp16."""
    (source,) = [file for file in pair_onnx_files if file.name == "csn.compare.fp16.onnx"]
    model = onnx.load(source)
    (product,) = [node for node in model.graph.node if node.name == "query_map.0/MatMul"]
    for index, value in enumerate(product.input):
        cast = onnx.helper.make_node("Cast", [value], [f"{value}_single"], to=1)
        cast.name = f"query_map.0/Single_{index}"
        model.graph.node.insert(list(model.graph.node).index(product), cast)
        product.input[index] = f"{value}_single"
    answer = product.output[0]
    product.output[0] = f"{answer}_single"
    back = onnx.helper.make_node("Cast", [f"{answer}_single"], [answer], "query_map.0/Half", to=10)
    model.graph.node.insert(list(model.graph.node).index(product) + 1, back)
    del model.graph.value_info[:]
    spoilt = tmp_path / source.name
    onnx.save(model, spoilt)
    write_manifest(spoilt, read_manifest(source))
    (outcome,) = build([{"onnx": str(spoilt), "target": str(tmp_path)}])
    assert outcome["error"] == "BuildError"
    assert "(first: query_map.0/MatMul)" in outcome["message"]
