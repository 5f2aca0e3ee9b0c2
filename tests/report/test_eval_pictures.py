"""``reid eval --report``: which pictures of which models, and one page that holds them all."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import reid.evaluation.evaluating
from reid.cli import main
from reid.matching import PairMatcher
from reid.model_file.manifest import Manifest, read_manifest, write_manifest
from reid.model_file.preprocess import Preprocess
from reid.model_file.thresholds import PairRate, Thresholds
from reid.models import NETWORKS
from reid.models.looks import KINDS
from reid.report.eval_pictures import NAMES
from reid.report.inside import DRAWERS
from tests.matching.conftest import CompareRunner, DescribeRunner
from tests.report.test_html_page import Page
from tests.report.test_map_consistency import write_run

Capture = pytest.CaptureFixture[str]
EVERY_REPORT = ("curves.png", "distances.png", "index.html", "ranked.png", "report.json")


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def report_files(*pictures: str) -> list[str]:
    return sorted([*EVERY_REPORT, *(f"{name}.png" for name in pictures)])


def data_of(people: Path) -> list[str]:
    return ["--data", "synthetic", "--data-root", str(people)]


def page_of(folder: Path) -> Page:
    return Page((folder / "index.html").read_text())


def test_every_network_is_looked_into_and_every_kind_of_look_is_drawn() -> None:
    looks = [look for network in NETWORKS.values() for look in network.looks]
    assert all(network.looks for network in NETWORKS.values())
    assert {look.kind for look in looks} == {*KINDS} == {*DRAWERS}


@pytest.fixture(scope="module")
def msp_cnn_report(road: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run beside its exported file, in a folder that has an older report; what was printed."""
    folder = tmp_path_factory.mktemp("report") / "new" / "report"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(b"of another model")
    (folder / "mine.png").write_bytes(b"not of the report")
    models = [str(road.run), str(road.onnx("fp32"))]
    with pytest.MonkeyPatch.context() as patched:
        said: list[str] = []
        patched.setattr("reid.cli.evaluate.show", said.append)
        data = data_of(road.people)
        assert main(["eval", *models, *data, "--json", "--report", str(folder)]) == 0
    return folder, said[0]


def test_a_run_of_msp_cnn_shows_its_maps_and_its_matches(
    msp_cnn_report: tuple[Path, str], road: Any
) -> None:
    folder, _ = msp_cnn_report
    found = files_in(folder)
    assert found == sorted([*report_files("feature_maps", "patch_matches"), "mine.png"])
    for name in ("feature_maps.png", "ranked.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    read = page_of(folder)
    assert len(read.images) == 5
    assert "Not drawn" not in read.headings  # the exported file's run is there
    assert read.words.count(f"Feature maps of {road.run.name} ") == 1


def test_the_report_is_one_file_and_what_was_printed(msp_cnn_report: tuple[Path, str]) -> None:
    folder, printed = msp_cnn_report
    assert page_of(folder).outside() == []
    found = json.loads(printed)
    assert json.loads((folder / "report.json").read_text()) == found
    assert found["map_consistency"] == []
    assert found["shortlists"] == []


@pytest.mark.services
def test_a_browser_shows_every_picture_and_nothing_beyond_a_phone_s_edge(
    msp_cnn_report: tuple[Path, str], browser: str, tmp_path: Path
) -> None:
    counts = "[...document.images].filter(one => one.complete && one.naturalWidth > 0).length"
    edge = "document.documentElement.scrollWidth <= innerWidth"
    script = f"document.title = `${{{counts}}} pictures, ${{{edge}}}`"
    text = (msp_cnn_report[0] / "index.html").read_text()
    page = tmp_path / "page.html"
    page.write_text(text.replace("</html>", f"<script>onload = () => {{ {script} }}</script>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [browser, *flags, profile, "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "<title>5 pictures, true</title>" in shown.stdout


def test_an_exported_file_alone_says_in_one_line_what_is_drawn_of_its_run(
    road: Any, road_data: list[str], tmp_path: Path, capsys: Capture
) -> None:
    files = [str(road.onnx(precision)) for precision in ("fp32", "fp16")]
    assert main(["eval", *files, *road_data, "--report", str(tmp_path)]) == 0
    assert files_in(tmp_path) == report_files()
    why = f"{files[0]}: feature maps and matched patches are drawn only for a run (checkpoint.pt)"
    assert capsys.readouterr().err.count(why) == 1
    read = page_of(tmp_path)
    assert why in read.words
    assert files[1] + ": feature" not in read.words


def test_a_run_that_compares_pairs_has_its_similarities_and_its_shortlists_in_the_report(
    people: Path, tmp_path: Path, capsys: Capture
) -> None:
    run = write_run(tmp_path / "run", "network.levels=[3]", recipe="csn_cuhk01")
    folder = tmp_path / "report"
    shortlists = ["--shortlist", "0", "--shortlist", "2"]
    words = ["eval", str(run), *data_of(people), *shortlists, "--report", str(folder)]
    assert main(words) == 0
    assert files_in(folder) == report_files("similarities")
    found = json.loads((folder / "report.json").read_text())
    (saved,) = found["shortlists"]
    whole, short = found["models"]
    assert saved["pairs_saved"] == 1 - short["num_compared"] / whole["num_compared"]
    assert saved["rank1_lost"] == whole["cmc"]["rank1"] - short["cmc"]["rank1"]
    assert f"\n{run.name}, best 2: loses" in capsys.readouterr().out
    assert "What was compared" in page_of(folder).headings


def test_of_an_exported_pair_network_one_line_says_that_parts_are_drawn_of_the_run(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def opened(path: Path, device: str, threads: int, batch_size: int, graph: str) -> PairMatcher:
        return PairMatcher(DescribeRunner(), CompareRunner(), batch_size)

    monkeypatch.setattr(reid.evaluation.evaluating, "open_matcher", opened)
    model, folder = tmp_path / "csn.describe.fp32.onnx", tmp_path / "report"
    model.touch()
    write_manifest(model, Manifest("csn", "describe", Preprocess()))
    assert main(["eval", str(model), *data_of(people), "--report", str(folder)]) == 0
    why = f"{model}: attended parts and similarity maps are drawn only for a run (checkpoint.pt)"
    assert capsys.readouterr().err.count(why) == 1
    assert files_in(folder) == report_files()
    assert why in page_of(folder).words


def test_a_measured_limit_marks_the_matches_of_another_program_s_network(
    road: Any, road_data: list[str], tmp_path: Path, capsys: Capture
) -> None:
    model = road.copy_of("fp32", tmp_path)
    thresholds = Thresholds("own people", "embed", 40, 9_000, 1e-3, (PairRate(1e-3, 1e-3),))
    foreign = replace(read_manifest(model), network="osnet", thresholds=thresholds)
    write_manifest(model, foreign)
    folder = tmp_path / "report"
    assert main(["eval", str(model), *road_data, "--report", str(folder), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["models"]
    assert found["limit"] == 1e-3
    assert "own people" in found["limit_words"]
    read = page_of(folder)
    assert read.words.count("own people") == 2  # at the pairs' rates, and under the ranked lists
    assert "Beyond:" in read.words


def test_runs_of_sisnet_stand_side_by_side_with_the_consistency_of_their_maps(
    people: Path, tmp_path: Path, capsys: Capture
) -> None:
    baseline = write_run(tmp_path / "baseline", "network.two_scales=false")
    sisnet = write_run(tmp_path / "sisnet")
    folder = tmp_path / "report"
    models = [str(baseline), str(sisnet)]
    assert main(["eval", *models, *data_of(people), "--report", str(folder)]) == 0
    assert files_in(folder) == report_files("activation_maps")
    printed = capsys.readouterr().out
    found = json.loads((folder / "report.json").read_text())["map_consistency"]
    assert [one["model"] for one in found] == models
    read = page_of(folder)
    for one in found:
        correlation = f"{one['mean_correlation']:.3f}"
        assert f"\n{Path(one['model']).name}: mean correlation {correlation}" in printed
        assert correlation in read.words
    assert "first scale's largest logit" in read.words
    assert len(read.images) == 4


def test_without_a_query_that_has_an_answer_the_report_says_so(
    road: Any, tmp_path: Path, capsys: Capture
) -> None:
    people = tmp_path / "people"
    shutil.copytree(road.people, people)
    for image in (people / "query").iterdir():
        image.rename(image.with_name(f"9{image.name[1:]}"))  # people who are not in the gallery
    assert main(["eval", str(road.run), *data_of(people), "--report", str(tmp_path / "r")]) == 0
    assert files_in(tmp_path / "r") == ["curves.png", "distances.png", "index.html", "report.json"]
    assert "no query has a correct match" in page_of(tmp_path / "r").words


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_described(
    road: Any, road_data: list[str], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "report"
    assert main(["eval", str(road.run), *road_data, "--report", str(folder)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"cannot write {folder}: a part of the path is a file" in shown.err
    assert "describing" not in shown.err
