"""INT8 engines: parsed, built and proven from Q/DQ graphs by the real builder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from reid.errors import BuildError
from reid.export.quantising.quantiser import METHODS, SYMMETRIC, X86, Quantiser
from reid.export.tensorrt.precision import (
    ParsedLayer,
    ParsedNetwork,
    check_inspected_precision,
    check_parsed_precision,
    check_plan_size,
)
from reid.export.writing import write_onnx
from reid.model_file.manifest import Manifest, read_manifest
from reid.model_file.preprocess import Preprocess
from reid.model_file.quantisation import Quantisation

Build = Callable[[list[dict[str, Any]]], list[Any]]

FLOATS = ("conv1.conv/Conv", "fc7/Gemm")
MADE = Quantisation("int8", "min-max", 16, "synthetic", "training images", 0, FLOATS)


@pytest.fixture(scope="module")
def int8_files(
    onnx_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The network in both kinds of INT8, and the FP32 graph under an INT8 manifest."""
    folder = tmp_path_factory.mktemp("int8")
    source = onnx_files["fp32"]
    manifest = dataclasses.replace(read_manifest(source), precision="int8", file_sha256="")
    quantiser = Quantiser(onnx.load(source), manifest.input_name)
    images = np.random.default_rng(0).normal(0, 60, (16, *manifest.preprocess.input_shape))
    ((_, ranges),) = quantiser.ranges(images.astype(np.float32), METHODS[:1])
    files = {}
    for variant in (SYMMETRIC, X86):
        made = dataclasses.replace(MADE, activations=variant.activations)
        files[variant.suffix] = folder / f"msp_cnn.{variant.suffix}.onnx"
        model = quantiser.quantised(ranges, variant, FLOATS)
        write_onnx(model, dataclasses.replace(manifest, quantisation=made), files[variant.suffix])
    files["mislabelled"] = folder / "mislabelled.onnx"
    named = dataclasses.replace(manifest, quantisation=MADE)
    write_onnx(onnx.load(source), named, files["mislabelled"])
    return files


@pytest.mark.tensorrt
def test_the_builder_takes_symmetric_int8_alone_and_proves_it(
    build: Build, int8_files: dict[str, Path], tmp_path: Path
) -> None:
    options = {"more_profiles": []}
    jobs = [
        {"onnx": str(file), "target": str(tmp_path), "options": options}
        for file in int8_files.values()
    ]
    found = dict(zip(int8_files, build(jobs), strict=True))
    path = Path(found["int8"]["path"])
    assert path.name == "msp_cnn.rtx.trtrtx1.7.int8.b1-8-32.engine"
    engine = read_manifest(path).engine
    assert engine is not None
    assert "parsed types" in engine.precision_proof
    assert "of the FP32 weights" in engine.precision_proof
    assert read_manifest(path).quantisation == MADE
    assert found["int8.x86"]["error"] == "BuildError"
    assert "msp_cnn.int8.onnx" in found["int8.x86"]["message"]
    assert found["mislabelled"]["error"] == "BuildError"
    assert "38 of 40" in found["mislabelled"]["message"]


MANIFEST = Manifest("net", "embed", Preprocess(), precision="int8", quantisation=MADE)


def parsed(**quantised: bool) -> ParsedNetwork:
    layers = [ParsedLayer(f"{name}/Conv", "FLOAT", found) for name, found in quantised.items()]
    return ParsedNetwork(tuple(layers), 1000)


def test_a_product_that_is_not_quantised_must_be_in_the_manifests_list() -> None:
    made = dataclasses.replace(MADE, float_layers=("a/Conv",))
    manifest = dataclasses.replace(MANIFEST, quantisation=made)
    check_parsed_precision(parsed(a=False, b=True), manifest, "net.onnx")
    with pytest.raises(BuildError, match="c/Conv"):
        check_parsed_precision(parsed(a=False, b=True, c=False), manifest, "net.onnx")
    with pytest.raises(BuildError, match="all of 1"):
        check_parsed_precision(parsed(a=False), manifest, "net.onnx")


def test_int8_of_another_program_needs_one_quantised_product() -> None:
    manifest = dataclasses.replace(MANIFEST, quantisation=None)
    check_parsed_precision(parsed(a=False, b=True), manifest, "net.onnx")
    with pytest.raises(BuildError, match="all of 2"):
        check_parsed_precision(parsed(a=False, b=False), manifest, "net.onnx")


def inspected(*types: str) -> str:
    layers = [
        {"Name": str(number), "Inputs": [{"Format/Datatype": name}], "Outputs": []}
        for number, name in enumerate(types)
    ]
    return json.dumps({"Layers": layers})


def test_the_inspector_must_show_int8() -> None:
    assert "1 of 2" in check_inspected_precision(inspected("Int8", "Float"), "int8")
    with pytest.raises(BuildError, match="int8"):
        check_inspected_precision(inspected("Half", "Float"), "int8")


def test_an_int8_plan_as_heavy_as_half_precision_is_refused() -> None:
    weights = 10 << 20
    assert "0.42" in check_plan_size(int(0.42 * 4 * weights), weights, "int8")
    with pytest.raises(BuildError, match="--int8"):
        check_plan_size(int(0.65 * 4 * weights), weights, "int8")
