"""`reid export` and `reid parity` from outside: files, exit codes, and clean streams."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reid.cli import INTERRUPTED, main
from reid.files import sha256_of_file
from reid.model_file.manifest import read_manifest, write_manifest

Capture = pytest.CaptureFixture[str]
QUICK = ["--crops", "16", "--skip-eval"]


def last_line(capsys: Capture) -> str:
    """The error's line; nothing but bars above it, nothing on stdout."""
    shown = capsys.readouterr()
    lines = [line for line in shown.err.replace("\r", "\n").splitlines() if line.strip()]
    assert shown.out == ""
    assert all(re.match(r"\w+: [\d,]+", line) for line in lines[:-1]), shown.err
    return lines[-1]


def test_export_writes_proven_files_and_prints_json_alone(
    road: Any, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["export", str(road.run), "--out", str(tmp_path), "--fp16", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    names = ["msp_cnn.fp32.onnx", "msp_cnn.fp16.onnx"]
    assert found["files"] == [str(tmp_path / name) for name in names]
    assert found["engines"] == []
    assert [proof["passed"] for proof in found["parity"]] == [True, True]
    manifests = [f"{name}.json" for name in names]
    assert {path.name for path in tmp_path.iterdir()} == {*names, *manifests}
    for name, precision in zip(names, ("fp32", "fp16"), strict=True):
        manifest = read_manifest(tmp_path / name)
        assert (manifest.precision, manifest.stage) == (precision, "embed")
        assert manifest.source_sha256 == sha256_of_file(road.run / "checkpoint.pt")
        assert (tmp_path / name).read_bytes() == road.onnx(precision).read_bytes()
        assert f"{tmp_path / name}  {'27.0' if precision == 'fp32' else '13.5'} MB  " in shown.err
        assert manifest.parity["passed"] is True
        assert manifest.parity["num_crops"] == 64
        assert f"{name}: parity passed on 64 crops" in shown.err


def test_without_a_builder_or_a_proof_export_says_so_and_leaves_the_onnx(
    road: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    arguments = ["export", str(road.run), "--out", str(tmp_path), "--no-parity", "--trt"]
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    line = shown.err.splitlines()[-1]
    assert line.startswith(
        "reid: error: cannot build an engine on this machine: tensorrt is not installed"
    )
    assert "pip install tensorrt-rtx" in line
    assert "parity: not checked" in shown.err
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"msp_cnn.fp32.onnx", "msp_cnn.fp32.onnx.json"}
    assert read_manifest(tmp_path / "msp_cnn.fp32.onnx").parity == {}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_parity_of_a_good_file_is_0_and_json_is_alone_on_stdout(
    precision: str, road: Any, road_data: list[str], tmp_path: Path, capsys: Capture
) -> None:
    file = road.copy_of(precision, tmp_path)
    assert main(["parity", str(road.run), str(file), *road_data, "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert (found["passed"], found["precision"]) == (True, precision)
    assert found["checks"]["rank1_change"]["status"] == "ok"
    assert found["checks"]["map_change"]["status"] == "ok"
    assert "crops" in shown.err


def wrong_mean(file: Path) -> None:
    manifest = read_manifest(file)
    preprocess = dataclasses.replace(manifest.preprocess, mean=(102.0, 102.0, 131.0))
    write_manifest(file, dataclasses.replace(manifest, preprocess=preprocess))


def swapped_channels(file: Path) -> None:
    manifest = read_manifest(file)
    preprocess = dataclasses.replace(manifest.preprocess, channel_order="RGB")
    write_manifest(file, dataclasses.replace(manifest, preprocess=preprocess))


def changed_weight(file: Path) -> None:
    """One filter of the first convolution turned round."""
    model = onnx.load(file)
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    values = numpy_helper.to_array(weight).copy()
    values[0] = -values[0]
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, file)
    manifest = read_manifest(file, check_hash=False)
    write_manifest(file, manifest)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("spoil", [wrong_mean, swapped_channels, changed_weight])
def test_parity_of_a_spoilt_file_is_3_and_recorded(
    spoil: Any,
    precision: str,
    road: Any,
    road_data: list[str],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    file = road.copy_of(precision, tmp_path)
    spoil(file)
    assert main(["parity", str(road.run), str(file), *road_data, *QUICK, "--json"]) == 3
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["passed"] is False
    line = shown.err.splitlines()[-1]
    assert line.startswith(f"reid: error: {file} ({precision}) differs from {road.run}")
    assert "max_error" in line
    assert read_manifest(file).parity["passed"] is False


def test_the_table_has_every_measure_and_the_verdict(
    road: Any, road_data: list[str], tmp_path: Path, capsys: Capture
) -> None:
    file = road.copy_of("fp32", tmp_path)
    assert main(["parity", str(road.run), str(file), *road_data, *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "parity: passed"
    status = {line.split()[0]: line.split("  ")[-1] for line in lines if line.strip()}
    assert status["lowest_row_cosine"] == "ok"
    assert status["rank1_change"] == "not checked"


def test_parity_needs_no_folder_of_images(road: Any, tmp_path: Path, capsys: Capture) -> None:
    file = road.copy_of("fp32", tmp_path)
    assert main(["parity", str(road.run), str(file), *QUICK]) == 0
    assert "parity: passed" in capsys.readouterr().out


def test_the_verdict_is_printed_even_where_it_cannot_be_kept(
    road: Any,
    road_data: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    file = road.copy_of("fp32", tmp_path)

    def read_only(source: Any, target: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))

    monkeypatch.setattr(os, "replace", read_only)
    assert main(["parity", str(road.run), str(file), *road_data, *QUICK]) == 1
    shown = capsys.readouterr()
    assert "parity: passed" in shown.out
    assert shown.err.splitlines()[-1].endswith(
        "the file system is read-only; choose another folder"
    )


def test_an_export_into_a_read_only_folder_leaves_nothing(
    road: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def read_only(source: Any, target: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))

    monkeypatch.setattr(os, "replace", read_only)
    assert main(["export", str(road.run), "--out", str(tmp_path), "--no-parity"]) == 1
    assert "the file system is read-only" in last_line(capsys)
    assert list(tmp_path.iterdir()) == []


def text_as_onnx(folder: Path) -> Path:
    file = folder / "text.onnx"
    file.write_text("no graph")
    return file


def other_onnx(folder: Path) -> Path:
    shape = ["N", 3, 4, 4]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph([node], "other", [ends[0]], [ends[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    file = folder / "other.onnx"
    onnx.save(model, file)
    return file


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "never.onnx", "no such file"),
        (text_as_onnx, "is not an ONNX file"),
        (other_onnx, "was not exported by this toolkit"),
    ],
)
def test_parity_of_what_is_no_candidate_is_one_line(
    make: Any, words: str, road: Any, road_data: list[str], tmp_path: Path, capsys: Capture
) -> None:
    file = make(tmp_path)
    assert main(["parity", str(road.run), str(file), *road_data, *QUICK]) == 1
    line = last_line(capsys)
    assert words in line
    assert str(file) in line


def test_parity_of_another_file_s_manifest_is_one_line_and_leaves_it(
    road: Any, road_data: list[str], tmp_path: Path, capsys: Capture
) -> None:
    file = road.copy_of("fp32", tmp_path)
    shutil.copy(f"{road.onnx('fp16')}.json", f"{file}.json")
    before = Path(f"{file}.json").read_bytes()
    assert main(["parity", str(road.run), str(file), *road_data, *QUICK]) == 1
    assert "describes another file: expected SHA-256" in last_line(capsys)
    assert Path(f"{file}.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["parity", "a", "b", "--data", "market1501"], 1, "--data-root"),
        (["parity", "a", "b", "--data", "syntetic"], 1, "did you mean 'synthetic'?"),
        (["parity", "a", "b", "--crops", "0"], 2, "0 is not in the range x>=16"),
        (["parity", "a"], 2, "Missing argument 'CANDIDATE'"),
        (["export", "never", "--out", "x"], 1, "never: no such file; expected a run folder"),
        (["export", ".", "--out", "x"], 1, "no checkpoint.pt in the folder"),
        (["export", "a", "--out", "x", "--minBatch", "9"], 1, "1 <= min <= opt <= max"),
        (["export", "a", "--out", "x", "--maxbatch", "9"], 2, "--maxBatch"),
        (["export", "a", "--out", "x", "--flavour", "trt"], 2, "'tensorrt_rtx'"),
        (["export", "a"], 2, "Missing option '--out'"),
    ],
)
def test_a_mistake_is_reported_and_leaves_nothing(
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_export_below_a_file_is_one_line(road: Any, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("")
    assert main(["export", str(road.run), "--out", str(tmp_path / "file" / "out")]) == 1
    assert "a part of the path is a file; choose another folder" in last_line(capsys)


def test_ctrl_c_while_exporting_is_130_and_leaves_no_half_file(
    road: Any, interrupt: Any, tmp_path: Path
) -> None:
    arguments = ["export", str(road.run), "--out", str(tmp_path / "out"), "--fp16"]
    code, stdout, stderr = interrupt(arguments, lambda said: "exporting" in said)
    assert code == INTERRUPTED, stderr
    assert stdout == ""
    assert stderr.splitlines()[-1] == "reid: interrupted"
    assert list(tmp_path.rglob("*.*")) == []
