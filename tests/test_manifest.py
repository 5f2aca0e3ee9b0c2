"""The manifest says what a file means, and is refused when it is of another file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reid.errors import ManifestError
from reid.manifest import EngineInfo, Manifest, manifest_path, read_manifest, write_manifest
from reid.preprocess import Preprocess

ENGINE = EngineInfo("sm87", "10.3.0", "tensorrt", 1, 8, 32)
MANIFEST = Manifest(
    network="msp_cnn",
    stage="embed",
    preprocess=Preprocess(channel_order="RGB", mean=(1.0, 2.0, 3.0)),
    precision="fp16",
    fp32_islands=("l2_normalise",),
    dataset="cuhk01",
    num_test_identities=486,
    split_seed=3,
    engine=ENGINE,
    parity={"passed": True},
)


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"model")
    written = write_manifest(file, MANIFEST)
    assert manifest_path(file).name == "model.onnx.json"
    assert read_manifest(file) == written
    assert Manifest.from_json(MANIFEST.to_json(), "text") == MANIFEST


def test_a_manifest_of_another_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"model")
    write_manifest(file, MANIFEST)
    file.write_bytes(b"another model")
    with pytest.raises(ManifestError, match=r"describes another file.*copy the two files together"):
        read_manifest(file)
    assert read_manifest(file, check_hash=False).network == "msp_cnn"


def test_a_missing_manifest_says_to_keep_it_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"keep the \.json with its file"):
        read_manifest(tmp_path / "model.onnx")


def changed(**values: object) -> str:
    body = json.loads(MANIFEST.to_json())
    body.update(values)
    return json.dumps({key: value for key, value in body.items() if value is not None})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "format_version None"),
        (changed(format_version=99), "format_version 99, this version reads 1"),
        (changed(network=None), "is not a manifest"),
        (changed(colour="red"), "is not a manifest"),
        (changed(preprocess={"mean": 3}), "is not a manifest"),
        (changed(preprocess=[1]), "is not a manifest"),
        (
            changed(preprocess={"mean": [1, 2, 3], "std": [1, 1, 1], "channel_order": "XYZ"}),
            "channel_order is BGR or RGB",
        ),
        (changed(engine={"gpu": 1}), "is not a manifest"),
    ],
)
def test_a_malformed_manifest_is_named_with_its_fault(text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        Manifest.from_json(text, "model.onnx.json")
