"""The page of ``reid eval --report``: figures and pictures in one file, never half written."""

from __future__ import annotations

import base64
import dataclasses
import errno
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from reid import __version__
from reid.errors import OutputError
from reid.evaluation.cascade import cascades
from reid.evaluation.differences import differences
from reid.evaluation.tables import COLUMNS, figure
from reid.report.drawing import Picture, png_bytes
from reid.report.eval_page import write_report
from reid.types import CameraPair, EvalReport, Image, Protocol
from tests.report.test_html_page import Page


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
    return {
        "split": "",
        "chance_rank1": 0.017,
        "models": [one.to_json() for one in reports],
        "differences": [one.to_json() for one in differences(reports)],
    }


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
    assert next(row for row in rows if row[0] == "random ranking")[1] == "1.70"
    assert ["run & co", "12.3 s", "2,000", "8.0 s", "250"] in rows
    assert ["run & co, best 10", "12.3 s", "200", "2.5 s", "80"] in rows
    assert ["<i>other</i>", "12.3 s", "-", "-", "-"] in rows


def test_deviations_over_trials_are_on_the_page(tmp_path: Path) -> None:
    draws = EvalReport(
        "run", "cuhk01", Protocol("single_shot", 10, 3), 5, 5, 0, {1: 0.5}, 0.4, 0.3, 0.2,
        {"rank1": 0.012},
    )  # fmt: skip
    text = page_of(tmp_path, draws)
    assert "50.00 ± 1.20" in next(row for row in rows_of(text) if row[0] == "run")
    assert "mean and std of 10 draws, seed 3" in text


def test_the_protocol_and_the_counts_are_on_the_page(tmp_path: Path) -> None:
    text = unescape(page_of(tmp_path, WHOLE))
    assert "Market protocol, single query; 20 queries, 100 gallery images; queries without" in text
    assert "excluded from the means: 3" in text
    assert f"reid {__version__}" in text


def test_what_a_shortlist_loses_and_saves_is_on_the_page(tmp_path: Path) -> None:
    rows = rows_of(page_of(tmp_path, WHOLE, SHORT, shortlists=(0, 10)))
    assert ["run & co, best 10", "1.80", "1.80", "90.0%", "5.5 s", "3.2"] in rows


def test_a_shortlist_alone_says_how_to_know_its_loss(tmp_path: Path) -> None:
    assert "--shortlist 0" in page_of(tmp_path, SHORT, shortlists=(10,))
    assert "--shortlist" not in page_of(tmp_path, WHOLE, VECTORS, shortlists=(0,))


def test_names_from_outside_are_text_on_the_page(tmp_path: Path) -> None:
    text = page_of(tmp_path, VECTORS, WHOLE)
    assert "&lt;i&gt;other&lt;/i&gt;" in text
    assert "a &lt;b&gt;set&lt;/b&gt;" in text
    assert "<i>" not in text
    assert "<b>" not in text


def test_verification_and_re_ranking_are_on_the_page(tmp_path: Path) -> None:
    tpr = {0.01: 0.876, 0.001: 0.5, 0.0001: None}
    limits = {0.01: 0.91234, 0.001: 0.5, 0.0001: None}
    again = dataclasses.replace(
        WHOLE,
        tpr=tpr,
        distance_at=limits,
        unit_vectors=True,
        reranking="k1 3, k2 2, lambda 0.3",
    )
    text = page_of(tmp_path, again)
    rows = rows_of(text)
    head = ["model", "false positive rate", "true positive rate, %", "distance at most", "cosine"]
    first = rows.index(head) + 1
    assert rows[first : first + 3] == [
        ["run & co", "0.01", "87.60", "0.9123", "0.5838"],
        ["run & co", "0.001", "50.00", "0.5000", "0.8750"],
        ["run & co", "0.0001", "-", "-", "-"],
    ]
    assert again.to_json()["distance_at_fpr"] == {"0.01": 0.91234, "0.001": 0.5, "0.0001": None}
    assert "Re-ranked: k1 3, k2 2, lambda 0.3." in Page(text).words
    assert "The same person or not" not in page_of(tmp_path, WHOLE)


def test_pairs_of_cameras_are_on_the_page(tmp_path: Path) -> None:
    pairs = (CameraPair(1, 2, 1500, 0.5, 0.41, 0.4), CameraPair(2, 1, 7, 1.0, 0.9, 0.8))
    text = page_of(tmp_path, dataclasses.replace(WHOLE, camera_pairs=pairs), VECTORS)
    rows = rows_of(text)
    assert ["1, 2", "1,500", "50.00", "41.00", "40.00"] in rows
    assert ["2, 1", "7", "100.00", "90.00", "80.00"] in rows
    assert Page(text).tags.count("details") == 1


def test_the_papers_figures_stand_beside_the_measured_ones_or_it_says_why_not(
    tmp_path: Path,
) -> None:
    shown = {"rank1": "81.9", "map_step": "63.60"}
    row = {"method": "Theirs", "source": "a paper, table 1", "percent": shown}
    beside = {"refused": "", "note": "single query", "rows": [row]}
    path = write_report(tmp_path, {**found_of(WHOLE), "published": beside}, [WHOLE])
    assert ["Theirs", "81.9", "-", "-", "-", "63.60", "-", "-"] in rows_of(path.read_text())
    assert "a paper, table 1" in Page(path.read_text()).words
    refused = {"refused": "another protocol", "note": "", "rows": []}
    path = write_report(tmp_path, {**found_of(WHOLE), "published": refused}, [WHOLE])
    assert "Not comparable: another protocol." in Page(path.read_text()).words
    assert "Published results" not in page_of(tmp_path, WHOLE)


def test_the_papers_figures_of_the_very_test_are_on_the_page_unasked(tmp_path: Path) -> None:
    market = dataclasses.replace(
        WHOLE, dataset="market1501", num_identities=750, num_query=3368, num_gallery=19732
    )
    rows = rows_of(page_of(tmp_path, market))
    assert ["SiSNet, S+T", "94.8", "-", "-", "-", "84.7", "-", "-"] in rows


def test_a_path_is_on_the_page_once_and_warnings_are_beside_the_results(tmp_path: Path) -> None:
    one = dataclasses.replace(
        WHOLE, model="/data/runs/market", short_name="market", num_trained_on=7, warnings=("so",)
    )
    other = dataclasses.replace(VECTORS, model="/data/b.onnx", short_name="b.onnx")
    text = page_of(tmp_path, one, other)
    rows = rows_of(text)
    assert text.count("/data/runs/market") == 1
    assert ["market", "/data/runs/market"] in rows
    assert ["b.onnx", *["+9.00"] * 7] in rows
    words = Page(text).words
    assert "compared with market." in words
    assert "market was trained on 7 of the test images" in words
    assert "warning: so" in words


NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
CHART = np.zeros((40, 300, 3), np.uint8)
PICTURES = [
    Picture("grey.png", "Grey & more", "It says nothing.", CHART + np.uint8(9)),
    Picture("chart.png", "A chart", "It is <black>.", CHART),
]


def decoded(source: str) -> tuple[str, Image]:
    """Media type and pixels of a data URI."""
    media_type, _, data = source.removeprefix("data:").partition(";base64,")
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    return media_type, np.asarray(image, np.uint8)


def test_the_page_holds_its_pictures_and_needs_nothing_beside_it(tmp_path: Path) -> None:
    path = write_report(tmp_path, found_of(WHOLE), [WHOLE], pictures=PICTURES)
    read = Page(path.read_text())
    assert read.outside() == []
    for source, picture in zip(read.images, PICTURES, strict=True):
        kind, shown = decoded(source)
        assert kind == "image/png"
        assert np.array_equal(shown, picture.image)
    assert "Grey & more" in read.headings
    assert "A chart" in read.headings
    assert "It is <black>." in read.words
    assert "report.json, grey.png, chart.png" in read.words


def test_a_photograph_is_smaller_on_the_page_than_its_png(tmp_path: Path) -> None:
    photograph = cv2.GaussianBlur(cv2.resize(NOISE, (600, 900)), (0, 0), 3).astype(np.uint8)
    picture = Picture("photo.png", "Photo", "Blurred.", photograph)
    path = write_report(tmp_path, found_of(WHOLE), [WHOLE], pictures=[picture])
    kind, shown = decoded(Page(path.read_text()).images[0])
    assert kind == "image/jpeg"
    assert np.abs(shown.astype(int) - photograph).mean() < 3
    assert path.stat().st_size < len(png_bytes(photograph))


def test_the_contents_name_every_section(tmp_path: Path) -> None:
    found = {**found_of(WHOLE, VECTORS), "map_consistency": [CONSISTENT]}
    path = write_report(
        tmp_path, found, [WHOLE, VECTORS], pictures=PICTURES, not_drawn=["a run: a & b"]
    )
    read = Page(path.read_text())
    assert read.headings == [
        "Retrieval",
        "Differences",
        "Consistency of the two scales",
        "Grey & more",
        "A chart",
        "Not drawn",
        "Time",
    ]
    assert read.references[:7] == [f"#{name}" for name in read.ids]
    assert "a run: a & b" in read.words


CONSISTENT = {
    "model": "<sis>",
    "mean_correlation": 0.81239,
    "num_images": 1234,
    "num_flat": 2,
    "class": "the class of people",
}


def test_the_consistency_of_the_two_scales_is_on_the_page_with_the_class(tmp_path: Path) -> None:
    flat = {**CONSISTENT, "model": "flat", "mean_correlation": None, "num_images": 0}
    found = {**found_of(WHOLE), "map_consistency": [CONSISTENT, flat]}
    text = write_report(tmp_path, found, [WHOLE]).read_text()
    assert ["<sis>", "0.812", "1,234", "2"] in rows_of(text)
    assert ["flat", "-", "0", "2"] in rows_of(text)
    assert "the class of people" in Page(text).words


def test_every_other_model_stands_against_the_first(tmp_path: Path) -> None:
    rows = rows_of(page_of(tmp_path, WHOLE, SHORT, VECTORS))
    assert ["run & co, best 10", *["-1.80"] * 7] in rows
    assert ["<i>other</i>", *["+9.00"] * 7] in rows
    assert ["run & co", *["0.00"] * 7] in rows_of(page_of(tmp_path, WHOLE, WHOLE))
    assert "Differences" not in page_of(tmp_path, WHOLE)


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
