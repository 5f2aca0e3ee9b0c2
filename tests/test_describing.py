"""A gallery described into a file answers as one described now, for the same images only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

import reid.evaluate
from reid.cli import main
from reid.commands.describe import describe
from reid.commands.evaluate import evaluate
from reid.describing import describe_to_file
from reid.errors import DataError
from reid.train import train
from reid.types import Split
from tests.test_train_csn import tiny
from tests.test_train_sisnet import tiny as tiny_sisnet

DATA = ["--data", "synthetic", "--data-root"]


@pytest.fixture(scope="module")
def run(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("csn") / "run"
    train(tiny("stages.0.iterations=1"), people, folder)
    return folder


def described(run: Path, people: Path, side: str, out: Path) -> dict[str, object]:
    arguments = [str(run), *DATA, str(people), "--side", side, "--out", str(out), "--json"]
    result = CliRunner().invoke(describe, arguments)
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_files_of_query_and_gallery_give_the_figures_of_a_direct_evaluation(run, people, tmp_path):
    files = {side: tmp_path / f"{side}.safetensors" for side in ("query", "gallery")}
    counts = {side: described(run, people, side, file) for side, file in files.items()}
    assert counts["gallery"]["bytes"] == files["gallery"].stat().st_size
    options = [word for side, file in files.items() for word in (f"--{side}", str(file))]
    arguments = [str(run), *DATA, str(people), "--json"]
    direct, stored = (
        json.loads(CliRunner().invoke(evaluate, [*arguments, *more]).stdout)["models"][0]
        for more in ([], options)
    )
    for name in ("cmc", "map_step", "num_query", "num_gallery", "num_compared"):
        assert stored[name] == direct[name]


def test_a_file_of_other_images_is_one_line(run, people, tmp_path, capsys):
    file = tmp_path / "query.safetensors"
    described(run, people, "query", file)
    code = main(["eval", str(run), *DATA, str(people), "--gallery", str(file)])
    assert code == 1
    assert "images that are not the gallery of this data" in capsys.readouterr().err


def test_another_split_and_another_branch_are_described_when_asked_for(
    people, tmp_path, monkeypatch
):
    trained_on = {"num_test_identities": 100, "split_seed": 4}
    asked: dict[str, object] = {}
    whole = reid.evaluate.load_split("synthetic", people)

    def load(name: str, root: Path, **options: int) -> Split:
        asked.update(options)
        return whole

    monkeypatch.setattr(reid.evaluate, "load_split", load)
    monkeypatch.setattr(reid.evaluate, "_trained_on", lambda *_: tuple(trained_on.values()))
    train(tiny_sisnet("stages.0.iterations=1"), people, tmp_path / "run")
    vectors = []
    for number, more in enumerate((["--stage", "second", "--split-seed", "0"], [])):
        out = tmp_path / f"{number}.safetensors"
        arguments = [str(tmp_path / "run"), *DATA, str(people), "--out", str(out), *more]
        result = CliRunner().invoke(describe, arguments)
        assert result.exit_code == 0, result.output
        assert asked == trained_on | ({"split_seed": 0} if more else {})
        vectors.append(load_file(out)["vector"])
    assert vectors[0].shape == vectors[1].shape
    assert not np.allclose(*vectors)


def test_nothing_to_describe_is_one_line_and_no_file(tmp_path):
    out = tmp_path / "gallery.safetensors"
    with pytest.raises(DataError, match="the gallery is empty"):
        describe_to_file(tmp_path / "missing.onnx", (), "gallery", out)
    assert not out.exists()
