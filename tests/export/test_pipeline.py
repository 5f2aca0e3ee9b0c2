"""What stands between a checkpoint and proven files: which images, which verdict, kept where."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from reid.data import load_split
from reid.errors import DataError, ModelFileError, OutputError, ParityError, ReidError
from reid.export.pipeline import (
    Proof,
    export_checkpoint,
    prove,
    prove_on_synthetic,
    spread,
    synthetic_or_real,
)
from reid.model_file.manifest import manifest_path, read_manifest, write_manifest
from reid.types import ImageRecord, Protocol, Split
from tests.heard import Heard


def numbered(num_query: int, num_gallery: int) -> Split:
    records = [ImageRecord(Path(f"{i}.jpg"), 1 + i % 3, 1) for i in range(num_query + num_gallery)]
    query, gallery = tuple(records[:num_query]), tuple(records[num_query:])
    return Split("drawn", (), query, gallery, Protocol("market"), "")


def spoilt_mean(file: Path) -> None:
    """A manifest that is of its file, but lies about the mean."""
    manifest = read_manifest(file)
    preprocess = dataclasses.replace(manifest.preprocess, mean=(102.0, 102.0, 131.0))
    write_manifest(file, dataclasses.replace(manifest, preprocess=preprocess))


@pytest.fixture
def split(road: Any) -> Split:
    return load_split("synthetic", road.people)


@pytest.mark.parametrize(("num_query", "num_gallery", "count"), [(10, 30, 7), (80, 276, 256)])
def test_crops_are_spread_over_query_and_gallery(
    num_query: int, num_gallery: int, count: int
) -> None:
    split = numbered(num_query, num_gallery)
    chosen = [int(record.path.stem) for record in spread(split, count)]
    total = num_query + num_gallery
    assert len(chosen) == count
    assert (chosen[0], chosen[-1]) == (0, total - 1)
    steps = {b - a for a, b in itertools.pairwise(chosen)}
    assert max(steps) - min(steps) <= 1
    assert min(steps) >= 1


def test_of_fewer_images_all_are_taken() -> None:
    split = numbered(2, 3)
    assert spread(split, 100) == [*split.query, *split.gallery]


def test_without_a_folder_people_are_drawn_and_gone_afterwards(road: Any) -> None:
    with synthetic_or_real("synthetic", None, road.run) as split:
        paths = [record.path for record in (*split.query, *split.gallery)]
        assert all(path.is_file() for path in paths)
        assert len(split.query) == 64
    assert not any(path.exists() for path in paths)


@pytest.mark.parametrize(
    ("name", "words"),
    [("market1501", "--data-root"), ("syntetic", "did you mean 'synthetic'")],
)
def test_another_dataset_is_not_replaced_by_synthetic_people(
    name: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words), synthetic_or_real(name, None, tmp_path):
        pytest.fail("a split was given")


def test_a_real_dataset_is_split_as_the_model_was_trained(
    road: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}

    def load(name: str, root: Path, **options: Any) -> Split:
        asked.update(options, name=name, root=root)
        return numbered(1, 1)

    monkeypatch.setattr("reid.evaluation.evaluating.load_split", load)
    monkeypatch.setattr("reid.evaluation.evaluating._trained_on", lambda model, name: (486, 3))
    with synthetic_or_real("cuhk01", tmp_path, road.run):
        pass
    names = ("name", "root", "num_test_identities", "split_seed")
    assert {name: asked[name] for name in names} == {
        "name": "cuhk01",
        "root": tmp_path,
        "num_test_identities": 486,
        "split_seed": 3,
    }


def test_a_folder_without_a_checkpoint_exports_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no checkpoint\.pt in the folder"):
        list(export_checkpoint(tmp_path, tmp_path / "out", ("fp32",)))
    assert not (tmp_path / "out").exists()


def test_a_proof_is_shown_with_paths_and_kept_in_the_manifest(
    road: Any, split: Split, tmp_path: Path
) -> None:
    file = road.copy_of("fp16", tmp_path)
    write_manifest(file, dataclasses.replace(read_manifest(file), parity={}))
    heard = Heard()
    proof = prove(road.run, file, split, max_crops=32, reporter=heard)
    assert (proof.report.reference, proof.report.candidate) == (str(road.run), str(file))
    assert proof.report.passed
    assert proof.report.found("rank1_change") is not None
    total = len(split.query) + len(split.gallery)
    assert heard.calls[0] == (32, 32, "crops")
    assert heard.calls.count((total, total, "describing")) == 2, "the reference, then the candidate"
    assert read_manifest(file).parity == {}
    proof.settle()
    kept = read_manifest(file).parity
    assert kept["passed"]
    assert kept["checks"] == proof.report.to_json()["checks"]
    assert kept["reference"].startswith("torch ")
    words = proof.words()
    assert words.startswith("msp_cnn.fp16.onnx: parity passed on 32 crops, lowest row cosine 0.99")


def test_files_just_made_are_proven_without_ranking(road: Any, tmp_path: Path) -> None:
    (proof,) = prove_on_synthetic(road.run, [road.onnx("fp32")])
    assert (proof.report.num_crops, proof.report.passed) == (64, True)
    assert proof.report.found("rank1_change") is None


def test_a_failed_proof_is_kept_too_and_raised(road: Any, split: Split, tmp_path: Path) -> None:
    file = road.copy_of("fp32", tmp_path)
    spoilt_mean(file)
    proof = prove(road.run, file, split, max_crops=32)
    assert "parity FAILED on 32 crops" in proof.words()
    assert proof.report.found("rank1_change") is None, "no ranking of a file that failed"
    with pytest.raises(ParityError, match="max_error"):
        proof.settle()
    assert read_manifest(file).parity["passed"] is False


@pytest.fixture
def passed(road: Any, split: Split, tmp_path: Path) -> Proof:
    file = road.copy_of("fp32", tmp_path)
    return prove(road.run, file, split, max_crops=16, with_evaluation=False)


def read_only(source: Any, target: Any) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))


def test_a_verdict_says_the_hashes_of_what_was_compared(road: Any, passed: Proof) -> None:
    files = road.run / "checkpoint.pt", passed.file
    expected = [{one.name: hashlib.sha256(one.read_bytes()).hexdigest()} for one in files]
    for body in (passed.report.to_json(), passed.kept.to_json()):
        assert [body["reference_sha256"], body["candidate_sha256"]] == expected
    for name, digest in (expected[0] | expected[1]).items():
        assert f"sha256     {digest}  {name}" in passed.report.text()


@pytest.mark.parametrize("kind", ["run", "onnx", "onnx alone"])
def test_a_damaged_reference_is_refused(road: Any, split: Split, tmp_path: Path, kind: str) -> None:
    source = road.run / "checkpoint.pt" if kind == "run" else road.onnx("fp32")
    reference = tmp_path / source.name
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 0x80  # the sign of a weight
    reference.write_bytes(content)
    if kind != "onnx alone":
        manifest_path(reference).write_bytes(manifest_path(source).read_bytes())
    with pytest.raises(ReidError, match=r"damaged|describes another file") as caught:
        prove(reference, road.onnx("fp16"), split, max_crops=16, with_evaluation=False)
    assert not isinstance(caught.value, ParityError)


def test_a_verdict_that_cannot_be_kept_is_an_output_error(
    passed: Proof, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = manifest_path(passed.file).read_bytes()
    monkeypatch.setattr(os, "replace", read_only)
    with pytest.raises(OutputError, match="read-only"):
        passed.settle()
    assert manifest_path(passed.file).read_bytes() == before


def test_a_failure_is_never_hidden_by_a_verdict_that_cannot_be_kept(
    passed: Proof, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = dataclasses.replace(passed.report, remarks=("a row is not finite",))
    monkeypatch.setattr(os, "replace", read_only)
    with pytest.raises(ParityError, match="a row is not finite"):
        dataclasses.replace(passed, report=failed).settle()


def test_a_file_that_came_alone_gets_its_manifest_back_with_the_verdict(passed: Proof) -> None:
    manifest_path(passed.file).unlink()
    passed.keep()
    manifest = read_manifest(passed.file)
    assert manifest.parity["passed"] is True
    assert manifest.network == "msp_cnn"


def test_a_checkpoint_has_no_place_for_a_verdict(road: Any, split: Split) -> None:
    before = (road.run / "checkpoint.pt.json").read_bytes()
    proof = prove(road.onnx("fp32"), road.run, split, max_crops=16, with_evaluation=False)
    proof.settle()
    assert (road.run / "checkpoint.pt.json").read_bytes() == before
    assert json.loads(before)["parity"] == {}
