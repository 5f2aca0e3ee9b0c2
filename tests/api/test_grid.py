"""Training on several datasets, and several models on several datasets as one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import reid
from reid.cli import main
from reid.data.content import image_hashes
from reid.model_file.opening import ModelFile

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def sets(people: Path, crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for name, images in (("market1501", people), ("dukemtmc", crowd), ("synthetic", people)):
        (root / name).symlink_to(images)
    return root


@pytest.fixture(scope="module")
def runs(
    sets: Path, tiny_overrides: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """A network of one dataset and one of two."""
    folder = tmp_path_factory.mktemp("runs")
    short = [*tiny_overrides, "sampler.identities_per_batch=2"]
    reid.train("msp_cnn_synthetic", sets / "synthetic", folder / "one", overrides=short)
    both = [*short, 'data.names=["synthetic", "dukemtmc"]']
    reid.train("msp_cnn_synthetic", sets, folder / "both", overrides=both)
    return [folder / "one", folder / "both"]


def evaluated(capsys: Capture, *arguments: str | Path) -> dict[str, Any]:
    assert main(["eval", *map(str, arguments), "--device", "cpu", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_network_of_two_datasets_knows_both_and_all_its_images(
    runs: list[Path], sets: Path
) -> None:
    checkpoint = ModelFile.at(runs[1]).checkpoint
    assert checkpoint.manifest.dataset == "synthetic+dukemtmc"
    assert checkpoint.trained_images is not None
    train = [
        one
        for name in ("synthetic", "dukemtmc")
        for one in reid.data.load_split(name, sets / name).train
    ]
    assert checkpoint.trained_images.images == set(image_hashes(train))
    assert checkpoint.num_identities == 8 + 2


def test_a_table_of_models_and_datasets_marks_those_that_a_model_never_saw(
    runs: list[Path], sets: Path, capsys: Capture
) -> None:
    names = ["--data", "synthetic", "--data", "dukemtmc"]
    found = evaluated(capsys, *runs, *names, "--data-root", sets)
    table = found["table"]
    marks = {(one["model"], one["dataset"]): one["cross_domain"] for one in table}
    assert marks == {
        ("one", "synthetic"): False,
        ("one", "dukemtmc"): True,
        ("both", "synthetic"): False,
        ("both", "dukemtmc"): False,
    }
    alone = evaluated(capsys, runs[0], "--data", "dukemtmc", "--data-root", sets / "dukemtmc")
    models = alone["models"]
    cell = next(one for one in table if (one["model"], one["dataset"]) == ("one", "dukemtmc"))
    assert (cell["rank1"], cell["map_step"]) == (models[0]["cmc"]["rank1"], models[0]["map_step"])


def test_the_table_in_words_has_a_star_where_the_network_was_not_trained(
    runs: list[Path], sets: Path, capsys: Capture
) -> None:
    arguments = [*map(str, runs), "--data", "synthetic", "--data", "dukemtmc"]
    assert main(["eval", *arguments, "--data-root", str(sets)]) == 0
    lines = capsys.readouterr().out.splitlines()
    one = next(line for line in lines if line.startswith("one"))
    both = next(line for line in lines if line.startswith("both"))
    assert (one.count("*"), both.count("*")) == (1, 0)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("synthetic", "synthetic"), "synthetic is named twice"),
        (("synthetic", "viper"), "viper"),
        (("synthetic", "markt1501"), "market1501"),
    ],
)
def test_what_cannot_be_evaluated_together_is_named(
    runs: list[Path], sets: Path, names: tuple[str, ...], words: str, capsys: Capture
) -> None:
    data = [word for name in names for word in ("--data", name)]
    assert main(["eval", str(runs[0]), *data, "--data-root", str(sets)]) != 0
    assert words in capsys.readouterr().err
