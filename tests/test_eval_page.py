"""``reid eval --report``: each figure on the page, the pictures beside it, nothing half written."""

from __future__ import annotations

import errno
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch

import reid.evaluate
from reid import __version__
from reid.cascade import cascades
from reid.checkpoint import Checkpoint, build_configured_network, save_checkpoint
from reid.cli import main
from reid.errors import OutputError
from reid.eval_page import write_report
from reid.manifest import Manifest
from reid.matching import PairMatcher
from reid.settings import resolve_config
from reid.tables import COLUMNS, figure
from reid.types import EvalReport, Protocol
from tests.matching.conftest import CompareRunner, DescribeRunner

Capture = pytest.CaptureFixture[str]


def report(model: str, share: float, pairs: int, seconds: float = 4.0) -> EvalReport:
    """Figures that all differ, from ``share`` down."""
    return EvalReport(
        model=model,
        dataset="a <b>set</b>",
        protocol=Protocol("market"),
        num_query=20,
        num_gallery=100,
        num_unanswerable=3,
        cmc={1: share, 5: share + 0.11, 10: share + 0.12, 20: share + 0.13},
        map_step=share - 0.02,
        map_trapezoid=share - 0.03,
        minp=share - 0.04,
        describe_s=12.3,
        num_compared=pairs,
        compare_s=seconds,
    )


WHOLE, SHORT = report("run & co", 0.61, 2000, 8.0), report("run & co, best 10", 0.592, 200, 2.5)
VECTORS = report("<i>other</i>", 0.7, 0, 0.0)


def found_of(*reports: EvalReport) -> dict[str, Any]:
    return {"chance_rank1": 0.017, "models": [one.to_json() for one in reports]}


def page_of(folder: Path, *reports: EvalReport, shortlists: tuple[int, ...] = ()) -> str:
    lost = cascades(reports, shortlists)
    return write_report(folder, found_of(*reports), reports, lost).read_text()


def rows_of(text: str) -> list[list[str]]:
    """The cells of every row of every table."""
    rows = re.findall(r"<tr>(.*?)</tr>", text)
    return [[unescape(cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row)] for row in rows]


def test_every_figure_of_every_model_is_on_the_page(tmp_path: Path) -> None:
    rows = rows_of(page_of(tmp_path, WHOLE, SHORT, VECTORS))
    assert ["model", *COLUMNS] in rows
    for one in (WHOLE, SHORT, VECTORS):
        assert [one.model, *(figure(one, name) for name in COLUMNS.values())] in rows
    assert next(row for row in rows if row[0] == "chance")[:2] == ["chance", "1.7"]
    assert ["run & co", "12.3 s", "2,000", "8.0 s", "250"] in rows
    assert ["run & co, best 10", "12.3 s", "200", "2.5 s", "80"] in rows
    assert ["<i>other</i>", "12.3 s", "-", "-", "-"] in rows


def test_deviations_over_trials_are_on_the_page(tmp_path: Path) -> None:
    draws = EvalReport(
        "run", "cuhk01", Protocol("single_shot", 10, 3), 5, 5, 0, {1: 0.5}, 0.4, 0.3, 0.2,
        {"rank1": 0.012},
    )  # fmt: skip
    text = page_of(tmp_path, draws)
    assert "50.0 ± 1.2" in next(row for row in rows_of(text) if row[0] == "run")
    assert "single-shot, mean and std of 10 draws, seed 3" in text


def test_the_protocol_and_the_counts_are_on_the_page(tmp_path: Path) -> None:
    text = unescape(page_of(tmp_path, WHOLE))
    assert "Market protocol, single query; 20 queries, 100 gallery images; queries without" in text
    assert "left out of the means: 3" in text
    assert f"reid {__version__}" in text


def test_what_a_shortlist_loses_and_saves_is_on_the_page(tmp_path: Path) -> None:
    rows = rows_of(page_of(tmp_path, WHOLE, SHORT, shortlists=(0, 10)))
    assert ["run & co, best 10", "1.8", "1.8", "90.0%", "5.5 s", "3.2"] in rows


def test_a_shortlist_alone_is_told_how_to_know_its_loss(tmp_path: Path) -> None:
    assert "--shortlist 0" in page_of(tmp_path, SHORT, shortlists=(10,))
    assert "--shortlist" not in page_of(tmp_path, WHOLE, VECTORS, shortlists=(0,))


def test_names_from_outside_are_text_on_the_page(tmp_path: Path) -> None:
    text = page_of(tmp_path, VECTORS, WHOLE)
    assert "&lt;i&gt;other&lt;/i&gt;" in text
    assert "a &lt;b&gt;set&lt;/b&gt;" in text
    assert "<i>" not in text
    assert "<b>" not in text


def test_pictures_are_shown_where_they_lie_beside_the_page(tmp_path: Path) -> None:
    (tmp_path / "ranked.png").touch()
    without = page_of(tmp_path, WHOLE)
    assert re.findall(r'src="(.*?)"', without) == ["ranked.png"]
    assert "What was compared" not in without
    (tmp_path / "similarities.png").touch()
    text = page_of(tmp_path, WHOLE)
    assert re.findall(r'src="(.*?)"', text) == ["ranked.png", "similarities.png"]
    assert all((tmp_path / link).is_file() for link in re.findall(r'href="(.*?)"', text))


def test_report_json_is_what_was_found(tmp_path: Path) -> None:
    found = found_of(WHOLE)
    write_report(tmp_path, found, [WHOLE])
    assert json.loads((tmp_path / "report.json").read_text()) == found


def test_a_disk_that_fills_leaves_the_old_page_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = page_of(tmp_path, WHOLE)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("reid.files.os.fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        page_of(tmp_path, VECTORS)
    assert (tmp_path / "index.html").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "report.json"]


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_vector_network_s_report_has_no_similarities(
    road: Any, road_data: list[str], tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "new" / "report"
    folder.mkdir(parents=True)
    (folder / "similarities.png").write_bytes(b"of another model")
    assert main(["eval", str(road.run), *road_data, "--json", "--report", str(folder)]) == 0
    shown = capsys.readouterr()
    assert files_in(folder) == ["index.html", "ranked.png", "report.json"]
    found = json.loads(shown.out)
    assert json.loads((folder / "report.json").read_text()) == found
    assert found["shortlists"] == []
    assert f"wrote {folder / 'index.html'}" in shown.err
    assert str(road.run) in (folder / "index.html").read_text()


def data_of(people: Path) -> list[str]:
    return ["--data", "synthetic", "--data-root", str(people)]


@pytest.fixture
def csn_run(tmp_path: Path) -> Path:
    """An untrained CSN as a run folder."""
    config = resolve_config("csn_cuhk01", None, ("network.levels=[3]",))
    torch.manual_seed(0)
    network = build_configured_network(config, 3)
    manifest = Manifest("csn", "train", config.preprocess)
    checkpoint = Checkpoint(config, manifest, 3, network.state_dict())
    save_checkpoint(tmp_path / "run" / "checkpoint.pt", checkpoint)
    return tmp_path / "run"


def test_a_run_that_compares_pairs_has_its_similarities_and_its_shortlists_in_the_report(
    csn_run: Path, people: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "report"
    shortlists = ["--shortlist", "0", "--shortlist", "2"]
    words = ["eval", str(csn_run), *data_of(people), *shortlists, "--report", str(folder)]
    assert main(words) == 0
    names = ["index.html", "ranked.png", "report.json", "similarities.png"]
    assert files_in(folder) == names
    found = json.loads((folder / "report.json").read_text())
    (saved,) = found["shortlists"]
    whole, short = found["models"]
    assert saved["pairs_saved"] == 1 - short["num_compared"] / whole["num_compared"]
    assert saved["rank1_lost"] == whole["cmc"]["rank1"] - short["cmc"]["rank1"]
    assert f"{csn_run}, best 2: loses" in capsys.readouterr().out
    assert 'src="similarities.png"' in (folder / "index.html").read_text()


def test_of_an_exported_file_one_line_says_that_parts_are_drawn_of_the_run(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def opened(path: Path, device: str, threads: int, batch_size: int, stage: str) -> PairMatcher:
        return PairMatcher(DescribeRunner(), CompareRunner(), batch_size)

    monkeypatch.setattr(reid.evaluate, "open_matcher", opened)
    model, folder = tmp_path / "csn.describe.fp32.onnx", tmp_path / "report"
    model.touch()
    assert main(["eval", str(model), *data_of(people), "--report", str(folder)]) == 0
    why = f"{model}: attended parts and similarity maps are drawn of the run only"
    assert capsys.readouterr().err.count(why) == 1
    assert files_in(folder) == ["index.html", "ranked.png", "report.json"]
    assert why in (folder / "index.html").read_text()


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_described(
    road: Any, road_data: list[str], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "report"
    assert main(["eval", str(road.run), *road_data, "--report", str(folder)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"cannot write {folder}: a part of the path is a file" in shown.err
    assert "describing" not in shown.err
