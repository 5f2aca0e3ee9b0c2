"""DeepStream's files, read back by others' readers and computed by their own words."""

from __future__ import annotations

import configparser
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from reid.cli import main
from reid.data.golden_crops import golden_crops
from reid.deploy.bundle.deepstream import affine, infer_file, tracker_block
from reid.deploy.bundle.writing import bundle_deepstream, bundle_triton
from reid.errors import ConfigError, ModelFileError
from reid.model_file.manifest import (
    BatchProfile,
    EngineInfo,
    Manifest,
    read_manifest,
    write_manifest,
)
from reid.model_file.preprocess import Preprocess
from reid.types import FloatArray, Image
from tests.deploy.conftest import Served

Capture = pytest.CaptureFixture[str]

SCALED = Preprocess(24, 12, 24, 12, "RGB", (123.675, 116.28, 103.53), (57.5, 57.5, 57.5))


def yaml_block(text: str) -> dict[str, Any]:
    """The ``ReID`` block as OpenCV's reader of YAML:1.0 sees it: DeepStream's is of that kind."""
    storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    node = storage.getNode("ReID")
    found: dict[str, Any] = {}
    for key in node.keys():  # noqa: SIM118  (a FileNode is no dict)
        value = node.getNode(key)
        if value.isSeq():
            found[key] = [value.at(i).real() for i in range(value.size())]
        else:
            found[key] = value.string() if value.isString() else value.real()
    return found


def infer_section(text: str) -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return dict(parser["property"])


def as_deepstream(crop: Image, size: tuple[int, int], bgr: bool, scale: float, offsets: Any) -> Any:
    """What the words say: the box stretched, channels in order, scale * (x - offset)."""
    resized = cv2.resize(crop, size[::-1], interpolation=cv2.INTER_LINEAR)
    planes = (resized if bgr else resized[..., ::-1]).transpose(2, 0, 1).astype(np.float32)
    return np.float32(scale) * (planes - np.array(offsets, np.float32)[:, None, None])


def by_tracker(text: str, crop: Image) -> FloatArray:
    block = yaml_block(text)
    assert block["keepAspc"] == 0
    assert block["inputOrder"] == 0
    channels, height, width = (int(size) for size in block["inferDims"])
    assert channels == 3
    bgr = {0: False, 1: True}[int(block["colorFormat"])]
    offsets, scale = block["offsets"], block["netScaleFactor"]
    return np.asarray(as_deepstream(crop, (height, width), bgr, scale, offsets))


def by_infer(text: str, crop: Image) -> FloatArray:
    section = infer_section(text)
    assert section["maintain-aspect-ratio"] == "0"
    assert section["scaling-filter"] == "1"
    _, height, width = (int(size) for size in section["infer-dims"].split(";"))
    bgr = {"0": False, "1": True}[section["model-color-format"]]
    offsets = [float(offset) for offset in section["offsets"].split(";")]
    scale = float(section["net-scale-factor"])
    return np.asarray(as_deepstream(crop, (height, width), bgr, scale, offsets))


@pytest.mark.parametrize("preprocess", [SCALED, Preprocess().resize_only()])
def test_both_files_describe_our_preprocessing_pixel_for_pixel(preprocess: Preprocess) -> None:
    manifest = Manifest("msp_cnn", "embed", preprocess)
    for crop in golden_crops(3):
        ours = preprocess(crop)
        np.testing.assert_allclose(
            by_tracker(tracker_block(manifest, "m.onnx", 16, "nvdcf"), crop), ours, atol=1e-5
        )
        np.testing.assert_allclose(
            by_infer(infer_file(manifest, "m.onnx", 16, 0), crop), ours, atol=1e-5
        )


@pytest.mark.parametrize(
    ("precision", "tracker_word", "infer_word"), [("fp32", 0, "0"), ("fp16", 1, "2")]
)
def test_one_precision_has_two_numbers(precision: str, tracker_word: int, infer_word: str) -> None:
    manifest = Manifest("msp_cnn", "embed", SCALED, precision=precision)
    assert yaml_block(tracker_block(manifest, "m", 8, "nvdcf"))["networkMode"] == tracker_word
    assert infer_section(infer_file(manifest, "m", 8, 0))["network-mode"] == infer_word


def test_an_engine_has_its_own_key_and_a_raw_vector_is_normalised_by_the_tracker() -> None:
    engine = EngineInfo("sm87", "10.3.0", "tensorrt", 1, 8, 32)
    manifest = Manifest("msp_cnn", "embed", SCALED, engine=engine, normalised=False, output_dim=64)
    block = yaml_block(tracker_block(manifest, "msp.engine", 8, "nvdeepsort"))
    assert block["modelEngineFile"] == "msp.engine"
    assert "onnxFile" not in block
    assert (block["addFeatureNormalization"], block["reidType"]) == (1, 1)
    assert (block["reidFeatureSize"], block["batchSize"]) == (64, 8)
    text = infer_file(manifest, "msp.engine", 8, 2)
    section = infer_section(text)
    assert section["model-engine-file"] == "msp.engine"
    assert "onnx-file" not in section
    assert section["operate-on-class-ids"] == "2"
    assert section["output-blob-names"] == "embedding"
    assert "divide by the length" in text


@pytest.mark.parametrize(
    ("change", "words", "way_out"),
    [
        ({"crop_height": 20}, "crops 20x12 out of 24x12", "--pixels"),
        ({"std": (58.0, 57.0, 58.0)}, "divides the channels by 58, 57, 58", "--pixels"),
        # Pixels are resized before the graph sees them, so --pixels would not help.
        ({"interpolation": "area"}, "resizes with 'area'", "use `reid bundle triton`"),
    ],
)
def test_what_deepstream_cannot_do_is_refused_with_the_way_out(
    change: dict[str, Any], words: str, way_out: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        affine(dataclasses.replace(SCALED, **change))
    assert way_out in str(caught.value)


@pytest.mark.parametrize(
    ("precision", "words"),
    [("fp8", "found a model in 'fp8'"), ("int8", "reid build")],
)
def test_a_precision_that_its_files_have_no_number_for_is_refused(
    tmp_path: Path, precision: str, words: str
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"graph")
    write_manifest(file, Manifest("msp_cnn", "embed", SCALED, precision=precision))
    with pytest.raises(ConfigError, match=words):
        bundle_deepstream(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"flavour": "tensorrt_rtx"}, ConfigError, "TensorRT for RTX, which DeepStream and Triton"),
        ({"stripped": True}, ModelFileError, "without its weights"),
    ],
)
def test_an_engine_that_no_server_opens_is_refused(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    file = tmp_path / "model.engine"
    file.write_bytes(b"plan")
    engine = dataclasses.replace(EngineInfo("sm120", "11.4.0", "tensorrt", 1, 8, 32), **change)
    write_manifest(file, Manifest("msp_cnn", "embed", SCALED, engine=engine))
    for bundle in (
        lambda: bundle_deepstream(file, tmp_path),
        lambda: bundle_triton([file], tmp_path),
    ):
        with pytest.raises(error, match=words):
            bundle()
    assert not (tmp_path / "golden").exists()


def test_the_command_writes_a_bundle_whose_files_stand_together(
    served: Served, tmp_path: Path, capsys: Capture
) -> None:
    model = served.file("fp16", pixels=True)
    assert main(["bundle", "deepstream", str(model), "--out", str(tmp_path), "--json"]) == 0
    files = [Path(file) for file in json.loads(capsys.readouterr().out)["files"]]
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "msp_cnn.pixels.fp16.onnx",
        "config_tracker_reid.yml",
        "config_infer_reid.txt",
        "golden/golden.safetensors",
    ]
    block = yaml_block(files[1].read_text())
    assert (tmp_path / block["onnxFile"]).read_bytes() == model.read_bytes()
    assert (tmp_path / infer_section(files[2].read_text())["onnx-file"]).is_file()
    assert read_manifest(tmp_path / model.name) == read_manifest(model)
    assert main(["bundle", "deepstream", str(served.file()), "--out", str(tmp_path / "no")]) == 1
    assert "crops 40x16 out of 48x20" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    assert main(["bundle", "deepstream", str(served.run), "--out", str(tmp_path / "no")]) == 1
    assert "is a run; export it first" in capsys.readouterr().err


def test_the_batch_of_an_engine_is_that_of_its_first_profile(
    served: Served, tmp_path: Path
) -> None:
    """nvinfer opens profile 0 and no other."""
    engine = tmp_path / "msp.engine"
    engine.write_bytes(b"plan")
    more = (BatchProfile(33, 128, 256),)
    info = EngineInfo("sm90", "10.3.0", "tensorrt", 1, 8, 32, more_profiles=more)
    source = read_manifest(served.file("fp16", pixels=True))
    write_manifest(engine, dataclasses.replace(source, engine=info))
    files = bundle_deepstream(engine, tmp_path / "out", reference=served.file())
    assert yaml_block(files[1].read_text())["batchSize"] == 32
    assert infer_section(files[2].read_text())["batch-size"] == "32"
    with pytest.raises(ConfigError, match="batches of 32 at most, found --batch 64"):
        bundle_deepstream(engine, tmp_path / "out", batch=64, reference=served.file())


ONNX_FILE = dataclasses.replace(Manifest("msp_cnn", "embed", SCALED), precision="fp16")


def test_both_files_name_the_engine_that_deepstream_builds_from_an_onnx_file() -> None:
    section = infer_section(infer_file(ONNX_FILE, "m.onnx", 16, 0))
    assert section["onnx-file"] == "m.onnx"
    assert section["model-engine-file"] == "m.onnx_b16_gpu0_fp16.engine"
    block = yaml_block(tracker_block(ONNX_FILE, "m.onnx", 16, "nvdcf"))
    assert block["onnxFile"] == "m.onnx"
    assert block["modelEngineFile"] == "m.onnx_b16_gpu0_fp16.engine"


def test_lost_tracks_are_found_again_by_their_vectors_with_nvdcf_alone() -> None:
    text = tracker_block(ONNX_FILE, "m.onnx", 16, "nvdcf")
    storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    found = storage.getNode("TrajectoryManagement")
    assert found.getNode("enableReAssoc").real() == 1
    assert found.getNode("reidExtractionInterval").real() == 8
    assert "TrajectoryManagement" not in tracker_block(ONNX_FILE, "m.onnx", 16, "nvdeepsort")


@pytest.mark.parametrize(("version", "named"), [("", False), ("7.1", False), ("9.2", True)])
def test_only_files_for_the_newest_versions_name_strong_types(version: str, named: bool) -> None:
    text = infer_file(ONNX_FILE, "m.onnx", 16, 0, version)
    assert ("strongly-typed" in text) == named
    assert "strongly-typed" not in infer_section(text)


def test_another_version_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"6\.4.*7\.2"):
        bundle_deepstream(tmp_path / "none.onnx", tmp_path / "out", version="7.2")
    assert not (tmp_path / "out").exists()
