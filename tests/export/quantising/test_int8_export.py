"""``reid export --int8``: quantised, calibrated on other images than it is measured on, proven."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import reid
from reid.cli import main
from reid.data import load_split
from reid.data.golden_crops import golden_crops
from reid.errors import ConfigError, DataError, ModelFileError
from reid.export.quantising.images import HELD_OUT, Calibration, calibration_images
from reid.export.quantising.quantiser import METHODS, Quantiser
from reid.model_file.manifest import Manifest, read_manifest
from reid.model_file.opening import ModelFile
from reid.model_file.quantisation import Quantisation
from tests.export.conftest import PairRun
from tests.export.quantising.conftest import CROPS, Int8, exported_int8
from tests.export.quantising.networks import LAYERS, write_network, write_people

Capture = pytest.CaptureFixture[str]
PRODUCTS = ("Conv", "Gemm", "MatMul")


def part(path: Path) -> Quantisation:
    found = read_manifest(path).quantisation
    assert found is not None
    return found


def factors(path: Path) -> dict[str, list[str]]:
    """Product's name -> the operators that make its two factors, empty for a stored array."""
    graph = onnx.load(path).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    return {
        node.name: [makers.get(name, "") for name in node.input[:2]]
        for node in graph.node
        if node.op_type in PRODUCTS
    }


def zero_points(path: Path) -> list[np.ndarray]:
    """The zero points of all activations."""
    graph = onnx.load(path).graph
    arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    return [arrays[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]


@pytest.mark.parametrize("suffix", ["int8", "int8.x86"])
def test_both_factors_of_every_product_are_dequantised(int8: Int8, suffix: str) -> None:
    found = factors(int8.file(suffix))
    assert set(found) == set(LAYERS)
    assert all(each == ["DequantizeLinear"] * 2 for each in found.values())
    onnx.checker.check_model(onnx.load(int8.file(suffix)), full_check=True)


def test_the_file_for_tensorrt_is_symmetric_with_float_biases(int8: Int8) -> None:
    path = int8.file("int8")
    points = zero_points(path)
    assert {point.dtype for point in points} == {np.dtype(np.int8)}
    assert not np.concatenate([point.ravel() for point in points]).any()
    types = {one.name: one.data_type for one in onnx.load(path).graph.initializer}
    assert types["first.bias"] == TensorProto.FLOAT
    assert TensorProto.INT32 not in types.values()


def test_the_file_for_x86_has_uint8_activations(int8: Int8) -> None:
    assert {point.dtype for point in zero_points(int8.file("int8.x86"))} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("suffix", ["int8", "int8.x86"])
def test_each_channel_of_a_weight_has_a_scale_of_its_own(int8: Int8, suffix: str) -> None:
    graph = onnx.load(int8.file(suffix)).graph
    arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    weight = numpy_helper.to_array(
        next(one for one in onnx.load(int8.source).graph.initializer if one.name == "third.weight")
    )
    (node,) = (one for one in graph.node if one.input[0] == "third.weight_quantized")
    scales = arrays[node.input[1]]
    np.testing.assert_allclose(scales, np.abs(weight).max(axis=(1, 2, 3)) / 127, rtol=0.02)
    restored = arrays["third.weight_quantized"] * scales[:, None, None, None]
    np.testing.assert_allclose(restored, weight, atol=scales.max() * 0.51)


@pytest.mark.parametrize("suffix", ["int8", "int8.x86"])
def test_the_manifest_tells_how_the_file_was_made(int8: Int8, suffix: str) -> None:
    manifest, source = read_manifest(int8.file(suffix)), read_manifest(int8.source)
    assert manifest.precision == "int8"
    assert manifest.model_sha256 == source.model_sha256
    assert manifest.preprocess == source.preprocess
    made = part(int8.file(suffix))
    assert made.activations == ("int8" if suffix == "int8" else "uint8")
    assert (made.crops, made.dataset, made.seed) == (CROPS, "market1501", 0)
    assert made.images == "training images"
    assert made.float_layers == ()


def test_embeddings_are_near_those_of_the_float_file(int8: Int8) -> None:
    with reid.load(int8.source) as model:
        expected = model.embed(int8.people / "query").vectors
    for suffix in ("int8", "int8.x86"):
        with reid.load(int8.file(suffix)) as model:
            found = model.embed(int8.people / "query").vectors
        cosines = (expected * found).sum(axis=1)
        assert 0.99 < cosines.min() < 1 - 1e-6


def test_too_few_queries_prove_nothing_and_the_line_says_how_many_are_needed(int8: Int8) -> None:
    assert part(int8.file("int8")).proven_on == ""
    verdict = read_manifest(int8.file("int8")).parity
    assert verdict["passed"]
    assert verdict["dataset"] == "market1501"
    assert any("200" in line and "not proven" in line for line in int8.said)


def test_a_layer_that_loses_much_stays_in_floating_point(int8_outlier: Int8) -> None:
    for suffix in ("int8", "int8.x86"):
        path = int8_outlier.file(suffix)
        layers = part(path).float_layers
        assert "third/Conv" in layers
        assert len(layers) < len(LAYERS)
        found = factors(path)
        assert all(
            (name in layers) == (each != ["DequantizeLinear"] * 2) for name, each in found.items()
        )
        assert read_manifest(path).parity["passed"]


def test_the_same_seed_draws_the_same_crops_and_another_others(int8: Int8) -> None:
    model = ModelFile.at(int8.source)
    drawn = []
    for seed in (0, 0, 1):
        wanted = Calibration("market1501", int8.people, CROPS, seed)
        with calibration_images(model, wanted) as images:
            drawn.append(images.crops)
    first, again, other = drawn
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_without_training_images_the_people_of_the_crops_are_left_out_of_the_gate(
    int8: Int8, tmp_path: Path
) -> None:
    people = write_people(tmp_path, train=2, test=40)
    shutil.rmtree(people / "bounding_box_train")
    split = load_split("market1501", people)
    with calibration_images(
        ModelFile.at(int8.source), Calibration("market1501", people, CROPS)
    ) as images:
        gate = images.gate
    left = {record.person_id for record in (*gate.query, *gate.gallery)}
    everybody = {record.person_id for record in (*split.query, *split.gallery)}
    assert left < everybody
    num_taken = sum(record.person_id not in left for record in (*split.query, *split.gallery))
    assert num_taken >= CROPS + HELD_OUT
    assert "left out" in images.words


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"int8": True}, ConfigError, "--calibrate"),
        ({"calibrate": "market1501"}, ConfigError, "--int8"),
        ({"int8": True, "calibrate": "market1051"}, DataError, "market1501"),
        ({"int8": True, "calibrate": "market1501"}, DataError, "--data-root"),
        ({"int8": True, "calibrate": "synthetic", "calibration_crops": 4}, ConfigError, "16"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(
    int8: Int8, tmp_path: Path, options: dict[str, object], error: type[Exception], named: str
) -> None:
    with reid.load(int8.source) as model, pytest.raises(error, match=named):
        model.export(tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_too_few_crops_are_refused_with_the_number_needed(int8: Int8, tmp_path: Path) -> None:
    options = {"calibrate": "market1501", "root": int8.people, "calibration_crops": 500}
    with reid.load(int8.source) as model, pytest.raises(DataError, match=str(500 + HELD_OUT)):
        model.export(tmp_path / "out", int8=True, **options)  # type: ignore[arg-type]


def test_a_folder_without_people_is_refused(int8: Int8, tmp_path: Path) -> None:
    options = {"calibrate": "market1501", "root": tmp_path}
    with reid.load(int8.source) as model, pytest.raises(DataError, match=str(tmp_path)):
        model.export(tmp_path / "out", int8=True, **options)  # type: ignore[arg-type]


def test_drawn_people_calibrate_and_prove_nothing(
    int8: Int8, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["export", str(int8.source), "--out", str(tmp_path), "--int8", "--json"]
    arguments += ["--calibrate", "synthetic", "--calibration-crops", "16"]
    assert main(arguments) == 0
    files = [Path(name) for name in json.loads(capsys.readouterr().out)["files"]]
    assert [path.name for path in files] == ["net.fp32.onnx", "net.int8.onnx", "net.int8.x86.onnx"]
    assert part(files[1]).proven_on == ""
    assert part(files[1]).dataset == "synthetic"


def test_a_graph_of_an_old_opset_is_converted_and_answers_alike(
    int8_people: Path, tmp_path: Path
) -> None:
    old = exported_int8(tmp_path, int8_people, opset=11)  # type: ignore[arg-type]
    manifest = read_manifest(old.file("int8"))
    assert read_manifest(old.source).opset == 11
    assert manifest.opset >= 13
    assert manifest.parity["passed"]


def test_a_network_that_compares_pairs_is_refused_before_anything_is_written(
    pair_run: PairRun, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["export", str(pair_run.run), "--out", str(tmp_path / "out"), "--int8"]
    assert main([*arguments, "--calibrate", "synthetic", "--calibration-crops", "16"]) == 1
    error = capsys.readouterr().err
    assert "compares pairs" in error
    assert "csn" in error
    assert not (tmp_path / "out").exists()


def test_an_int8_file_of_another_program_is_known_by_its_operators(
    int8: Int8, tmp_path: Path
) -> None:
    foreign = onnx.load(int8.file("int8"))
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    adopted = reid.adopt(tmp_path / "foreign.onnx", tmp_path / "models", mean="imagenet")
    assert adopted.manifest.precision == "int8"
    assert adopted.manifest.quantisation is None
    with reid.load(adopted.path) as model, pytest.raises(ConfigError, match="int8"):
        model.export(tmp_path / "out")


def test_watch_and_bundle_refuse_unproven_int8_unless_it_is_allowed(
    int8: Int8, tmp_path: Path, capsys: Capture
) -> None:
    path = int8.file("int8")
    watch = ["watch", str(path), "--source", str(int8.people / "query"), "--max-frames", "1"]
    bundle = ["bundle", "triton", str(path), "--out", str(tmp_path / "triton")]
    for arguments in (watch, bundle):
        assert main(arguments) == 1
        assert "--allow-unproven" in capsys.readouterr().err
        assert main([*arguments, "--allow-unproven"]) == 0
        capsys.readouterr()


def test_a_proven_file_needs_no_permission(int8: Int8, tmp_path: Path) -> None:
    from reid.model_file.quantisation import refuse_unproven

    manifest = read_manifest(int8.file("int8"))
    with pytest.raises(ModelFileError, match="reid parity"):
        refuse_unproven(tmp_path, manifest)
    proven = dataclasses.replace(part(int8.file("int8")), proven_on="market1501")
    refuse_unproven(tmp_path, dataclasses.replace(manifest, quantisation=proven))


def verdict(**changes: object) -> dict[str, object]:
    checks = {"map_change": {"found": 0.002, "allowed": 0.005, "status": "ok"}}
    return {
        "passed": True,
        "dataset": "market1501",
        "reference_precision": "fp32",
        "checks": checks,
        **changes,
    }


def made(proven_on: str = "") -> Quantisation:
    return Quantisation("int8", "min-max", 256, "market1501", "training images", 0, (), proven_on)


@pytest.mark.parametrize(
    ("changes", "before", "after"),
    [
        ({}, "", "market1501"),
        ({"dataset": "synthetic"}, "", ""),
        ({"dataset": ""}, "", ""),
        ({"reference_precision": "int8"}, "", ""),
        ({"checks": {"map_change": {"allowed": 0.005, "status": "not checked"}}}, "", ""),
        ({"checks": {"map_change": {"allowed": 0.02, "status": "ok"}}}, "", ""),
        ({"dataset": "synthetic"}, "cuhk01", "cuhk01"),
        ({"passed": False}, "cuhk01", ""),
    ],
)
def test_only_enough_real_images_against_fp32_prove(
    changes: dict[str, object], before: str, after: str
) -> None:
    assert made(before).judged(verdict(**changes)).proven_on == after


def test_a_manifest_with_a_quantisation_comes_back_from_json(int8: Int8) -> None:
    manifest = read_manifest(int8.file("int8"))
    kept = dataclasses.replace(
        manifest, quantisation=dataclasses.replace(made(), float_layers=("a/Conv", "b/Conv"))
    )
    assert Manifest.from_json(kept.to_json(), "here") == kept
    body = json.loads(kept.to_json())
    body["quantisation"]["crops"] = "many"
    with pytest.raises(reid.ReidError, match="crops"):
        Manifest.from_json(json.dumps(body), "here")


def test_a_network_is_written_as_the_tests_need_it(tmp_path: Path) -> None:
    onnx.checker.check_model(onnx.load(write_network(tmp_path / "net.onnx")), full_check=True)


def test_every_method_is_measured_and_the_percentiles_differ(int8: Int8) -> None:
    model = onnx.load(int8.source)
    quantiser = Quantiser(model, "images")
    images = np.random.default_rng(0).normal(0, 1, (64, 3, 32, 16)).astype(np.float32)
    widths = {
        method.words: float(np.max(found["second.relu"].range_value[1]))
        for method, found in quantiser.ranges(images)
    }
    assert list(widths) == [method.words for method in METHODS]
    del model.graph.output[:]
    float32 = TensorProto.FLOAT
    model.graph.output.append(helper.make_tensor_value_info("second.relu", float32, None))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    largest = session.run(None, {"images": images})[0].max()
    assert widths["min-max"] == pytest.approx(largest, rel=1e-5)
    assert widths["percentile 99.99"] < widths["percentile 99.999"] <= largest * 1.01


def test_a_mirrored_file_is_quantised_and_proven_like_another(int8: Int8, tmp_path: Path) -> None:
    with reid.load(int8.source) as model:
        files = model.export(
            tmp_path,
            fp16=False,
            mirror=True,
            int8=True,
            calibrate="market1501",
            root=int8.people,
            calibration_crops=CROPS,
        )
    base, *quantised = files.onnx
    names = [path.name for path in quantised]
    assert names == ["net.mirror.int8.onnx", "net.mirror.int8.x86.onnx"]
    crops = golden_crops(5)
    vectors = []
    for path in (base, *quantised):
        assert read_manifest(path).mirrored
        with reid.load(path, "cpu") as model:
            vectors.append(model.embed(crops).vectors)
    for found in vectors[1:]:
        assert (found * vectors[0]).sum(axis=1).min() > 0.98
    # Only the network's products are quantised, and both halves of the batch share them.
    assert set(factors(quantised[0])) == set(LAYERS)
