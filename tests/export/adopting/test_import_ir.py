"""``reid import-onnx`` of an OpenVINO IR: the same as of an ONNX file, weights and all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

import reid
from reid.cli import main
from reid.data.golden_crops import golden_crops
from reid.errors import ConfigError, ManifestError, ModelFileError, OutputError, ReidError
from reid.files import sha256_of_file
from reid.model_file.manifest import read_manifest
from reid.model_file.parts import sha256_of_model
from reid.runtime import open_runner
from reid.runtime.openvino_library import openvino
from reid.runtime.openvino_runner import read_model, sizes_of
from tests.export.adopting.foreign import (
    DIM,
    HEIGHT,
    WIDTH,
    band_weights,
    bands,
    node,
    write_foreign,
    write_graph,
)


def write_ir(source: Path, half: bool = False) -> Path:
    """The ONNX file as another program's IR, ``.xml`` and ``.bin``."""
    path = source.with_suffix(".xml")
    openvino.save_model(read_model(source), str(path), compress_to_fp16=half)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_ir(write_foreign(tmp_path / "bands.onnx"))


def vectors_of(path: Path) -> np.ndarray:
    """The unit vectors of the golden crops, as NumPy computes them from the manifest."""
    pixels = read_manifest(path).preprocess.batch(golden_crops())
    rows = pixels.reshape(len(pixels), -1).astype(np.float64) @ band_weights()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_an_ir_becomes_a_file_that_gives_its_vectors(source, tmp_path):
    adopted = reid.adopt(source, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "bands.xml",
        "bands.bin",
        "bands.xml.json",
        "golden",
    }
    manifest = read_manifest(adopted.path)
    assert (manifest.network, manifest.output_dim, manifest.normalised) == ("bands", DIM, False)
    assert (manifest.precision, manifest.static_batch, manifest.opset) == ("fp32", 0, 0)
    assert manifest.file_sha256 == manifest.checkpoint_sha256 == sha256_of_model(source)
    with reid.load(adopted.path) as model:
        found = model.embed(golden_crops()).vectors
        assert model.backend.startswith("openvino")
    assert np.allclose(found, vectors_of(adopted.path), atol=1e-5)


def test_the_command_takes_it_and_evaluation_does_too(source, tmp_path, people, capsys):
    out = tmp_path / "out"
    assert main(["import-onnx", str(source), "--out", str(out), "--mean", "imagenet"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "bands.xml")
    arguments = ["eval", str(out / "bands.xml"), "--data", "synthetic", "--data-root"]
    assert main([*arguments, str(people)]) == 0
    assert main(["doctor", str(out / "bands.xml")]) == 0


def test_a_static_batch_that_can_be_free_becomes_free(tmp_path):
    source = write_ir(write_foreign(tmp_path / "bands.onnx", batch=2))
    adopted = reid.adopt(source, tmp_path / "out")
    assert adopted.manifest.static_batch == 0
    assert any("any" in note and "batch" in note for note in adopted.notes)
    assert adopted.manifest.checkpoint_sha256 == sha256_of_model(source)
    assert adopted.manifest.file_sha256 == sha256_of_model(adopted.path)
    assert not isinstance(sizes_of(read_model(adopted.path).inputs[0])[0], int)
    with reid.load(adopted.path) as model:
        found = model.embed(golden_crops()).vectors
    assert np.allclose(found, vectors_of(adopted.path), atol=1e-5)


def write_fixed(folder: Path, *, mixes: bool) -> Path:
    """An IR that takes one image, with the batch size in a reshape too; with ``mixes`` it gives
    the mean of its batch."""
    shape = numpy_helper.from_array(np.array([1, -1], np.int64), "shape")
    mean = node("ReduceMean", "product", "features", axes=[0], keepdims=1)
    nodes = [
        node("Flatten", "images", "flat") if mixes else node("Reshape", "images shape", "flat"),
        node("MatMul", "flat bands", "product"),
        mean if mixes else node("Identity", "product", "features"),
    ]
    images, outputs = [("images", (1, 3, HEIGHT, WIDTH))], [("features", (1, DIM))]
    path = folder / "fixed.onnx"
    return write_ir(write_graph(path, nodes, outputs, inputs=images, weights=[shape]))


@pytest.mark.parametrize("mixes", [False, True])
def test_a_batch_that_is_fixed_inside_is_freed_or_looped_and_the_answers_stay(tmp_path, mixes):
    source = write_fixed(tmp_path, mixes=mixes)
    adopted = reid.adopt(source, tmp_path / "out")
    if mixes:
        assert adopted.manifest.static_batch == 1
        assert sha256_of_file(adopted.path) == sha256_of_file(source)
    with open_runner(adopted.path) as runner:
        crops = adopted.manifest.preprocess.batch(golden_crops())
        found = runner.run({"images": crops})["features"]
    units = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert np.allclose(units, vectors_of(adopted.path), atol=1e-5)


def test_an_ir_of_half_precision_says_so(tmp_path):
    adopted = reid.adopt(
        write_ir(write_foreign(tmp_path / "bands.onnx"), half=True), tmp_path / "a"
    )
    assert adopted.manifest.precision == "fp16"
    with open_runner(adopted.path) as runner:
        assert "FP16 weights" in runner.backend


def test_a_graph_that_normalises_by_itself_is_asked_about(tmp_path):
    scale = numpy_helper.from_array(np.full((1, 3, 1, 1), 0.01, np.float32), "scale")
    mean = numpy_helper.from_array(np.full((1, 3, 1, 1), 120, np.float32), "mean")
    nodes = [
        node("Sub", "images mean", "centred"),
        node("Mul", "centred scale", "ready"),
        *bands("ready"),
    ]
    path = tmp_path / "own.onnx"
    source = write_ir(write_graph(path, nodes, [("features", ("N", DIM))], weights=[scale, mean]))
    with pytest.raises(ModelFileError, match=r"begins with .*--mean none"):
        reid.adopt(source, tmp_path / "out")
    assert reid.adopt(source, tmp_path / "out", mean="none").manifest.preprocess.mean == (0, 0, 0)


def test_several_outputs_are_asked_for_and_one_can_be_named(tmp_path):
    nodes = [*bands(), node("Neg", "features", "opposite")]
    outputs = [("features", ("N", DIM)), ("opposite", ("N", DIM))]
    source = write_ir(write_graph(tmp_path / "two.onnx", nodes, outputs))
    with pytest.raises(ModelFileError, match=r"features.*opposite.*--output"):
        reid.adopt(source, tmp_path / "out")
    adopted = reid.adopt(source, tmp_path / "out", output="opposite")
    assert adopted.manifest.output_meaning == "opposite"


def test_a_missing_bin_is_refused_by_its_name(source, tmp_path):
    source.with_suffix(".bin").unlink()
    with pytest.raises(ModelFileError, match=r"bands\.bin.*missing"):
        reid.adopt(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_changed_bin_of_an_adopted_model_is_refused(source, tmp_path):
    adopted = reid.adopt(source, tmp_path / "out")
    weights = adopted.path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ManifestError, match=r"bands\.xml\.json"):
        reid.load(adopted.path)


def test_two_irs_that_differ_in_their_weights_alone_are_two_models(tmp_path):
    adopted = [
        reid.adopt(write_ir(write_foreign(folder / "bands.onnx", scale=scale)), folder / "out")
        for folder, scale in ((tmp_path / "a", 1.0), (tmp_path / "b", 2.0))
        if not folder.mkdir()
    ]
    assert adopted[0].manifest.model_sha256 != adopted[1].manifest.model_sha256
    with reid.load(adopted[0].path) as model:
        features = model.embed(golden_crops())
    with reid.load(adopted[1].path) as model, pytest.raises(ReidError):
        model.distances(features, features)


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"<net", b"<?xml version='1.0'?><net>"])
def test_what_is_no_ir_is_one_line(source, tmp_path, content, capfd):
    source.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"bands\.xml is not an OpenVINO IR") as caught:
        reid.adopt(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "out").exists()


def test_a_detector_is_refused_by_its_outputs(tmp_path):
    nodes = [
        node("MaxPool", "images", "maps", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    outputs = [("maps", ("N", 3, HEIGHT // 2, WIDTH // 2))]
    source = write_ir(write_graph(tmp_path / "detector.onnx", nodes, outputs))
    with pytest.raises(ModelFileError, match=r"maps .*detector"):
        reid.adopt(source, tmp_path / "out")


def test_a_folder_with_an_onnx_import_is_not_for_an_ir(source, tmp_path):
    reid.adopt(write_foreign(tmp_path / "other.onnx"), tmp_path / "out")
    with pytest.raises(OutputError, match=r"other\.onnx"):
        reid.adopt(source, tmp_path / "out")


def test_importing_an_ir_again_replaces_it(source, tmp_path):
    first = reid.adopt(source, tmp_path / "out")
    again = reid.adopt(source, tmp_path / "out", channels="BGR")
    assert first.path == again.path
    assert read_manifest(again.path).preprocess.channel_order == "BGR"


def test_a_bundle_wants_the_onnx_file(source, tmp_path):
    from reid.deploy.bundle.writing import bundle_deepstream

    adopted = reid.adopt(source, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"bands\.xml.*\.onnx"):
        bundle_deepstream(adopted.path, tmp_path / "bundle")


def test_an_integer_input_is_refused(tmp_path):
    nodes = [node("Cast", "images", "floats", to=TensorProto.FLOAT), *bands("floats")]
    path = write_graph(
        tmp_path / "bytes.onnx", nodes, [("features", ("N", DIM))], kind=TensorProto.UINT8
    )
    with pytest.raises(ModelFileError, match=r"images .*u8.*float32"):
        reid.adopt(write_ir(path), tmp_path / "out")
