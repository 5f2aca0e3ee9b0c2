"""Measuring thresholds of an open model, and their way into what is made from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import reid
from reid.cli import main
from reid.model_file.manifest import METADATA_KEY, Manifest, read_manifest
from reid.training.checkpoint import load_checkpoint, save_checkpoint

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(api_run: reid.Run, tmp_path: Path) -> Path:
    """A copy of the run, whose manifest may change."""
    return Path(shutil.copytree(api_run.folder, tmp_path / "run"))


def test_the_distance_is_that_of_the_model_s_own_pairs(model: reid.Model, crowd: Path) -> None:
    found = model.threshold("synthetic", root=crowd, fpr=0.05)
    assert [one.fpr for one in found.thresholds.rates] == [0.05, 0.01]
    names = [sorted((crowd / side).glob("*.jpg")) for side in ("query", "bounding_box_test")]
    table = model.distances(*names)
    people = [np.array([int(path.name[:4]) for path in side]) for side in names]
    different = table[people[0][:, None] != people[1]]
    assert found.thresholds.num_different == different.size
    distance = found.thresholds.rates[0].distance
    assert np.sort(different)[int(0.05 * different.size) - 1] == pytest.approx(distance, abs=1e-6)


def test_thresholds_of_a_run_travel_with_its_exports(
    run: Path, crowd: Path, tmp_path: Path
) -> None:
    content = (run / "checkpoint.pt").read_bytes()
    with reid.load(run, device="cpu") as model:
        measured = model.threshold("synthetic", root=crowd)
        (beside,) = measured.keep()
    assert beside == run / "checkpoint.pt.json"
    assert (run / "checkpoint.pt").read_bytes() == content
    with reid.load(run, device="cpu") as again:
        assert again.manifest.thresholds == measured.thresholds
        files = again.export(tmp_path / "out", prove=False)
    assert len(files.onnx) == 2
    for file in files.onnx:
        assert read_manifest(file).thresholds == measured.thresholds
        inside = {one.key: one.value for one in onnx.load(file).metadata_props}[METADATA_KEY]
        assert Manifest.from_json(inside, "inside").thresholds == measured.thresholds


def test_a_checkpoint_that_is_written_anew_has_none(run: Path, crowd: Path) -> None:
    with reid.load(run, device="cpu") as model:
        model.threshold("synthetic", root=crowd).keep()
    beside = (run / "checkpoint.pt.json").read_text()
    save_checkpoint(run / "checkpoint.pt", load_checkpoint(run / "checkpoint.pt"))
    with reid.load(run, device="cpu") as again:
        assert again.manifest.thresholds is None
    (run / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes() + b"\0")
    (run / "checkpoint.pt.json").write_text(beside)  # of the file before, as after a kill
    with reid.load(run, device="cpu") as other:
        assert other.manifest.thresholds is None


def test_an_exported_file_keeps_them_beside_it(api_onnx: Path, crowd: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(api_onnx, tmp_path))  # its manifest is inside
    with reid.load(file) as model:
        measured = model.threshold("synthetic", root=crowd)
        measured.keep()
    with reid.load(file) as again:
        assert again.manifest.thresholds == measured.thresholds


def test_what_cannot_be_measured_is_refused_with_the_number_needed(
    model: reid.Model, crowd: Path, people: Path
) -> None:
    with pytest.raises(reid.DataError, match=r"FPR 1e-05 .*people"):
        model.threshold("synthetic", root=crowd, fpr=1e-5)
    with pytest.raises(reid.DataError, match=r"4 people .*10"):
        model.threshold("synthetic", root=people)
    for rate in (0.0, -1.0, 0.5):
        with pytest.raises(reid.InputError, match="fpr"):
            model.threshold("synthetic", root=crowd, fpr=rate)


def test_a_network_that_compares_pairs_has_distances_below_zero(
    pair_files: Path, crowd: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(pair_files, tmp_path / "csn"))
    with reid.load(run, device="cpu") as model:
        measured = model.threshold("synthetic", root=crowd)
        measured.keep()
    assert all(one.distance < 0 for one in measured.thresholds.rates)
    assert "cosine" not in measured.to_text()
    with reid.load(run, device="cpu") as again:
        assert again._matcher.manifest.thresholds == measured.thresholds


def test_the_command_prints_keeps_and_refuses(
    run: Path, crowd: Path, capsys: Capture, tmp_path: Path
) -> None:
    data = ["--data", "synthetic", "--data-root", str(crowd), "--device", "cpu"]
    assert main(["threshold", str(run), *data, "--no-keep", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["thresholds"]["rates"][0]["fpr"] == 0.01
    assert found["needed"][0]["what"] == "FPR 0.001"
    assert read_manifest(run / "checkpoint.pt").thresholds is None
    assert main(["threshold", str(run), *data]) == 0
    shown = capsys.readouterr()
    assert "FPR 0.001: needs about" in shown.out
    assert "checkpoint.pt.json" in shown.err
    kept = read_manifest(run / "checkpoint.pt").thresholds
    assert kept is not None
    assert kept.rates[0].distance == found["thresholds"]["rates"][0]["distance"]
    assert main(["threshold", str(run), *data, "--fpr", "1e-4"]) == 1
    assert "people" in capsys.readouterr().err
    assert main(["threshold", str(run)]) == 2
    assert main(["threshold", str(run), *data, "--footage", str(tmp_path)]) == 2
    assert read_manifest(run / "checkpoint.pt").thresholds == kept
