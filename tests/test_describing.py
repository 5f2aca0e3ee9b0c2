"""A gallery described into a file answers as one described now, for the same images only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from reid.cli import main
from reid.commands.describe import describe
from reid.commands.evaluate import evaluate
from reid.describing import describe_to_file
from reid.errors import DataError
from reid.train import train
from tests.test_train_csn import tiny

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


def test_nothing_to_describe_is_one_line_and_no_file(tmp_path):
    out = tmp_path / "gallery.safetensors"
    with pytest.raises(DataError, match="the gallery is empty"):
        describe_to_file(tmp_path / "missing.onnx", (), "gallery", out)
    assert not out.exists()
