"""The manifest says what a file means, and is refused when it is of another file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from reid.errors import ManifestError
from reid.model_file.manifest import (
    BatchProfile,
    EngineInfo,
    Manifest,
    manifest_path,
    read_manifest,
    write_manifest,
)
from reid.model_file.preprocess import Preprocess
from reid.types import ArraySpec

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
QUERY = ArraySpec("query_maps", (96, 40, 15), batched=False)
GALLERY = ArraySpec("gallery_maps", (96, 40, 15))
VECTOR = ArraySpec("ranking_vector", (256,))
SCORE = ArraySpec("score", (1,))


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"model")
    written = write_manifest(file, MANIFEST)
    assert manifest_path(file).name == "model.onnx.json"
    assert read_manifest(file) == written
    assert Manifest.from_json(MANIFEST.to_json(), "text") == MANIFEST


def test_a_manifest_of_several_arrays_reads_back_as_it_was_written() -> None:
    manifest = MANIFEST.of_graph("compare", (QUERY, GALLERY), (SCORE, VECTOR))
    assert Manifest.from_json(manifest.to_json(), "text") == manifest
    assert manifest.stage == "compare"
    assert manifest.input_arrays == (QUERY, GALLERY)
    assert manifest.output_arrays == (SCORE, VECTOR)
    assert manifest.preprocess == MANIFEST.preprocess


def test_an_engine_of_several_profiles_reads_back_and_an_old_one_has_one() -> None:
    engine = dataclasses.replace(ENGINE, more_profiles=(BatchProfile(33, 64, 128),))
    manifest = dataclasses.replace(MANIFEST, engine=engine)
    assert Manifest.from_json(manifest.to_json(), "text") == manifest
    assert engine.profiles == (BatchProfile(1, 8, 32), BatchProfile(33, 64, 128))
    body = json.loads(MANIFEST.to_json())
    del body["engine"]["more_profiles"]
    old = Manifest.from_json(json.dumps(body), "written before there were several").engine
    assert old == ENGINE
    assert old.profiles == (BatchProfile(1, 8, 32),)


def test_what_a_graph_does_by_itself_reads_back_and_an_old_manifest_says_nothing() -> None:
    inside = Preprocess(channel_order="RGB", std=(58.0, 57.0, 58.0))
    manifest = dataclasses.replace(MANIFEST, preprocess=inside.resize_only(), inside=inside)
    assert Manifest.from_json(manifest.to_json(), "text") == manifest
    body = json.loads(MANIFEST.to_json())
    del body["inside"]
    assert Manifest.from_json(json.dumps(body), "written by an earlier version") == MANIFEST


def test_a_mirrored_graph_reads_back_and_one_of_an_earlier_version_is_not() -> None:
    manifest = MANIFEST.with_mirror()
    assert manifest.mirrored
    assert Manifest.from_json(manifest.to_json(), "text") == manifest
    body = json.loads(MANIFEST.to_json())
    del body["mirrored"]
    assert Manifest.from_json(json.dumps(body), "written by an earlier version") == MANIFEST


def test_without_a_usual_score_the_one_of_the_papers_weight_holds() -> None:
    body = json.loads(dataclasses.replace(MANIFEST, usual_score=0.25).to_json())
    assert Manifest.from_json(json.dumps(body), "text").usual_score == 0.25
    del body["usual_score"]
    assert Manifest.from_json(json.dumps(body), "written by an earlier version") == MANIFEST


@pytest.mark.parametrize("score", [0.0, -0.7, float("nan"), float("inf")])
def test_a_usual_score_that_is_no_score_is_refused(score: float) -> None:
    text = dataclasses.replace(MANIFEST, usual_score=score).to_json()
    with pytest.raises(ManifestError, match="usual_score must be above 0"):
        Manifest.from_json(text, "model.json")


def test_a_manifest_without_lists_of_arrays_takes_an_image_and_gives_a_vector() -> None:
    body = json.loads(MANIFEST.to_json())
    del body["inputs"], body["outputs"]
    manifest = Manifest.from_json(json.dumps(body), "written before there were lists")
    assert manifest.input_arrays == (ArraySpec("data", (3, 144, 56)),)
    assert manifest.output_arrays == (ArraySpec("embedding", (256,)),)


def test_the_manifest_of_an_image_and_a_vector_names_them_without_lists() -> None:
    image = ArraySpec("image", MANIFEST.preprocess.input_shape)
    compare = MANIFEST.of_graph("compare", (QUERY, GALLERY), (SCORE,))
    embed = compare.of_graph("embed", (image,), (VECTOR,))
    assert (embed.input_name, embed.output_name, embed.output_dim) == (
        "image",
        "ranking_vector",
        256,
    )
    assert embed.inputs == embed.outputs == ()
    assert embed.input_arrays == (image,)
    assert embed.output_arrays == (VECTOR,)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ((ArraySpec("maps", (96, 40, 15)),), (VECTOR,)),
        ((ArraySpec("data", (3, 144, 56)),), (GALLERY,)),
        ((ArraySpec("data", (3, 144, 56)),), (GALLERY, VECTOR)),
        ((ArraySpec("data", (3, 144, 56)), ArraySpec("other", (3, 144, 56))), (SCORE,)),
    ],
)
def test_any_other_graph_is_described_by_lists(
    inputs: tuple[ArraySpec, ...], outputs: tuple[ArraySpec, ...]
) -> None:
    manifest = MANIFEST.of_graph("other", inputs, outputs)
    assert (manifest.inputs, manifest.outputs) == (inputs, outputs)
    assert dataclasses.replace(manifest, stage="embed", inputs=(), outputs=()) == MANIFEST


def test_an_array_in_words_says_whether_it_is_batched() -> None:
    assert QUERY.words() == "query_maps (1, 96, 40, 15)"
    assert VECTOR.words() == "ranking_vector (N, 256)"


def test_a_manifest_of_another_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"model")
    write_manifest(file, MANIFEST)
    file.write_bytes(b"another model")
    with pytest.raises(
        ManifestError, match=r"model\.onnx\.json describes another file: expected SHA-256"
    ):
        read_manifest(file)
    assert read_manifest(file, check_hash=False).network == "msp_cnn"


def test_a_manifest_whose_file_is_gone_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"model")
    write_manifest(file, MANIFEST)
    file.unlink()
    with pytest.raises(ManifestError, match=r"model\.onnx, which cannot be read"):
        read_manifest(file)


def test_a_missing_manifest_says_to_keep_it_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"model\.onnx\.json beside the model"):
        read_manifest(tmp_path / "model.onnx")


def changed(**values: object) -> str:
    body = json.loads(MANIFEST.to_json())
    body.update(values)
    return json.dumps({key: value for key, value in body.items() if value is not None})


def engine_with(more_profiles: object) -> str:
    return engine_of(more_profiles=more_profiles)


def engine_of(**values: object) -> str:
    return changed(engine={**dataclasses.asdict(ENGINE), **values})


def preprocessing(**values: object) -> str:
    return changed(preprocess={**dataclasses.asdict(MANIFEST.preprocess), **values})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "expected a JSON object, found list"),
        ("{}", "format_version None"),
        (changed(format_version=99), "format_version 99, expected 1"),
        (changed(network=None), "is not a valid manifest"),
        (changed(colour="red"), "is not a valid manifest"),
        (changed(preprocess={"mean": 3}), "is not a valid manifest"),
        (changed(preprocess=[1]), "is not a valid manifest"),
        (
            changed(preprocess={"mean": [1, 2, 3], "std": [1, 1, 1], "channel_order": "XYZ"}),
            "channel_order must be BGR or RGB, found 'XYZ'",
        ),
        (changed(engine={"gpu": 1}), "is not a valid manifest"),
        (engine_with([[1, 8]]), "is not a valid manifest"),
        (engine_with([[1, 8, "32"]]), "batch sizes must be integers above 0"),
        (engine_with([[0, 8, 32]]), "batch sizes must be integers above 0"),
        (engine_with(3), "is not a valid manifest"),
        (changed(engine=[1]), "is not a valid manifest"),
        (changed(inputs=3), "is not a valid manifest"),
        (changed(inputs=["data"]), "is not a valid manifest"),
        (changed(inputs={"data": [3]}), "is not a valid manifest"),
        (changed(outputs=[{"name": "score", "shape": [1]}]), "is not a valid manifest"),
        (
            changed(outputs=[{"name": "score", "shape": 1, "batched": True}]),
            "is not a valid manifest",
        ),
        (changed(outputs=[{"name": 7, "shape": [1], "batched": True}]), "a name and integer sizes"),
        (changed(inputs=[{"name": "x", "shape": [1.5], "batched": True}]), "integer sizes"),
        (changed(inputs=[{"name": "x", "shape": "12", "batched": True}]), "integer sizes"),
        ("[" * 100_000, "is not JSON"),
        (changed(network=5), "network must be str, found 5"),
        (changed(precision=["fp16"]), "precision must be str"),
        (changed(output_dim="256"), "output_dim must be int, found '256'"),
        (changed(output_dim=0), "output_dim must be above 0"),
        (changed(parity=[1]), "parity must be dict"),
        (changed(fp32_islands=[1]), "fp32_islands must be names"),
        (preprocessing(crop_width=1.5), "crop_width must be int, found 1.5"),
        (preprocessing(mean="xyz"), "mean must be three finite numbers"),
        (preprocessing(mean=[1, 2]), "mean must be three finite numbers"),
        (preprocessing(std=[1, 2, float("nan")]), "std must be three finite numbers"),
        (preprocessing(resize_height=10**12), "at most 4096 pixels per side"),
        (changed(inside={"mean": [1, 2, 3]}), "is not a valid manifest"),
        (engine_of(gpu_architecture=87), "gpu_architecture must be str, found 87"),
        (engine_of(max_batch=0), "batch sizes must be integers above 0"),
        (engine_of(stripped="no"), "stripped must be bool"),
        (changed(mirrored="yes"), "mirrored must be bool, found 'yes'"),
    ],
)
def test_a_malformed_manifest_is_named_with_its_fault(text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        Manifest.from_json(text, "model.onnx.json")


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", ".hidden", "a\x1b[2J", "a\0b", "a\nb"])
@pytest.mark.parametrize("field", ["network", "stage", "precision"])
def test_a_name_that_no_file_should_have_is_refused(field: str, name: str) -> None:
    manifest = dataclasses.replace(MANIFEST, **{field: name})
    with pytest.raises(ManifestError, match="expected a name"):
        Manifest.from_json(manifest.to_json(), "text")


@pytest.mark.parametrize("name", ["model.onnx", "model.engine", "model.plan", "model.caffemodel"])
def test_the_manifest_of_the_file_before_is_recognised_and_writing_again_mends_it(
    name: str, tmp_path: Path
) -> None:
    """A process was killed after the file, before its manifest: they are written in this order."""
    file = tmp_path / name
    file.write_bytes(b"before")
    write_manifest(file, MANIFEST)
    file.write_bytes(b"after")
    with pytest.raises(ManifestError, match=f"{name}.json describes another file.*again"):
        read_manifest(file)
    assert read_manifest(file, check_hash=False).network == MANIFEST.network
    write_manifest(file, MANIFEST)
    assert read_manifest(file).network == MANIFEST.network
