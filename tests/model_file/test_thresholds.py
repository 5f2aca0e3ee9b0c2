"""Thresholds in the manifest: what is kept, what is refused, which limit they give."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from reid.errors import ManifestError, ModelFileError
from reid.model_file.keeping import keep_thresholds
from reid.model_file.manifest import Manifest, manifest_path, read_manifest, write_manifest
from reid.model_file.opening import ModelFile
from reid.model_file.preprocess import Preprocess
from reid.model_file.thresholds import PairRate, SearchRate, Thresholds
from reid.types import ArraySpec

THRESHOLDS = Thresholds(
    source="market1501",
    graph="embed",
    num_people=100,
    num_different=466_000,
    rates=(
        PairRate(1e-2, 0.8, 0.005, 0.02, 0.6, 0.5, 0.7),
        PairRate(1e-3, 0.7, None, None, 0.4, 0.3, 0.5),
        PairRate(1e-4, 0.5),
    ),
    searches=(SearchRate(100, 0.09, 0.75, 0.05, 0.1), SearchRate(1000, 0.1, 0.6)),
)
MANIFEST = Manifest("msp_cnn", "embed", Preprocess(), thresholds=THRESHOLDS)


def test_thresholds_read_back_as_they_were_written() -> None:
    assert Manifest.from_json(MANIFEST.to_json(), "text") == MANIFEST


def test_a_manifest_without_thresholds_opens_with_none() -> None:
    body = json.loads(MANIFEST.to_json())
    del body["thresholds"]
    assert Manifest.from_json(json.dumps(body), "text").thresholds is None


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("", "num_people", -1),
        ("", "num_people", "100"),
        ("", "source", 3),
        ("", "same_camera", 0),
        ("", "rates", []),
        ("", "rates", 7),
        ("", "unknown", 1),
        ("rates", "distance", None),
        ("rates", "distance", True),
        ("rates", "distance", float("nan")),
        ("rates", "fpr", "0.01"),
        ("rates", "unknown", 1),
        ("searches", "entries", 10.5),
        ("searches", "fpir", None),
    ],
)
def test_thresholds_of_another_kind_are_refused(part: str, name: str, value: Any) -> None:
    body = json.loads(MANIFEST.to_json())
    item = body["thresholds"]
    (item[part][0] if part else item)[name] = value
    with pytest.raises(ManifestError, match="manifest in question"):
        Manifest.from_json(json.dumps(body), "manifest in question")


def test_they_stay_with_the_graph_that_was_measured() -> None:
    run = dataclasses.replace(MANIFEST, stage="train")
    image = (ArraySpec("data", run.preprocess.input_shape),)
    vector, maps = (ArraySpec("embedding", (256,)),), (ArraySpec("maps", (96, 40, 15)),)
    assert run.of_graph("embed", image, vector).thresholds == THRESHOLDS
    assert run.of_graph("second", image, vector).thresholds is None
    assert run.of_graph("describe", image, maps).thresholds is None


def test_a_pair_is_judged_by_its_rate_or_the_nearest_below_it() -> None:
    def limit(fpr: float) -> float:
        return dataclasses.replace(THRESHOLDS, fpr=fpr).for_pairs().distance

    assert limit(1e-3) == 0.7
    assert limit(5e-3) == 0.7
    assert limit(1e-2) == 0.8
    assert limit(1e-5) == 0.5
    words = THRESHOLDS.for_pairs().words
    for part in ("0.7", "0.001", "market1501", "100 people"):
        assert part in words


def test_a_gallery_is_judged_by_the_next_larger_size_and_a_larger_one_says_so() -> None:
    assert [THRESHOLDS.for_gallery(size).distance for size in (0, 100, 101, 1000)] == [
        0.75,
        0.75,
        0.6,
        0.6,
    ]
    words = THRESHOLDS.for_gallery(500).words
    assert "10.0%" in words
    assert "1,000 images" in words
    beyond = THRESHOLDS.for_gallery(5_000)
    assert beyond.distance == 0.6
    assert "5,000" in beyond.words
    assert "5,000" not in words
    few = dataclasses.replace(
        THRESHOLDS, searches=(SearchRate(10, 0.05, 0.9), *THRESHOLDS.searches)
    )
    assert few.for_gallery(3).distance == 0.75  # that of a hundred
    only = dataclasses.replace(few, searches=few.searches[:1])
    assert only.for_gallery(3).distance == 0.9
    assert "this gallery" not in only.for_gallery(3).words
    assert "20" in only.for_gallery(20).words


def test_without_searches_the_lowest_rate_judges_and_the_words_say_that() -> None:
    found = dataclasses.replace(THRESHOLDS, searches=()).for_gallery(50)
    assert found.distance == 0.5
    assert "not measured" in found.words


def test_keeping_changes_the_manifest_beside_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    write_manifest(path, dataclasses.replace(MANIFEST, thresholds=None))
    file = ModelFile(path)
    before = read_manifest(path)
    assert file.sha256 == before.file_sha256
    assert keep_thresholds(file, before, THRESHOLDS) == [manifest_path(path)]
    assert path.read_bytes() == b"model"
    assert read_manifest(path) == dataclasses.replace(before, thresholds=THRESHOLDS)


def test_a_file_with_its_manifest_inside_gets_one_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    inside = dataclasses.replace(MANIFEST, thresholds=None)
    keep_thresholds(ModelFile(path), inside, THRESHOLDS)
    assert read_manifest(path).thresholds == THRESHOLDS


def test_both_files_of_a_network_that_compares_pairs_get_them(tmp_path: Path) -> None:
    paths = [tmp_path / f"csn.{graph}.fp32.onnx" for graph in ("describe", "compare")]
    for path, graph in zip(paths, ("describe", "compare"), strict=True):
        path.write_bytes(graph.encode())
        write_manifest(path, dataclasses.replace(MANIFEST, stage=graph, thresholds=None))
    own = dataclasses.replace(THRESHOLDS, graph="describe")
    keep_thresholds(ModelFile(paths[1]), read_manifest(paths[0]), own)
    assert [read_manifest(path).thresholds for path in paths] == [own, own]
    assert [read_manifest(path).stage for path in paths] == ["describe", "compare"]


def test_a_file_that_was_written_again_meanwhile_gets_none(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    write_manifest(path, dataclasses.replace(MANIFEST, thresholds=None))
    file = ModelFile(path)
    assert file.sha256
    path.write_bytes(b"another")
    write_manifest(path, dataclasses.replace(MANIFEST, thresholds=None))
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        keep_thresholds(file, MANIFEST, THRESHOLDS)
    assert read_manifest(path).thresholds is None
