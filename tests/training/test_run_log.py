"""The log of a run: each step once, readable as CSV and by TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from reid.training.run_log import RunLog


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write_steps(folder: Path, steps: range, kept: int = 0) -> None:
    with closing(RunLog(folder, ("softmax", "euclidean"), kept_steps=kept)) as log:
        for step in steps:
            values = {"lr": 0.1, "loss": 1 / step, "softmax": 1 / step, "images_per_s": 7.0}
            log.write(step, "first", step / 2, values)


def test_rows_have_every_column_and_a_loss_that_is_off_is_empty(tmp_path: Path) -> None:
    write_steps(tmp_path, range(1, 3))
    first, second = rows_of(tmp_path)
    assert list(first) == [
        "step", "stage", "epoch", "lr", "loss", "softmax", "euclidean", "images_per_s",
    ]  # fmt: skip
    assert (second["step"], second["stage"], second["epoch"]) == ("2", "first", "1.000")
    assert (second["loss"], second["euclidean"]) == ("0.5", "")


def test_resuming_drops_the_rows_after_the_checkpoint(tmp_path: Path) -> None:
    write_steps(tmp_path, range(1, 8))
    write_steps(tmp_path, range(5, 9), kept=4)
    assert [row["step"] for row in rows_of(tmp_path)] == [str(n) for n in range(1, 9)]


def test_starting_anew_drops_all_rows(tmp_path: Path) -> None:
    write_steps(tmp_path, range(1, 8))
    write_steps(tmp_path, range(1, 3))
    assert [row["step"] for row in rows_of(tmp_path)] == ["1", "2"]


def test_tensorboards_event_file_names_each_scalar(tmp_path: Path) -> None:
    write_steps(tmp_path, range(1, 3))
    (events,) = tmp_path.glob("events.out.tfevents.*")
    content = events.read_bytes()
    for tag in (b"train/loss", b"train/softmax", b"train/lr", b"train/images_per_s"):
        assert tag in content


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(lambda row: row.replace(b"first", b"fir\xfft"), id="not UTF-8"),
        pytest.param(lambda row: row.replace(b"first", b"fir\0t"), id="NUL"),
        pytest.param(lambda row: row[: len(row) // 2], id="cut"),
        pytest.param(lambda row: row.replace(b"0.1", b"0.x"), id="no number"),
        pytest.param(lambda row: row.replace(b"2,", b"2" * 5000 + b",", 1), id="a huge step"),
        pytest.param(lambda row: row.replace(b"first", b'"first'), id="an open quote"),
    ],
)
def test_resuming_drops_a_damaged_row_and_counts_it(
    damaged: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    write_steps(tmp_path, range(1, 5))
    log = tmp_path / "log.csv"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[2] = damaged(lines[2].rstrip()) + b"\n"
    log.write_bytes(b"".join(lines))
    with closing(RunLog(tmp_path, ("softmax", "euclidean"), kept_steps=4)) as resumed:
        assert resumed.num_damaged == 1
    assert [row["step"] for row in rows_of(tmp_path)] == ["1", "3", "4"]
