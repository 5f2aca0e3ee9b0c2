"""The ground floor's commands end to end: results on stdout, one line for each mistake."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import reid.training.loop
from reid.cli import INTERRUPTED, main
from reid.config.settings import TrainConfig
from reid.config.toml import config_from_toml
from reid.model_file.manifest import EngineInfo, read_manifest, write_manifest
from reid.training.checkpoint import load_checkpoint
from reid.training.loop import TrainResult

Capture = pytest.CaptureFixture[str]
PEOPLE = ["--train-identities", "2", "--test-identities", "2", "--cameras", "2", "--images", "2"]

STOPPED = 130
"""Exit code of a training that was asked to stop, saved its checkpoint and said so."""


def refused(arguments: list[str], capsys: Capture) -> str:
    """Run into a ReidError; return its line, the only one but for bars, with stdout empty."""
    code = main(arguments)
    shown = capsys.readouterr()
    lines = [line for line in shown.err.replace("\r", "\n").splitlines() if line.strip()]
    assert code == 1, shown.err
    assert shown.out == ""
    assert lines[-1].startswith("reid: error: ")
    assert all(re.match(r"\w+: [\d,]+", line) for line in lines[:-1]), shown.err
    return lines[-1].removeprefix("reid: error: ")


def test_synth_draws_a_dataset_that_check_reads(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "people"
    assert main(["data", "synth", str(folder), *PEOPLE, "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out)
    assert (drawn["train_images"], drawn["query_images"]) == (8, 4)
    assert main(["data", "check", "synthetic", "--data-root", str(folder), "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["dataset"] == "synthetic"
    assert "reading" in shown.err
    assert main(["data", "check", "synthetic", "--data-root", str(folder)]) == 0
    assert "\ntrain              8           2" in capsys.readouterr().out


def test_synth_says_what_it_drew(tmp_path: Path, capsys: Capture) -> None:
    assert main(["data", "synth", str(tmp_path), *PEOPLE]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{tmp_path}: 8 images of 2 people to train on; 4 queries and ")
    assert shown.out.count("\n") == 1


def test_synth_does_not_draw_over_a_dataset(road: Any, capsys: Capture) -> None:
    before = sorted(road.people.rglob("*"))
    line = refused(["data", "synth", str(road.people)], capsys)
    assert "bounding_box_train, query, bounding_box_test" in line
    assert sorted(road.people.rglob("*")) == before


def test_recipes_are_listed_and_shown(capsys: Capture) -> None:
    assert main(["recipes"]) == 0
    names = capsys.readouterr().out.split()
    assert "msp_cnn_synthetic" in names
    assert main(["recipes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == names
    assert main(["recipes", names[-1]]) == 0
    config = config_from_toml(capsys.readouterr().out, "stdout")
    assert isinstance(config, TrainConfig)
    assert main(["recipes", names[-1], "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(json.dumps(dataclasses.asdict(config)))


def test_train_prints_its_result_as_json_alone(
    road: Any, tmp_path: Path, tiny_overrides: tuple[str, ...], capsys: Capture
) -> None:
    overrides = [*tiny_overrides, "stages.0.iterations=2", "stages.1.iterations=1"]
    options = [word for override in overrides for word in ("--set", override)]
    where = ["--data-root", str(road.people), "--out", str(tmp_path / "run"), "--json"]
    assert main(["train", "msp_cnn_synthetic", *where, *options]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert (found["step"], found["num_steps"], found["interrupted"]) == (3, 3, False)
    assert "training" in shown.err
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt").step == 3


def test_train_from_a_run_freezes_it_first_and_resumes_with_the_same_command(
    road: Any, tmp_path: Path, tiny_overrides: tuple[str, ...], capsys: Capture
) -> None:
    changes = ["stages.0.iterations=2", "stages.1.iterations=1", "run.new_classifier=true"]
    overrides = [*tiny_overrides, *changes, "optimizer.loaded_lr_mult=0.1"]
    options = [word for override in overrides for word in ("--set", override)]
    where = ["--data-root", str(road.people), "--out", str(tmp_path / "run"), "--json"]
    words = ["train", "msp_cnn_synthetic", *where, *options]
    start = ["--from", str(road.run), "--freeze-steps", "2"]
    assert main([*words, *start]) == 0
    assert json.loads(capsys.readouterr().out)["num_steps"] == 5
    config = load_checkpoint(tmp_path / "run" / "checkpoint.pt").config
    frozen, first = config.stages[:2]
    assert config.run.start_from == str(road.run)
    assert (frozen.iterations, frozen.freeze_loaded, first.freeze_loaded) == (2, True, False)
    assert (frozen.base_lr, frozen.loss_weights) == (first.base_lr, first.loss_weights)
    assert main([*words, *start, "--resume"]) == 0
    capsys.readouterr()
    assert main([*words, "--resume"]) == 1
    assert "run.start_from" in capsys.readouterr().err


def test_a_run_without_a_step_left_has_no_loss_rather_than_nan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    done = TrainResult(tmp_path, 3, 3, False, 0.1, 0.0, math.nan)
    monkeypatch.setattr(reid.training.loop, "train", lambda *_, **__: done)
    arguments = ["train", "msp_cnn_synthetic", "--data-root", str(tmp_path), "--out", str(tmp_path)]
    assert main([*arguments, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["loss"] is None
    assert main([*arguments, "--resume"]) == 0
    assert "nan" not in capsys.readouterr().out.replace(str(tmp_path), "")


def test_eval_has_the_run_the_checkpoint_and_both_exports_in_one_table(
    road: Any, road_data: list[str], tmp_path: Path, capsys: Capture
) -> None:
    models = [road.run, road.run / "checkpoint.pt", road.onnx("fp32"), road.onnx("fp16")]
    picture = tmp_path / "ranked.png"
    words = ["eval", *map(str, models), *road_data]
    assert main([*words, "--picture", str(picture)]) == 0
    shown = capsys.readouterr()
    heading, *rows = shown.out.split("\n\n")[1].splitlines()
    assert heading.split()[:3] == ["model", "rank-1", "rank-5"]
    ends = ["run", "run/checkpoint.pt", "msp_cnn.fp32.onnx", "msp_cnn.fp16.onnx"]
    assert [row.split()[0] for row in rows] == ends
    assert rows[0].split()[1:] == rows[1].split()[1:]
    assert "rank-1 of a random ranking: " in shown.out
    assert f"wrote {picture}" in shown.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_eval_prints_json_alone_with_chance(
    road: Any, road_data: list[str], capsys: Capture
) -> None:
    assert main(["eval", str(road.onnx("fp16")), *road_data, "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert 0 < found["chance_rank1"] < 0.5
    assert [model["dataset"] for model in found["models"]] == ["synthetic"]
    assert "describing" in shown.err


def test_bench_times_each_batch_size(road: Any, capsys: Capture) -> None:
    sizes = ["--batch", "1", "--batch", "4", "--seconds", "0.02"]
    assert main(["bench", str(road.onnx("fp32")), *sizes, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == str(road.onnx("fp32"))
    assert [timing["batch_size"] for timing in found["timings"]] == [1, 4]


TRAIN = ["train", "msp_cnn_synthetic", "--out", "never", "--data-root"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["recipes", "msp_cnn_cuhk1"], "did you mean 'msp_cnn_cuhk01'?"),
        (["data", "check", "sintetic", "--data-root", "."], "did you mean 'synthetic'?"),
        (["eval", "x.pt", "--data", "market1501", "--data-root", "."], "x.pt: no such file"),
        ([*TRAIN, ".", "--set", "run.sed=1"], "unknown setting 'run.sed' (did you mean 'seed'?)"),
        ([*TRAIN, ".", "--set", "run.seed=many"], "run.seed"),
        ([*TRAIN, ".", "--set", "run.seed"], "--set needs key=value"),
        ([*TRAIN, ".", "--config", "no.toml"], "cannot read the configuration no.toml"),
        ([*TRAIN, "no_folder"], "no_folder: no such folder"),
        (["data", "synth", "never", "--cameras", "1"], "at least 2 cameras, found 1"),
        (["bench", "never.onnx"], "never.onnx: no such file"),
        (["bench", "."], "no checkpoint.pt in the folder"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in refused(arguments, capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "sinth", "x"], "synth"),
        (["eval", "x.pt", "--data-rot", "."], "--data-root"),
        (["eval", "x.pt", "--data-root", "."], "Missing option '--data'"),
        (["bench", "x.onnx", "--batch", "0"], "0 is not in the range x>=1"),
        (["bench", "x.onnx", "--device", "gpu"], "openvino:GPU"),
        (["data", "synth", "x", "--cameras", "two"], "'two' is not a valid integer"),
    ],
)
def test_wrong_usage_exits_with_two_and_says_why(
    arguments: list[str], words: str, capsys: Capture
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.out == ""


def test_eval_names_the_nearest_dataset(road: Any, capsys: Capture) -> None:
    words = ["eval", str(road.run), "--data", "syntetic", "--data-root", str(road.people)]
    assert "unknown dataset 'syntetic' (did you mean 'synthetic'?)" in refused(words, capsys)


def text_file(folder: Path, road: Any) -> Path:
    file = folder / "text.onnx"
    file.write_text("this is no graph")
    return file


def another_network(folder: Path) -> Path:
    """A graph that this toolkit has not made: a ReLU on 3x4x4 images."""
    shape = ["N", 3, 4, 4]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "other", [ends[0]], [ends[1]]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    file = folder / "other.onnx"
    onnx.save(model, file)
    return file


def stranger(folder: Path, road: Any) -> Path:
    return another_network(folder)


def stranger_with_our_manifest(folder: Path, road: Any) -> Path:
    file = another_network(folder)
    write_manifest(file, read_manifest(road.onnx("fp32")))
    return file


def other_file_s_manifest(folder: Path, road: Any) -> Path:
    file = road.copy_of("fp32", folder)
    shutil.copy(f"{road.onnx('fp16')}.json", f"{file}.json")
    return Path(file)


def cut_short(folder: Path, road: Any) -> Path:
    file = folder / "cut.pt"
    file.write_bytes((road.run / "checkpoint.pt").read_bytes()[:5000])
    return file


def engine(folder: Path, road: Any) -> Path:
    file = folder / "msp_cnn.engine"
    file.write_bytes(b"a plan")
    info = EngineInfo("sm87", "10.3.0", "tensorrt", 1, 8, 32)
    write_manifest(file, dataclasses.replace(read_manifest(road.onnx("fp32")), engine=info))
    return file


def unknown_suffix(folder: Path, road: Any) -> Path:
    return Path(shutil.copy(road.onnx("fp32"), folder / "model.onx"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (text_file, "is not an ONNX file that ONNX Runtime"),
        (stranger, "was not exported by this toolkit"),
        (stranger_with_our_manifest, "the manifest describes data (N, 3, 16, 8)"),
        (other_file_s_manifest, "describes another file: expected SHA-256"),
        (cut_short, "is not a checkpoint, or is damaged or truncated"),
        (unknown_suffix, "the suffix '.onx' is not one of"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(
    make: Callable[[Path, Any], Path],
    words: str,
    road: Any,
    road_data: list[str],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    file = make(tmp_path, road)
    for arguments in (["eval", str(file), *road_data], ["bench", str(file)]):
        line = refused(arguments, capsys)
        assert words in line
        assert str(file) in line


def test_an_engine_without_tensorrt_is_one_line_with_what_to_install(
    road: Any,
    road_data: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    file = engine(tmp_path, road)
    for arguments in (["eval", str(file), *road_data], ["bench", str(file)]):
        assert refused(arguments, capsys).startswith("tensorrt is not installed here; pip install")


def read_only(source: Any, target: Any) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))


def test_a_read_only_folder_is_one_line_and_gets_no_half_file(
    road: Any,
    tmp_path: Path,
    tiny_overrides: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.setattr(os, "replace", read_only)
    options = [word for override in tiny_overrides for word in ("--set", override)]
    train = ["train", "msp_cnn_synthetic", "--data-root", str(road.people), "--out"]
    for arguments in (
        ["data", "synth", str(tmp_path / "people"), *PEOPLE],
        [*train, str(tmp_path / "run"), *options],
    ):
        code = main(arguments)
        shown = capsys.readouterr()
        assert code == 1
        assert "the file system is read-only" in shown.err.splitlines()[-1]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("command", ["synth", "train"])
def test_an_output_below_a_file_is_one_line(
    command: str, road: Any, tmp_path: Path, tiny_overrides: tuple[str, ...], capsys: Capture
) -> None:
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "out")
    options = [word for override in tiny_overrides for word in ("--set", override)]
    train = ["train", "msp_cnn_synthetic", "--data-root", str(road.people), "--out", out, *options]
    assert main(["data", "synth", out, *PEOPLE] if command == "synth" else train) == 1
    assert "a part of the path is a file" in capsys.readouterr().err.splitlines()[-1]


def test_ctrl_c_while_drawing_leaves_no_dataset(interrupt: Any, tmp_path: Path) -> None:
    folder = tmp_path / "people"
    arguments = ["data", "synth", str(folder), "--train-identities", "5000"]
    code, stdout, stderr = interrupt(arguments, lambda _: any(folder.rglob("*.jpg")))
    assert code == INTERRUPTED
    assert stdout == ""
    assert stderr.splitlines()[-1] == "reid: interrupted"
    assert list(folder.rglob("*")) == []


def test_ctrl_c_while_training_leaves_a_checkpoint_to_go_on_from(
    road: Any, interrupt: Any, tmp_path: Path, tiny_overrides: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    overrides = [*tiny_overrides, "stages.0.iterations=100000"]
    options = [word for override in overrides for word in ("--set", override)]
    where = ["--data-root", str(road.people), "--out", str(run)]
    log = run / "log.csv"
    code, stdout, _ = interrupt(
        ["train", "msp_cnn_synthetic", *where, *options],
        lambda _: log.exists() and log.read_text().count("\n") > 1,
    )
    step = load_checkpoint(run / "checkpoint.pt").step
    assert code == STOPPED
    assert f"step {step} of 100004" in stdout
    assert "--resume" in stdout
    assert list(tmp_path.rglob("*.part")) == []
    assert np.isfinite(load_checkpoint(run / "checkpoint.pt").model["fc7.weight"].numpy()).all()
