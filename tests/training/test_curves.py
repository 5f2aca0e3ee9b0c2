"""Reading a training log and drawing it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.errors import DataError
from reid.training.curves import curves_picture, read_training_log, write_curves
from reid.types import Image

HEADER = "step,stage,epoch,lr,loss,softmax,drc,images_per_s\n"


def log_of(folder: Path, text: str) -> Path:
    path = folder / "log.csv"
    path.write_text(text, encoding="utf-8")
    return path


def rows(num: int, stage: str, drc: str = "", first: int = 0) -> str:
    return "".join(
        f"{i},{stage},0.1,0.01,{6 - i / num},{5 - i / num},{drc},40\n"
        for i in range(first, first + num)
    )


def num_pixels_of(picture: Image, colour: str) -> int:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return int(np.sum(np.all(picture == (blue, green, red), axis=2)))


def num_vertical_lines(picture: Image) -> int:
    """Columns of pixels of which a good part is not white: axes and marks, no curve."""
    return int(np.sum(np.sum(picture.min(axis=2) < 230, axis=0) > 200))


def test_an_empty_cell_is_nan_and_stages_are_words(tmp_path: Path) -> None:
    log = read_training_log(
        log_of(tmp_path, HEADER + "1,a,0.1,0.01,6,6,,40\n2,b,0.2,0.01,5,4,1,\n")
    )
    assert log.stages == ("a", "b")
    assert log.columns["step"].tolist() == [1, 2]
    assert np.isnan(log.columns["drc"][0])
    assert log.columns["drc"][1] == 1
    assert np.isnan(log.columns["images_per_s"][1])


def test_the_last_of_rows_with_one_step_holds_and_rows_are_in_order(tmp_path: Path) -> None:
    text = "step,loss\n1,9\n3,7\n2,8\n3,6\n"
    log = read_training_log(log_of(tmp_path, text))
    assert log.columns["step"].tolist() == [1, 2, 3]
    assert log.columns["loss"].tolist() == [9, 8, 6]


def test_a_row_cut_short_by_a_killed_run_is_drawn_as_far_as_it_goes(tmp_path: Path) -> None:
    log = read_training_log(log_of(tmp_path, HEADER + rows(3, "stage1") + "3,stage1,0.1"))
    assert log.columns["epoch"].shape == (4,)
    assert np.isnan(log.columns["loss"][3])


def test_only_losses_that_were_on_are_drawn(tmp_path: Path) -> None:
    second_colour = "#d1692c"
    off = curves_picture(log_of(tmp_path, HEADER + rows(20, "stage1")))
    on = curves_picture(log_of(tmp_path, HEADER + rows(20, "stage1", drc="2")))
    assert num_pixels_of(off, second_colour) == 0
    assert num_pixels_of(on, second_colour) > 100


def test_a_new_stage_is_marked(tmp_path: Path) -> None:
    first = HEADER + rows(20, "stage1")
    one = curves_picture(log_of(tmp_path, first + rows(20, "stage1", first=20)))
    two = curves_picture(log_of(tmp_path, first + rows(20, "stage2", first=20)))
    assert num_vertical_lines(two) > num_vertical_lines(one)


@pytest.mark.parametrize(
    "text",
    [
        HEADER,
        HEADER + rows(1, "stage1"),
        "step,loss\n1,2\n2,1\n",
        "step\n1\n",
        HEADER + "1,stage1,0,0,0,0,0,0\n",
    ],
)
def test_a_short_or_poor_log_still_makes_a_picture(text: str, tmp_path: Path) -> None:
    picture = curves_picture(log_of(tmp_path, text))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "columns found: none"),
        ("a,b\n1,2\n", "columns found: a, b"),
        ("step,loss\n1,many\n", "not a number"),
        ("step,loss\nfirst,1\n", "not a number"),
    ],
)
def test_a_file_that_is_no_log_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        read_training_log(log_of(tmp_path, text))


def test_a_missing_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv"):
        read_training_log(tmp_path / "none.csv")


def test_curves_are_written_as_a_png(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("step,stage,epoch,lr,loss,softmax,images_per_s\n1,stage1,0.1,0.1,6,6,40\n")
    write_curves(log, tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")).shape == (770, 1210, 3)
