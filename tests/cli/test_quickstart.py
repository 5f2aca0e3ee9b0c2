"""The quickstart leaves all it promises, stops cleanly, and says what it could not do."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from reid.api import quickstart
from reid.api.quickstart import command_line
from reid.cli import INTERRUPTED, main
from reid.errors import BuildError
from reid.evaluation.tables import percent
from reid.training.checkpoint import load_checkpoint

Capture = pytest.CaptureFixture[str]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def report(road: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((road.folder / "report.json").read_text())
    return found


def test_the_road_leaves_the_checkpoint_the_files_the_pictures_and_the_page(road: Any) -> None:
    for name in ("run/checkpoint.pt", "run/checkpoint.pt.json", "report.json", "index.html"):
        assert (road.folder / name).stat().st_size > 0
    for precision in ("fp32", "fp16"):
        assert road.onnx(precision).is_file()
    for name in ("ranked.png", "run/curves.png"):
        assert (road.folder / name).read_bytes().startswith(PNG)
    assert list(road.folder.rglob("*.part")) == []
    assert road.stdout.splitlines()[-1] == str(road.folder / "index.html")


def test_the_report_has_chance_and_each_model_s_rank_1(road: Any, report: dict[str, Any]) -> None:
    models = report["eval"]["models"]
    names = [str(road.run), str(road.onnx("fp32")), str(road.onnx("fp16"))]
    assert [model["model"] for model in models] == names
    assert 0 < report["eval"]["chance_rank1"] < 0.5
    assert models[0]["cmc"]["rank1"] == models[1]["cmc"]["rank1"]
    assert f"rank-1 {percent(models[0]['cmc']['rank1'])} %" in road.stderr
    assert f"random ranking: {percent(report['eval']['chance_rank1'])} %" in road.stderr


def test_the_report_has_the_proofs_and_the_times(report: dict[str, Any]) -> None:
    assert [proof["precision"] for proof in report["parity"]] == ["fp32", "fp16"]
    assert all(proof["passed"] and proof["num_crops"] == 96 for proof in report["parity"])
    for bench in report["bench"]:
        assert [timing["batch_size"] for timing in bench["timings"]] == [1, 8, 32]
        assert all(timing["network"]["crops_per_s"] > 0 for timing in bench["timings"])


def test_the_report_has_the_commands_as_a_user_would_type_them(
    report: dict[str, Any], tiny_overrides: tuple[str, ...]
) -> None:
    commands = [step["command"] for step in report["steps"]]
    names = ["data", "train", "export", "eval", "parity", "parity", "bench", "bench"]
    assert [command.split()[1] for command in commands] == names
    words = shlex.split(commands[1])
    assert words[:3] == ["reid", "train", "msp_cnn_synthetic"]
    given = [value for option, value in itertools.pairwise(words) if option == "--set"]
    assert given == ["run.seed=0", *tiny_overrides]


def test_a_command_line_quotes_what_a_shell_would_break() -> None:
    options = {"folder": Path("my people"), "seed": 3, "fp16": True, "trt": False}
    assert command_line("data synth", options) == "reid data synth 'my people' --seed 3 --fp16"


def test_without_a_builder_one_line_says_what_is_missing(road: Any, report: dict[str, Any]) -> None:
    assert report["engine"]["built"] is False
    lines = [line for line in road.stderr.splitlines() if line.startswith("no engine was built")]
    assert lines == [report["engine"]["why"]]
    assert "neither tensorrt nor tensorrt_rtx is installed" in lines[0]
    assert "pip install 'reid-toolkit[gpu]'" in lines[0]


class Page(HTMLParser):
    """What a page asks for, and its headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self._in_heading = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.sources += [found[name] or "" for name in ("src", "srcset") if name in found]
        self.links += [found["href"] or ""] if "href" in found else []
        self._in_heading = tag in ("h1", "h2")

    def handle_data(self, data: str) -> None:
        if self._in_heading:
            self.headings.append(data)
        self._in_heading = False


def test_the_page_stands_alone_and_has_every_section(road: Any) -> None:
    text = (road.folder / "index.html").read_text()
    page = Page(text)
    assert re.search(r"https?://|url\(|@import|<script|<link", text) is None
    assert len(page.sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert [heading.split(":")[0] for heading in page.headings] == [
        "reid quickstart",
        "Query images and their nearest gallery images",
        "Retrieval",
        "Parity",
        "Speed",
        "Training",
        "Commands",
        "Files",
    ]


def test_the_page_links_to_files_that_are_there(road: Any) -> None:
    links = Page((road.folder / "index.html").read_text()).links
    assert set(links) == {
        "run/checkpoint.pt",
        "exported/msp_cnn.fp32.onnx",
        "exported/msp_cnn.fp16.onnx",
        "report.json",
    }
    assert all((road.folder / link).is_file() for link in links)


def test_a_folder_in_use_is_refused_in_one_line_and_left_alone(
    tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["quickstart", "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"reid: error: {tmp_path} is not empty; choose another folder with --out, or remove it\n"
    )
    assert [path.read_text() for path in tmp_path.iterdir()] == ["keep"]


def test_a_misspelt_setting_is_refused_before_anything_is_drawn(
    tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert main(["quickstart", "--out", str(out), "--set", "run.sed=1"]) == 1
    shown = capsys.readouterr()
    assert "unknown setting 'run.sed' (did you mean 'seed'?)" in shown.err
    assert shown.err.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("option", ["--people", "--train-identities"])
def test_one_person_cannot_be_distinguished_from_others(option: str, capsys: Capture) -> None:
    assert main(["quickstart", option, "1"]) == 2
    assert "not in the range x>=2" in capsys.readouterr().err


Answer = Callable[[dict[str, Any]], Any]


@pytest.fixture
def staged(
    road: Any, report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Steps that answer as those of the road did; ``answers`` can be replaced."""
    out = tmp_path / "out"
    text = json.dumps(report).replace(str(road.folder), str(out))
    past = json.loads(text)
    stage = types.SimpleNamespace(out=out, calls=[])

    def trained(options: dict[str, Any]) -> Any:
        (out / "run").mkdir(parents=True)
        shutil.copy(road.run / "curves.png", out / "run")
        return past["train"]

    def evaluated(options: dict[str, Any]) -> Any:
        shutil.copy(road.folder / "ranked.png", options["picture"])
        return past["eval"]

    stage.answers = {
        "synth": lambda options: past["data"],
        "train": trained,
        "export": lambda options: past["export"],
        "eval": evaluated,
        "parity": lambda options: past["parity"][0],
        "bench": lambda options: past["bench"][0],
    }

    def step(name: str) -> Callable[..., Any]:
        def answer(**options: Any) -> Any:
            stage.calls.append((name, options))
            return stage.answers[name](options), name

        return answer

    steps = {called: step(called.split()[-1]) for called in quickstart.STEPS}
    monkeypatch.setattr(quickstart, "STEPS", steps)
    return stage


def with_a_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return found("json" if name == "tensorrt_rtx" else name, package)

    monkeypatch.setattr("reid.api.quickstart.importlib.util.find_spec", find_spec)


def with_an_engine(staged: Any) -> Path:
    """The staged export answers --trt with an engine; its path."""
    engine: Path = staged.out / "exported" / "msp_cnn.rtx.engine"
    answer = staged.answers["export"]

    def export(options: dict[str, Any]) -> Any:
        return {**answer(options), "engines": [str(engine)] if options.get("trt") else []}

    staged.answers["export"] = export
    return engine


def test_an_engine_that_opens_here_is_ranked_proven_and_timed(
    staged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_builder(monkeypatch)
    engine = with_an_engine(staged)
    opened = []

    def open_runner(path: Path) -> Any:
        opened.append(path)
        return contextlib.nullcontext()

    monkeypatch.setattr(quickstart, "open_runner", open_runner)
    assert main(["quickstart", "--out", str(staged.out)]) == 0
    assert opened == [engine]
    assert dict(staged.calls)["eval"]["models"][-1] == engine
    assert dict(staged.calls)["parity"]["candidate"] == engine
    assert dict(staged.calls)["bench"]["model"] == engine


def test_where_a_builder_is_installed_an_engine_is_built_and_why_it_cannot_run_is_shown(
    staged: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with_a_builder(monkeypatch)
    engine = with_an_engine(staged)  # a file that is not there: nothing can open it
    assert main(["quickstart", "--out", str(staged.out)]) == 0
    assert f"{engine} not checked here: " in capsys.readouterr().err
    names = [name for name, _ in staged.calls]
    assert names == ["synth", "train", *2 * ["export"], "eval", *2 * ["parity"], *2 * ["bench"]]
    report = json.loads((staged.out / "report.json").read_text())
    assert report["engine"]["built"] is True
    assert report["engine"]["engines"] == [str(engine)]
    assert f"--out {staged.out / 'exported'} --fp16 --trt" in report["steps"][3]["command"]
    page = (staged.out / "index.html").read_text()
    assert f"TensorRT engine: {engine}" in page
    assert "msp_cnn.rtx.engine: parity not checked: " in page
    assert "exported/msp_cnn.rtx.engine" in Page(page).links


def test_a_build_that_fails_is_reported_and_the_rest_goes_on(
    staged: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with_a_builder(monkeypatch)
    answer = staged.answers["export"]

    def export(options: dict[str, Any]) -> Any:
        if options.get("trt"):
            raise BuildError("no GPU here")
        return answer(options)

    staged.answers["export"] = export
    assert main(["quickstart", "--out", str(staged.out)]) == 0
    assert "no engine was built: no GPU here\n" in capsys.readouterr().err
    report = json.loads((staged.out / "report.json").read_text())
    why = "no engine was built: no GPU here"
    assert report["engine"] == {"built": False, "why": why, "not_run": {}}


def test_an_interrupted_training_ends_the_road_there(staged: Any, capsys: Capture) -> None:
    staged.answers["train"] = lambda options: {"interrupted": True, "step": 7, "num_steps": 90}
    assert main(["quickstart", "--out", str(staged.out)]) == INTERRUPTED
    assert [name for name, _ in staged.calls] == ["synth", "train"]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("reid: the quickstart was stopped at step 7 of 90 of training")
    assert last.endswith(f"--out {staged.out / 'run'} --set run.seed=0 --resume")


def test_what_the_options_say_reaches_the_commands(staged: Any) -> None:
    given = ["--people", "5", "--train-identities", "9", "--seed", "4", "--set", "run.log_every=3"]
    assert main(["quickstart", "--out", str(staged.out), *given]) == 0
    calls = dict(staged.calls)
    assert (
        calls["synth"] | {"train_identities": 9, "test_identities": 5, "seed": 4}
        == (calls["synth"])
    )
    assert calls["train"]["overrides"] == ("run.seed=4", "run.log_every=3")
    assert calls["bench"]["seconds"] == quickstart.BENCH_S


def test_ctrl_c_during_training_stops_with_a_line_and_leaves_no_half_file(
    tmp_path: Path, tiny_overrides: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    overrides = [*tiny_overrides, "stages.0.iterations=100000"]
    options = [word for override in overrides for word in ("--set", override)]
    sizes = ["--people", "2", "--train-identities", "3"]
    command = [sys.executable, "-m", "reid.cli", "quickstart", "--out", str(out), *sizes, *options]
    log = out / "run" / "log.csv"
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        deadline = time.monotonic() + 120
        while not (log.exists() and log.read_text().count("\n") > 1) and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGINT)
        assert child.stderr is not None
        shown = child.stderr.read()
    assert child.returncode == INTERRUPTED, shown
    assert shown.splitlines()[-1].startswith("reid: the quickstart was stopped at step ")
    assert "Traceback" not in shown
    assert load_checkpoint(out / "run" / "checkpoint.pt").step > 0
    assert list(out.rglob("*.part")) == []
    assert {path.name for path in out.iterdir()} == {"people", "run"}
