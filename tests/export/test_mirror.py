"""Graphs that average the mirror image in answer as a literal loop over both forms."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import reid
from reid.cli import main
from reid.config.settings import TrainConfig
from reid.data.golden_crops import golden_crops
from reid.errors import ConfigError, ParityError
from reid.export.mirror import with_mirror
from reid.export.onnx import export_graph, prepared_graphs
from reid.export.pipeline import export_checkpoint
from reid.model_file.manifest import Manifest, read_manifest, write_manifest
from reid.model_file.preprocess import Preprocess
from reid.models.sisnet.settings import SisNetSettings
from reid.training.checkpoint import Checkpoint, build_configured_network, save_checkpoint
from reid.types import FloatArray, Image
from tests.export.adopting.foreign import write_foreign
from tests.export.conftest import PairRun, enlivened, lively_network
from tests.export.quantising.networks import write_network
from tests.model_file.test_thresholds import THRESHOLDS

Capture = pytest.CaptureFixture[str]

ODD = Preprocess(69, 35, 64, 32, "RGB", (100.5, 101.25, 99.0), (58.0, 57.0, 56.5))
"""A crop with one column more on its right than on its left."""

ERROR = {"fp32": 1e-6, "fp16": 3e-4}
"""Largest error of a value; two forms differ by far more."""


@pytest.fixture(scope="module")
def crops() -> list[Image]:
    return list(golden_crops(7))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    manifest = Manifest("msp_cnn", "train", ODD, toolkit_version="0")
    state = lively_network().state_dict()
    checkpoint = Checkpoint(TrainConfig(preprocess=ODD), manifest, 7, state)
    save_checkpoint(folder / "checkpoint.pt", checkpoint)
    return folder


@pytest.fixture(scope="module")
def files(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All mirrored files of the run, by what stands after ``mirror`` in their names."""
    out, found = tmp_path_factory.mktemp("out"), {}
    for pixels in (False, True):
        for one in export_checkpoint(run, out, ("fp32", "fp16"), pixels=pixels, mirror=True):
            name = one.path.name.removeprefix("msp_cnn.mirror.").removesuffix(".onnx")
            found[name] = one.path
    return found


def unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def literal(network: torch.nn.Module, preprocess: Preprocess, crops: list[Image]) -> FloatArray:
    """One crop after the other through the network, as it is and from right to left."""
    rows = []
    for image in crops:
        crop = torch.from_numpy(preprocess(image))[None]
        with torch.inference_mode():
            forms = [network.embed(form).numpy() for form in (crop, crop.flip(3))]  # type: ignore[operator]
        rows.append(unit((unit(forms[0]) + unit(forms[1])) / 2))
    return np.concatenate(rows)


def embedded(path: Path, crops: list[Image], device: str = "cpu") -> FloatArray:
    with reid.load(path, device) as model:
        return model.embed(crops).vectors


@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize("name", ["fp32", "fp16", "pixels.fp32", "pixels.fp16"])
def test_each_file_answers_as_the_literal_loop(
    files: dict[str, Path], crops: list[Image], name: str, device: str
) -> None:
    expected = literal(lively_network().eval(), ODD, crops)
    error = np.abs(embedded(files[name], crops, device) - expected).max()
    assert error < ERROR[name[-4:]]
    manifest = read_manifest(files[name])
    assert (manifest.mirrored, manifest.normalised) == (True, True)


def test_the_two_forms_differ_by_more_than_any_tolerance(run: Path, crops: list[Image]) -> None:
    expected = literal(lively_network().eval(), ODD, crops)
    assert np.abs(embedded(run, crops) - expected).max() > 10 * ERROR["fp16"]


def test_the_matcher_and_the_graph_mirror_alike(run: Path, people: Path, tmp_path: Path) -> None:
    reports = []
    with reid.load(run) as model:
        files = model.export(tmp_path, fp16=False, mirror=True)
        plain = model.evaluate("synthetic", people)
        reports.append(model.evaluate("synthetic", people, mirror=True).report)
    with reid.load(files.onnx[0]) as model:
        reports.append(model.evaluate("synthetic", people).report)
    one, other = reports
    assert one.cmc == other.cmc
    assert one.map_step == pytest.approx(other.map_step) != plain.report.map_step
    assert (plain.report.mirrored, one.mirrored, other.mirrored) == (False, True, True)
    assert one.model == f"{run}, mirrored"
    assert other.model == str(files.onnx[0])


def test_features_of_the_file_are_those_of_the_mirrored_run(
    run: Path, people: Path, files: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    out, data = tmp_path / "gallery.safetensors", ["--data", "synthetic", "--data-root"]
    order = ["describe", str(run), *data, str(people), "--mirror", "--out", str(out)]
    assert main(order) == 0
    order = ["eval", *data, str(people), "--json", "--gallery-features", str(out)]
    assert main([*order, str(run), "--mirror"]) == 0
    assert main([*order, str(files["fp32"])]) == 0
    assert main([*order, str(run)]) == 1
    assert "mirrored yes (this model: no)" in capsys.readouterr().err


def test_a_mirrored_file_is_not_mirrored_again_and_a_line_says_so(
    files: dict[str, Path], people: Path, capsys: Capture
) -> None:
    order = ["eval", str(files["fp32"]), "--data", "synthetic", "--data-root", str(people)]
    found = []
    for more in ([], ["--mirror"]):
        assert main([*order, "--json", *more]) == 0
        output = capsys.readouterr()
        found.append(json.loads(output.out)["models"][0])
        assert ("--mirror changes nothing" in output.err) is bool(more)
    assert found[0]["map_step"] == found[1]["map_step"]
    assert found[0]["model"] == found[1]["model"]


def test_the_graph_takes_any_batch_and_names_its_parts(files: dict[str, Path]) -> None:
    model = onnx.load(files["pixels.fp16"])
    (taken,), (given,) = model.graph.input, model.graph.output
    batch = taken.type.tensor_type.shape.dim[0].dim_param
    assert batch
    assert given.type.tensor_type.shape.dim[0].dim_param == batch
    names = [node.name for node in model.graph.node]
    assert names.count("conv1.conv/Conv") == 1  # the network runs once, on both forms
    assert {"pixels/Slice", "both_forms/Concat"} <= set(names)
    islands = set(read_manifest(files["pixels.fp16"]).fp32_islands)
    assert {"pixels", "both_forms", "mean_of_forms"} <= islands


def test_the_command_writes_and_proves_them(run: Path, tmp_path: Path, capsys: Capture) -> None:
    order = ["export", str(run), "--out", str(tmp_path), "--mirror", "--fp16", "--json"]
    assert main(order) == 0
    found = json.loads(capsys.readouterr().out)
    names = [Path(file).name for file in found["files"]]
    assert names == ["msp_cnn.mirror.fp32.onnx", "msp_cnn.mirror.fp16.onnx"]
    assert [proof["passed"] for proof in found["parity"]] == [True, True]


def spoilt(run: Path, folder: Path, precision: str, *, mirrored: bool) -> Path:
    """A file whose graph does the opposite of what its manifest says."""
    made = list(export_checkpoint(run, folder, (precision,), mirror=not mirrored))
    manifest = read_manifest(made[0].path)
    path = folder / "spoilt.onnx"
    shutil.copy(made[0].path, path)
    write_manifest(path, dataclasses.replace(manifest, mirrored=mirrored))
    return path


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_graph_that_does_not_do_what_its_manifest_says_is_not_proven(
    run: Path, tmp_path: Path, precision: str, mirrored: bool
) -> None:
    path = spoilt(run, tmp_path, precision, mirrored=mirrored)
    proof = reid.prove(run, path, evaluate=False, settle=False)
    assert any("lowest_row_cosine" in line for line in proof.report.failures)
    with pytest.raises(ParityError):
        proof.settle()


def test_a_plain_file_is_not_proven_by_a_mirrored_one(
    run: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    (plain,) = export_checkpoint(run, tmp_path, ("fp32",))
    with pytest.raises(ParityError, match="with the mirror image"):
        reid.prove(files["fp32"], plain.path, crops=16, evaluate=False)
    assert reid.prove(plain.path, files["fp32"], crops=16, evaluate=False).passed


def test_parity_with_evaluation_mirrors_the_reference_there_too(
    run: Path, files: dict[str, Path], people: Path
) -> None:
    report = reid.prove(run, files["fp16"], dataset="market1501", root=people).report
    assert report.passed
    assert {check.measure: check.status for check in report.checks}["map_change"] == "ok"  # type: ignore[attr-defined]


def test_thresholds_of_the_run_are_not_those_of_the_mirrored_file() -> None:
    manifest = Manifest("msp_cnn", "train", ODD, thresholds=THRESHOLDS)
    (graph,) = prepared_graphs(lively_network(), manifest, fp16=False)
    assert with_mirror(graph, manifest)[1].thresholds is None


def test_embeddings_that_are_not_normalised_count_alike(tmp_path: Path, crops: list[Image]) -> None:
    network = lively_network().eval()
    manifest = Manifest("msp_cnn", "train", ODD, normalised=False)
    (graph,) = prepared_graphs(network, manifest, fp16=False)
    mirrored, described = with_mirror(graph, manifest)
    path = tmp_path / "a.onnx"
    export_graph(mirrored, described, path, fp16=False)
    np.testing.assert_allclose(
        embedded(path, crops), literal(network, ODD, crops), atol=ERROR["fp32"]
    )


def test_each_graph_of_two_scales_is_mirrored(tmp_path: Path, capsys: Capture) -> None:
    torch.manual_seed(3)
    preprocess, network = Preprocess(72, 40, 64, 32), SisNetSettings(depth=18, second_size=(48, 32))
    config = TrainConfig(network=network, preprocess=preprocess)
    state = enlivened(build_configured_network(config, 5)).state_dict()
    manifest = Manifest("sisnet", "train", preprocess, output_meaning=network.output_meaning)
    save_checkpoint(tmp_path / "checkpoint.pt", Checkpoint(config, manifest, 5, state))
    out = tmp_path / "out"
    order = ["export", str(tmp_path), "--out", str(out), "--also", "cascade", "--mirror", "--json"]
    assert main(order) == 0
    found = json.loads(capsys.readouterr().out)
    names = [Path(file).name for file in found["files"]]
    assert names == ["sisnet.mirror.fp32.onnx", "sisnet.cascade.mirror.fp32.onnx"]
    assert [proof["passed"] for proof in found["parity"]] == [True, True]


def refused(order: list[str], capsys: Capture) -> str:
    assert main(order) == 1
    return capsys.readouterr().err.splitlines()[-1]


def test_a_network_that_compares_pairs_is_one_line(
    pair_run: PairRun, people: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    line = refused(["export", str(pair_run.run), "--out", str(out), "--mirror"], capsys)
    assert "csn's graph 'describe' is of a network that compares pairs" in line
    assert not out.exists()
    data = ["--data", "synthetic", "--data-root", str(people)]
    assert "leave --mirror out" in refused(["eval", str(pair_run.run), *data, "--mirror"], capsys)


def test_caffe_is_one_line(run: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    line = refused(["export", str(run), "--out", str(out), "--mirror", "--caffe"], capsys)
    assert "leave --mirror out" in line
    assert not out.exists()


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of another program, whose vectors have any length; its crop has an odd margin."""
    folder = tmp_path_factory.mktemp("foreign")
    path = write_network(folder / "net.onnx")
    return reid.adopt(path, folder, mean="imagenet", channels="RGB", resize="37x19").path


@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize("pixels", [False, True])
def test_a_network_of_another_program_is_mirrored_the_same_way(
    adopted: Path, crops: list[Image], tmp_path: Path, pixels: bool, device: str
) -> None:
    with reid.load(adopted) as model:
        files = model.export(tmp_path, mirror=True, pixels=pixels)
        vectors = model.manifest
    assert not vectors.normalised
    crop = vectors.preprocess
    with reid.load(adopted, batch_size=1) as model:
        forms = []
        for image in crops:
            # The crop by itself, so that the margin does not count.
            plain = np.ascontiguousarray(crop.crop(crop.resize(image)))
            margins = ((2, 3), (1, 2), (0, 0))
            both = (plain, plain[:, ::-1])
            forms.append(model.embed([np.pad(one, margins) for one in both]).vectors)
    expected = unit(np.stack(forms).mean(axis=1))
    for path, precision in zip(files.onnx, ("fp32", "fp16"), strict=True):
        assert np.abs(embedded(path, crops, device) - expected).max() < ERROR[precision]
        onnx.checker.check_model(onnx.load(path), full_check=True)
    words = ".mirror.pixels" if pixels else ".mirror"
    assert [path.name for path in files.onnx] == [f"net{words}.fp32.onnx", f"net{words}.fp16.onnx"]
    assert all(proof["passed"] for proof in files.proofs)


def test_what_cannot_be_mirrored_is_one_line(adopted: Path, tmp_path: Path) -> None:
    with reid.load(adopted) as model:
        (mirrored,) = model.export(tmp_path / "once", fp16=False, mirror=True).onnx
    with (
        reid.load(mirrored) as model,
        pytest.raises(ConfigError, match="averages the mirror image in already"),
    ):
        model.export(tmp_path / "twice", mirror=True)
    fixed = write_foreign(tmp_path / "fixed.onnx", batch=2)
    taken = reid.adopt(fixed, tmp_path / "models", mean="imagenet", channels="RGB").path
    with (
        reid.load(taken) as model,
        pytest.raises(ConfigError, match="fixed to batches of 2, and --mirror"),
    ):
        model.export(tmp_path / "none", mirror=True)


def test_the_fp16_file_of_a_mirrored_one_is_mirrored_too(
    adopted: Path, crops: list[Image], tmp_path: Path
) -> None:
    with reid.load(adopted) as model:
        (first,) = model.export(tmp_path / "once", fp16=False, mirror=True).onnx
    with reid.load(first) as model:
        files = model.export(tmp_path / "again")
    assert [path.name for path in files.onnx] == ["net.mirror.fp32.onnx", "net.mirror.fp16.onnx"]
    assert read_manifest(files.onnx[1]).mirrored
    expected = embedded(first, crops)
    assert np.abs(embedded(files.onnx[1], crops) - expected).max() < ERROR["fp16"]
