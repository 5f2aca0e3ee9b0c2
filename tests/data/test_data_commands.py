"""The datasets from the command line: checked, trained on and evaluated by their names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from reid.cli import main
from reid.data import DATASETS

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
