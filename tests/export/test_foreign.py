"""``reid export FILE.onnx``: FP16 and pixels in for networks of other programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import reid
from reid.api.results import ExportedFiles
from reid.cli import main
from reid.data.golden_crops import golden_crops
from reid.errors import BuildError, ConfigError, ModelFileError
from reid.export.foreign import with_pixels
from reid.files import sha256_of_file
from reid.model_file.manifest import read_manifest
from reid.runtime import open_runner
from tests.export.quantising.networks import HEIGHT, WIDTH, write_network

Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Foreign:
    """The file that was taken in, and its exports, plain and with pixels inside."""

    source: Path
    plain: ExportedFiles
    pixels: ExportedFiles


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    folder = tmp_path_factory.mktemp("foreign")
    path = write_network(folder / "net.onnx")
    resize = f"{HEIGHT + 5}x{WIDTH + 3}"
    adopted = reid.adopt(path, folder / "models", mean="imagenet", channels="RGB", resize=resize)
    with reid.load(adopted.path) as model:
        plain = model.export(folder / "out")
        pixels = model.export(folder / "out", pixels=True)
    return Foreign(adopted.path, plain, pixels)


def embeddings(path: Path) -> np.ndarray:
    with open_runner(path, "cpu") as runner:
        manifest = runner.manifest
        data = manifest.preprocess.batch(golden_crops(5))
        vectors = runner.run({manifest.input_name: data})[manifest.output_name]
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_each_file_answers_as_the_original(foreign: Foreign) -> None:
    expected = embeddings(foreign.source)
    names = []
    for path in (*foreign.plain.onnx, *foreign.pixels.onnx):
        names.append(path.name)
        tolerance = 2e-3 if ".fp16." in path.name else 1e-5
        np.testing.assert_allclose(embeddings(path), expected, atol=tolerance)
        onnx.checker.check_model(onnx.load(path), full_check=True)
    assert names == [
        "net.fp32.onnx",
        "net.fp16.onnx",
        "net.pixels.fp32.onnx",
        "net.pixels.fp16.onnx",
    ]
    assert all(proof["passed"] for proof in (*foreign.plain.proofs, *foreign.pixels.proofs))


def test_the_weights_of_the_fp16_file_are_halves_and_its_ends_are_floats(foreign: Foreign) -> None:
    graph = onnx.load(foreign.plain.onnx[1]).graph
    weights = {one.name: one.data_type for one in graph.initializer}
    assert weights["second.weight"] == TensorProto.FLOAT16
    ends = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    assert ends == [TensorProto.FLOAT] * 2
    assert read_manifest(foreign.plain.onnx[1]).precision == "fp16"


@pytest.mark.parametrize("number", [0, 1])
def test_a_pixels_file_takes_what_is_only_resized(foreign: Foreign, number: int) -> None:
    before, after = read_manifest(foreign.source), read_manifest(foreign.pixels.onnx[number])
    assert after.preprocess == before.preprocess.resize_only()
    assert after.inside == before.preprocess
    (taken,) = onnx.load(foreign.pixels.onnx[number]).graph.input
    sizes = [size.dim_value for size in taken.type.tensor_type.shape.dim]
    assert sizes[1:] == [3, HEIGHT + 5, WIDTH + 3]


def test_the_files_are_the_model_that_was_taken_in(foreign: Foreign, tmp_path: Path) -> None:
    sha256 = sha256_of_file(foreign.source)
    for path in (*foreign.plain.onnx, *foreign.pixels.onnx):
        manifest = read_manifest(path)
        assert manifest.checkpoint_sha256 == manifest.source_sha256 == sha256
        assert manifest.file_sha256 != sha256
    with reid.load(foreign.source) as model:
        features = model.embed(golden_crops(3))
    with reid.load(foreign.plain.onnx[0]) as model:
        assert model.distances(features, features).shape == (3, 3)


def test_a_file_that_was_not_taken_in_is_sent_to_import_onnx(
    tmp_path: Path, capsys: Capture
) -> None:
    path = write_network(tmp_path / "net.onnx")
    assert main(["export", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "reid import-onnx" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "named"), [(["--caffe"], "--caffe"), (["--also", "pair"], "--also")]
)
def test_what_only_a_run_has_is_refused_in_one_line(
    foreign: Foreign, tmp_path: Path, capsys: Capture, arguments: list[str], named: str
) -> None:
    assert main(["export", str(foreign.source), "--out", str(tmp_path), *arguments]) == 1
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def test_a_file_of_another_precision_or_with_pixels_inside_is_refused(
    foreign: Foreign, tmp_path: Path
) -> None:
    half, inside = foreign.plain.onnx[1], foreign.pixels.onnx[0]
    with reid.load(half) as model, pytest.raises(ConfigError, match="fp16"):
        model.export(tmp_path)
    with reid.load(inside) as model, pytest.raises(ConfigError, match="pixels"):
        model.export(tmp_path, pixels=True)


def test_an_export_never_overwrites_the_file_that_it_reads(foreign: Foreign) -> None:
    written = foreign.plain.onnx[0]
    before = written.read_bytes()
    with reid.load(written) as model, pytest.raises(ModelFileError, match="--out"):
        model.export(written.parent, fp16=False)
    assert written.read_bytes() == before


def test_weights_beyond_float16_are_refused_and_named(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx")
    model = onnx.load(path)
    (weight,) = (one for one in model.graph.initializer if one.name == "last.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1e6, weight.name))
    onnx.save(model, path)
    adopted = reid.adopt(path, tmp_path / "models", mean="imagenet")
    with reid.load(adopted.path) as opened, pytest.raises(BuildError, match=r"last\.weight"):
        opened.export(tmp_path / "out")


def test_the_json_lists_files_and_reports(
    foreign: Foreign, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["export", str(foreign.source), "--out", str(tmp_path), "--fp16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(name).name for name in found["files"]] == ["net.fp32.onnx", "net.fp16.onnx"]
    assert [report["precision"] for report in found["parity"]] == ["fp32", "fp16"]


def test_a_graph_too_old_for_slice_is_converted(foreign: Foreign) -> None:
    model = onnx.load(foreign.source)
    model.opset_import[0].version = 9
    preprocess = read_manifest(foreign.source).preprocess
    found = with_pixels(model, "images", preprocess)
    assert found.opset_import[0].version >= 10
    onnx.checker.check_model(found, full_check=True)
