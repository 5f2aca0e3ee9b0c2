"""Real builds of the real network, by the provisioned builder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from reid.files import sha256_of_file
from reid.model_file.manifest import BatchProfile, read_manifest, write_manifest

pytestmark = pytest.mark.tensorrt

Build = Callable[[list[dict[str, Any]]], list[Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def engines(build: Build, onnx_files: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Both precisions, with a timing cache."""
    options = {"timing_cache_file": str(folder / "timing.cache"), "builder_optimization_level": 2}
    jobs = [
        {"onnx": str(file), "target": str(folder), "options": options}
        for file in onnx_files.values()
    ]
    return dict(zip(onnx_files, build(jobs), strict=True))


def test_both_precisions_build_under_names_that_say_what_they_are(engines: dict[str, Any]) -> None:
    for precision, outcome in engines.items():
        name = f"msp_cnn.rtx.trtrtx1.7.{precision}.b1-8-32+33-128-256.engine"
        assert Path(outcome["path"]).name == name
        assert outcome["seconds"] > 0


def test_the_fp16_plan_is_about_half_of_the_fp32_plan(engines: dict[str, Any]) -> None:
    assert 0.45 < engines["fp16"]["bytes"] / engines["fp32"]["bytes"] < 0.6


def test_the_manifest_beside_the_plan_says_where_it_runs_and_how_precision_was_proven(
    engines: dict[str, Any], onnx_files: dict[str, Path]
) -> None:
    for precision, outcome in engines.items():
        manifest = read_manifest(Path(outcome["path"]))
        assert manifest.precision == precision
        assert manifest.source_sha256 == sha256_of_file(onnx_files[precision])
        assert manifest.parity == {}
        assert manifest.engine is not None
        assert (manifest.engine.flavour, manifest.engine.tensorrt_version) == (
            "tensorrt_rtx",
            "1.7.1",
        )
        assert manifest.engine.profiles == (BatchProfile(1, 8, 32), BatchProfile(33, 128, 256))
        assert "parsed types" in manifest.engine.precision_proof
        assert "of the FP32 weights" in manifest.engine.precision_proof
        assert "not inspected" in manifest.engine.precision_proof


def test_the_timing_cache_is_written_and_its_use_reported(
    engines: dict[str, Any], folder: Path
) -> None:
    assert (folder / "timing.cache").stat().st_size > 0
    assert "timing cache" in engines["fp32"]["notes"][0]
    assert engines["fp32"]["notes"][0].endswith("new")


def test_progress_only_grows_and_ends_at_the_total(engines: dict[str, Any]) -> None:
    for outcome in engines.values():
        done = [call[0] for call in outcome["progress"]]
        assert done == sorted(done)
        assert len(set(done)) > 20
        assert outcome["progress"][-1][:2] == [1000, 1000]


def test_a_plan_leaves_no_half_written_file(engines: dict[str, Any], folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    plans = sorted(Path(outcome["path"]).name for outcome in engines.values())
    assert names == sorted([*plans, *(f"{plan}.json" for plan in plans), "timing.cache"])


def test_several_profiles_are_built_into_one_plan(
    build: Build, onnx_files: dict[str, Path], tmp_path: Path
) -> None:
    options = {"opt_batch": 1, "max_batch": 1, "more_profiles": [[2, 8, 32]]}
    job = {"onnx": str(onnx_files["fp32"]), "target": str(tmp_path), "options": options}
    path = Path(build([job])[0]["path"])
    assert path.name == "msp_cnn.rtx.trtrtx1.7.fp32.b1-1-1+2-8-32.engine"
    engine = read_manifest(path).engine
    assert engine is not None
    assert engine.profiles == (BatchProfile(1, 1, 1), BatchProfile(2, 8, 32))


def _copy(source: Path, target: Path, edit: Callable[[onnx.ModelProto], object]) -> Path:
    """An edited copy with a manifest of its own."""
    model = onnx.load(source)
    edit(model)
    onnx.save(model, target)
    write_manifest(target, dataclasses.replace(read_manifest(source)))
    return target


def _unknown_operator(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Conv").op_type = "Convolotion"


def _fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def _other_output(model: onnx.ModelProto) -> None:
    old = model.graph.output[0].name
    model.graph.output[0].name = "logits"
    for node in model.graph.node:
        node.output[:] = ["logits" if name == old else name for name in node.output]


@pytest.fixture(scope="module")
def refusals(
    build: Build, onnx_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What comes of files that must not become engines, and the folder they were built into."""
    folder = tmp_path_factory.mktemp("refused")
    fp32 = onnx_files["fp32"]
    mislabelled = _copy(fp32, folder / "mislabelled.onnx", lambda model: None)
    write_manifest(mislabelled, dataclasses.replace(read_manifest(fp32), precision="fp16"))
    truncated = folder / "truncated.onnx"
    truncated.write_bytes(fp32.read_bytes()[:100_000])
    write_manifest(truncated, read_manifest(fp32))
    files = {
        "unknown operator": _copy(fp32, folder / "operator.onnx", _unknown_operator),
        "fixed batch": _copy(fp32, folder / "batch.onnx", _fixed_batch),
        "other output": _copy(fp32, folder / "output.onnx", _other_output),
        "mislabelled": mislabelled,
        "truncated": truncated,
        "missing": folder / "missing.onnx",
    }
    target = folder / "engines"
    jobs = [{"onnx": str(file), "target": str(target)} for file in files.values()]
    interrupted = {"onnx": str(fp32), "target": str(target), "raise_at": 5}
    # The bench has no lean runtime to put into a version-compatible plan.
    failing = {"onnx": str(fp32), "target": str(target), "options": {"version_compatible": True}}
    outcomes = build([*jobs, interrupted, failing])
    found = dict(zip([*files, "interrupted", "failing build"], outcomes, strict=True))
    found["written"] = sorted(target.iterdir()) if target.exists() else []
    return found


def test_a_broken_graph_gives_the_parsers_words_with_the_nodes_name(
    refusals: dict[str, Any],
) -> None:
    outcome = refusals["unknown operator"]
    assert outcome["error"] == "BuildError"
    assert "'conv1.conv/Conv' (Convolotion)" in outcome["message"]
    assert "Plugin not found" in outcome["message"]
    assert "\n" not in outcome["message"]


def test_a_graph_that_only_calls_itself_fp16_is_refused(refusals: dict[str, Any]) -> None:
    outcome = refusals["mislabelled"]
    assert outcome["error"] == "BuildError"
    assert "is fp16 by its manifest, but 40 of 40" in outcome["message"]
    assert "FLOAT" in outcome["message"]


def test_a_graph_with_a_fixed_batch_is_refused(refusals: dict[str, Any]) -> None:
    assert refusals["fixed batch"]["error"] == "BuildError"
    assert "(1, 3, 144, 56)" in refusals["fixed batch"]["message"]


def test_a_graph_of_another_network_is_refused(refusals: dict[str, Any]) -> None:
    assert refusals["other output"]["error"] == "BuildError"
    assert "logits" in refusals["other output"]["message"]


def test_a_truncated_or_missing_file_is_refused(refusals: dict[str, Any]) -> None:
    for name in ("truncated", "missing"):
        assert refusals[name]["error"] == "BuildError"
        assert f"{name}.onnx" in refusals[name]["message"]
        assert "\n" not in refusals[name]["message"]


def test_an_interrupt_during_the_build_ends_it_as_an_interrupt(refusals: dict[str, Any]) -> None:
    assert refusals["interrupted"]["error"] == "KeyboardInterrupt"
    assert refusals["interrupted"]["calls"] == 5


def test_a_build_that_fails_gives_tensorrts_words_on_one_line(refusals: dict[str, Any]) -> None:
    outcome = refusals["failing build"]
    assert outcome["error"] == "BuildError"
    assert "TensorRT could not build the engine" in outcome["message"]
    assert "libnvinfer_lean" in outcome["message"]
    assert "\n" not in outcome["message"]


def test_what_is_refused_leaves_nothing_behind(refusals: dict[str, Any]) -> None:
    assert refusals["written"] == []


@pytest.fixture(scope="module")
def mirrored_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A network that averages the mirror image in, in both precisions, with pixels in too; and one
    of another program."""
    import torch

    import reid
    from reid.export.file_names import onnx_file_name
    from reid.export.mirror import with_mirror
    from reid.export.onnx import export_graph, from_pixels, prepared_graphs
    from reid.model_file.manifest import Manifest
    from reid.model_file.preprocess import Preprocess
    from reid.models.msp_cnn.network import MspCnn
    from tests.export.quantising.networks import write_network

    folder = tmp_path_factory.mktemp("mirrored")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MspCnn(num_identities=10)
    plain, files = Manifest("msp_cnn", "train", Preprocess(40, 20, 32, 16)), []
    for precision in ("fp32", "fp16"):
        (graph,) = prepared_graphs(network, plain, fp16=precision == "fp16")
        mirrored = with_mirror(graph, plain)
        for made, manifest in (mirrored, from_pixels(*mirrored)):
            files.append(folder / onnx_file_name(manifest, made.name, precision))
            export_graph(made, manifest, files[-1], fp16=precision == "fp16")
    source = write_network(folder / "net.onnx")
    adopted = reid.adopt(source, folder / "models", mean="imagenet", channels="RGB")
    with reid.load(adopted.path) as model:
        files += model.export(folder, mirror=True, prove=False).onnx
    return files


def test_graphs_with_the_mirror_image_inside_build_for_any_batch(
    build: Build, mirrored_files: list[Path], folder: Path
) -> None:
    jobs = [{"onnx": str(file), "target": str(folder), "options": {}} for file in mirrored_files]
    outcomes = build(jobs)
    assert [outcome.get("message") for outcome in outcomes] == [None] * 6
    for file, outcome in zip(mirrored_files, outcomes, strict=True):
        manifest = read_manifest(Path(outcome["path"]))
        assert manifest.mirrored
        assert manifest.precision in file.name
        assert ".mirror." in Path(outcome["path"]).name
