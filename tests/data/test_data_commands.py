"""The datasets from the command line: checked, trained on and evaluated by their names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from reid.cli import main
from reid.config.settings import DataConfig, TrainConfig
from reid.data import DATASETS
from reid.data.readers.division import OwnImages
from reid.errors import DataError
from reid.training.loop import TrainResult
from reid.types import Split

Capture = pytest.CaptureFixture[str]
Pictures = Callable[[Path, Iterable[str]], Path]


def test_the_checks_help_names_every_dataset(capsys: Capture) -> None:
    assert main(["data", "check", "--help"]) == 0
    words = capsys.readouterr().out.translate({ord(mark): " " for mark in ",;"}).split()
    assert set(DATASETS) <= set(words)


def test_a_check_of_own_images_says_what_it_understood(
    write_pictures: Pictures, tmp_path: Path, capsys: Capture
) -> None:
    names = [f"{person}/{camera}/{n}.png" for person in "abcd" for camera in "xy" for n in (1, 2)]
    root = write_pictures(tmp_path, names)
    (root / "a/x/1.png").write_bytes(b"no image")
    (root / "d/y/2.png").write_bytes((root / "b/x/1.png").read_bytes())
    assert main(["data", "check", "folder", "--data-root", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:5] == [
        "no train, query, gallery or test folder: random split",
        "identities: numbered in the order of their names, 1 = a to 4 = d",
        "cameras: numbered in the order of their names, 1 = x to 2 = y",
        "split: 2/2 identities, random split with seed 0",
    ]
    assert "unreadable files: 1" in lines
    assert "exact duplicates across identities: 1" in lines
    assert f"  {root}/b/x/1.png = {root}/d/y/2.png" in lines
    assert main(["data", "check", "folder", "--data-root", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["subsets"]["all"]["identities"] == 4


def test_cuhk03_trains_and_is_evaluated_on_the_test_set_it_was_trained_for(
    write_cuhk03: Callable[..., Path],
    tiny_overrides: Sequence[str],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    people = ([(2, 2)] * 5, [(2, 2)] * 3)
    write_cuhk03(tmp_path / "cuhk-03.mat", people, (((1, 1),), ((1, 2), (2, 1))))
    data = ["--data-root", str(tmp_path)]
    chosen = ("data.name=cuhk03_labeled", "data.split_seed=1", "data.num_test_identities=2")
    settings = [word for one in (*tiny_overrides, *chosen) for word in ("--set", one)]
    run = str(tmp_path / "run")
    assert main(["train", "msp_cnn_synthetic", *data, "--out", run, *settings]) == 0
    assert "cuhk03_labeled: 6/2 identities, test set 1" in capsys.readouterr().err
    assert main(["eval", run, "--data", "cuhk03_labeled", *data, "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["models"]
    assert (report["protocol"], report["num_query"], report["num_gallery"]) == ("single_shot", 4, 4)


MARKET_NAMES = [
    f"{person}/{camera}/1.png" for person in ("-1", "0000", "0002", "0003") for camera in "xy"
]
SAID = ("--junk", "-1", "--distractors", "0000")


def test_a_check_names_the_options_of_junk_and_takes_them(
    write_pictures: Pictures, tmp_path: Path, capsys: Capture
) -> None:
    check = ["data", "check", "folder", "--data-root", str(write_pictures(tmp_path, MARKET_NAMES))]
    assert main(check) == 0
    assert "--junk -1 --distractors 0000" in capsys.readouterr().out
    assert main([*check, *SAID, "--all-test", "--layout", "person/camera", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["subsets"]["all"]["junk"], found["subsets"]["all"]["distractors"]) == (2, 2)
    assert found["split"].startswith("0/2 identities, all images for testing")


def test_folders_that_do_not_tell_are_one_line_with_the_option(
    write_pictures: Pictures, tmp_path: Path, capsys: Capture
) -> None:
    names = [f"x/{person}/1.png" for person in ("ann", "bob", "cid")]
    root = write_pictures(tmp_path, [*names, "y/ann/1.png"])
    check = ["data", "check", "folder", "--data-root", str(root)]
    assert main(check) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "error:" in one]
    assert "--layout camera/person" in line
    assert main([*check, "--layout", "camera/person"]) == 0
    assert "1 = ann to 3 = cid" in capsys.readouterr().out


def test_training_takes_the_options_as_settings_and_passes_them_on(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[DataConfig] = []

    def train(config: TrainConfig, data_root: Path, out: Path, **_: object) -> TrainResult:
        taken.append(config.data)
        return TrainResult(out, 1, 1, False, 1.0, 1.0, 0.5)

    monkeypatch.setattr("reid.training.loop.train", train)
    words = ["train", "msp_cnn_synthetic", "--data-root", "own", "--out", str(tmp_path / "run")]
    options = [*SAID, "--layout", "*/person"]
    assert main([*words, "--set", "data.name=folder", *options]) == 0
    assert (taken[0].junk, taken[0].distractors) == (("-1",), ("0000",))
    assert taken[0].layout == "*/person"
    assert "--data-root own --junk -1 --distractors 0000 --layout '*/person'" in (
        capsys.readouterr().out
    )
    assert main([*words, "--set", "data.name=folder"]) == 0
    assert (taken[1].junk, taken[1].distractors, taken[1].layout) == ((), (), "")


@pytest.mark.parametrize("command", ["eval", "describe"])
def test_evaluation_takes_the_options(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[dict[str, object]] = []

    def load(*_: object, **given: object) -> Split:
        taken.append(given)
        raise DataError("enough")

    monkeypatch.setattr("reid.evaluation.evaluating.load_split", load)
    (tmp_path / "m.onnx").touch()
    words = [command, str(tmp_path / "m.onnx"), "--data", "folder", "--data-root", str(tmp_path)]
    words += ["--out", str(tmp_path / "o")] if command == "describe" else []
    assert main([*words, *SAID, "--layout", "person", "--all-test"]) == 1
    assert taken[0]["own"] == OwnImages(("-1",), ("0000",), "person", all_test=True)
